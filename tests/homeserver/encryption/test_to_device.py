from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from httpx import AsyncClient
from sqlalchemy import select

from identity_server.homeserver.encryption import for_sync
from identity_server.homeserver.encryption.incoming import incoming_edus
from identity_server.homeserver.federation.models import OutgoingEdu
from identity_server.homeserver.streams import current_position
from identity_server.matrix.errors import MatrixError
from identity_server.runtime.clock import FakeClock
from tests.homeserver.conftest import Register
from tests.homeserver.encryption.phones import Phone, phone

PATH = "/sendToDevice/m.test/"


async def waiting(state: Mapping[str, Any], of: Phone, since: int = 0, limit: int = 100) -> tuple[list[Any], int]:
    async with state["resources"].database.reading() as session:
        upto = await current_position(session)
        return await for_sync.to_device_messages(session, of.user_id, of.device_id, since, upto, limit)


async def outgoing(state: Mapping[str, Any], edu_type: str) -> list[tuple[str, Any]]:
    async with state["resources"].database.reading() as session:
        rows = await session.scalars(
            select(OutgoingEdu).where(OutgoingEdu.edu_type == edu_type).order_by(OutgoingEdu.edu_id)
        )
        return [(row.server_name, orjson.loads(row.content)) for row in rows]


def message(sender: Phone | str, content: Any, event_type: str = "m.test") -> dict[str, Any]:
    return {"type": event_type, "sender": getattr(sender, "user_id", sender), "content": content}


async def test_messages_wait_for_their_devices_in_order_until_they_are_seen(
    client: AsyncClient, register: Register, state: dict[str, Any]
) -> None:
    alice, bob = await phone(client, register), await phone(client, register, "bob")
    laptop = await alice.sign_in("LAPTOP")
    to_all = {"messages": {alice.user_id: {"*": {"n": 1}, "LAPTOP": {"n": 2}, "GONE": {}}, "@no:hs.test": {"*": {}}}}
    for _ in range(2):  # the answer was lost
        assert await bob.ok("PUT", PATH + "1", to_all) == {}
    await bob.ok("PUT", PATH + "2", {"messages": {alice.user_id: {"PHONE": {"n": 3, "half": 0.5}}}})
    # Another type, another device of the sender: other requests.
    await bob.ok("PUT", "/sendToDevice/m.other/1", {"messages": {alice.user_id: {"PHONE": {"n": 4}}}})
    await laptop.ok("PUT", PATH + "1", {"messages": {alice.user_id: {"PHONE": {"n": 5}}}})

    for_phone, upto = await waiting(state, alice)
    assert for_phone == [
        message(bob, {"n": 1}),
        message(bob, {"n": 3, "half": 0.5}),
        message(bob, {"n": 4}, "m.other"),
        message(alice, {"n": 5}),
    ]
    assert (await waiting(state, laptop))[0] == [message(bob, {"n": 2})]

    first, reached = await waiting(state, alice, limit=3)
    assert first == for_phone[:3]
    assert (await waiting(state, alice, since=reached, limit=3)) == (for_phone[3:], upto)
    async with state["resources"].database.transaction() as session:
        await for_sync.forget_delivered(session, alice.user_id, "PHONE", reached)
    assert (await waiting(state, alice))[0] == for_phone[3:]
    await alice.ok("POST", "/logout")
    assert (await waiting(state, alice))[0] == []
    assert (await waiting(state, laptop))[0] == [message(bob, {"n": 2})]


async def test_messages_that_cannot_be_are_refused_and_none_of_their_request_is_sent(
    client: AsyncClient, register: Register, state: dict[str, Any]
) -> None:
    alice = await phone(client, register)
    good = {"PHONE": {"n": 1}}
    for wrong, status in (
        ({}, 400),
        ({"messages": []}, 400),
        ({"messages": {alice.user_id: good, "alice": good}}, 400),
        ({"messages": {alice.user_id: {"PHONE": "text"}}}, 400),
        ({"messages": {alice.user_id: {"PHONE": {"n": 1}, "A\0": {}}}}, 400),
        ({"messages": {alice.user_id: good, "@bob:other.test": {"*": {"half": 0.5}}}}, 400),
        ({"messages": {alice.user_id: good, "@bob:other.test": {"*": {"text": "x" * 70_000}}}}, 413),
    ):
        assert (await alice.ask("PUT", PATH + "1", wrong)).status_code == status, wrong
    assert (await alice.ask("PUT", "/sendToDevice/m.t%00/1", {"messages": {}})).status_code == 400
    assert (await waiting(state, alice))[0] == []
    await alice.ok("PUT", PATH + "1", {"messages": {alice.user_id: {"PHONE": {"text": "\0"}}}})
    assert (await waiting(state, alice))[0] == [message(alice, {"text": "\0"})]


async def test_users_elsewhere_are_sent_messages_through_their_servers(
    client: AsyncClient, register: Register, state: dict[str, Any]
) -> None:
    alice = await phone(client, register)
    large = {"text": "x" * 40_000}
    messages = {
        "@bob:other.test": {"*": large, "B": large},
        "@carol:other.test": {"C": {"n": 1}},
        "@dave:third.test": {"D": {"n": 2}},
    }
    for _ in range(2):
        await alice.ok("PUT", PATH + "1", {"messages": messages})
    told = await outgoing(state, "m.direct_to_device")
    ids = {content.pop("message_id") for _, content in told}
    assert len(ids) == 3
    assert all(0 < len(message_id) <= 32 for message_id in ids)
    head = {"sender": alice.user_id, "type": "m.test"}
    assert sorted(told, key=repr) == sorted(
        [
            ("other.test", {**head, "messages": {"@bob:other.test": {"*": large}}}),
            (
                "other.test",
                {**head, "messages": {"@bob:other.test": {"B": large}, "@carol:other.test": {"C": {"n": 1}}}},
            ),
            ("third.test", {**head, "messages": {"@dave:third.test": {"D": {"n": 2}}}}),
        ],
        key=repr,
    )


async def test_messages_of_other_servers_are_delivered_once(
    client: AsyncClient, register: Register, state: dict[str, Any], clock: FakeClock
) -> None:
    alice = await phone(client, register)
    handle = incoming_edus(state["streams"], clock, server_name="hs.test")["m.direct_to_device"]
    edu: dict[str, Any] = {
        "sender": "@bob:other.test",
        "type": "m.test",
        "message_id": "1",
        "messages": {alice.user_id: {"*": {"n": 1}}, "@bob:other.test": {"*": {}}, "?": {}, "@no:hs.test": {"A": 1}},
    }
    for content in (edu, edu, {**edu, "message_id": "2"}):
        async with state["resources"].database.transaction() as session:
            await handle(session, "other.test", content)
    for origin, wrong in (
        ("third.test", edu),
        ("other.test", {**edu, "message_id": None}),
        ("other.test", {**edu, "message_id": "3" * 300}),
        ("other.test", {**edu, "message_id": "4", "type": "a\0b"}),
        ("other.test", {**edu, "message_id": "5", "messages": []}),
    ):
        with pytest.raises(MatrixError):
            async with state["resources"].database.transaction() as session:
                await handle(session, origin, wrong)
    assert (await waiting(state, alice))[0] == [message("@bob:other.test", {"n": 1})] * 2
