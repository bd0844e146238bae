from typing import Any

import orjson
import pytest
from httpx import AsyncClient
from sqlalchemy import select

from identity_server.homeserver.threepids import store
from identity_server.homeserver.threepids.models import PendingThreepidInvite
from tests.homeserver.conftest import Register

ONBIND = "/_matrix/federation/v1/3pid/onbind"
ALICE = "@alice:hs.test"


def invite(token: str = "abc123", mxid: str = ALICE, **more: Any) -> dict[str, Any]:
    signatures = {"is.test": {"ed25519:0": "c2lnbmF0dXJl"}}
    return {
        "medium": "email",
        "address": "alice@example.org",
        "mxid": mxid,
        "room_id": "!room:other.test",
        "sender": "@bob:other.test",
        "signed": {"mxid": mxid, "token": token, "signatures": signatures},
        **more,
    }


def notice(*invites: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"medium": "email", "address": "Alice@example.org", "mxid": ALICE, "invites": list(invites), **more}


@pytest.fixture
def kept(state: dict[str, Any]) -> Any:
    async def kept() -> tuple[list[tuple[str, str]], list[tuple[str, str, dict[str, Any]]]]:
        async with state["resources"].database.reading() as session:
            bindings = [(row.medium, row.address) for row in await store.bindings_of(session, ALICE)]
            invites = [
                (row.room_id, row.sender, orjson.loads(row.signed))
                for row in await session.scalars(
                    select(PendingThreepidInvite).where(PendingThreepidInvite.user_id == ALICE)
                )
            ]
        return bindings, invites

    return kept


async def test_a_binding_and_its_invites_are_kept_once_by_either_method(
    client: AsyncClient, register: Register, kept: Any
) -> None:
    await register("alice")
    told = notice(invite(), invite("def456"))
    for method in ("PUT", "POST", "POST"):
        answer = await client.request(method, ONBIND, json=told)
        assert (answer.status_code, answer.json()) == (200, {})
    bindings, invites = await kept()
    assert bindings == [("email", "alice@example.org")]
    assert sorted(invites, key=lambda kept: kept[2]["token"]) == [
        ("!room:other.test", "@bob:other.test", invite()["signed"]),
        ("!room:other.test", "@bob:other.test", invite("def456")["signed"]),
    ]


async def test_a_forged_invite_does_not_displace_the_true_one(
    client: AsyncClient, register: Register, kept: Any
) -> None:
    await register("alice")
    forged = invite()
    forged["signed"] = {**forged["signed"], "signatures": {}}
    await client.post(ONBIND, json=notice(forged))
    await client.post(ONBIND, json=notice(invite()))
    assert len((await kept())[1]) == 2


async def test_a_user_who_is_not_ours_is_refused(client: AsyncClient, register: Register) -> None:
    await register("alice")
    for mxid in ("@bob:hs.test", "@alice:elsewhere.test"):
        answer = await client.post(ONBIND, json=notice(mxid=mxid))
        assert (answer.status_code, answer.json()["errcode"]) == (403, "M_FORBIDDEN")


async def test_nonsense_is_refused_and_nothing_kept(client: AsyncClient, register: Register, kept: Any) -> None:
    await register("alice")
    for told, errcode in (
        ({}, "M_MISSING_PARAM"),
        (notice(invite(mxid="@bob:hs.test")), "M_INVALID_PARAM"),
        (notice(invite(room_id="room")), "M_INVALID_PARAM"),
        (notice(invite(signed={"mxid": ALICE, "token": "a/b", "signatures": {}})), "M_INVALID_PARAM"),
        (notice(invite(signed={"mxid": ALICE})), "M_MISSING_PARAM"),
        (notice({"signed": 1}), "M_MISSING_PARAM"),
        (notice(address="nobody"), "M_INVALID_EMAIL"),
        (notice(medium="io.identity_server.x", address="a\0b"), "M_INVALID_PARAM"),
        (notice(medium="io.identity_server.x", address="x" * 256), "M_INVALID_PARAM"),
        (notice(mxid="alice"), "M_INVALID_PARAM"),
        (notice(invites={}), "M_INVALID_PARAM"),
    ):
        answer = await client.post(ONBIND, json=told)
        assert (answer.status_code, answer.json()["errcode"]) == (400, errcode), told
    assert await kept() == ([], [])
