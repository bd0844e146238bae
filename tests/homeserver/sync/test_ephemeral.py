import asyncio
from typing import Any

import pytest

from identity_server.homeserver.presence.store import status_of
from identity_server.runtime.clock import FakeClock
from tests.homeserver.sync.conftest import Meet, Person, Syncing


@pytest.fixture
async def room_id(alice: Person, bob: Person) -> str:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    return room_id


async def receipts(client: Syncing, room_id: str) -> list[Any]:
    joined = (await client.sync()).get("rooms", {}).get("join", {})
    ephemeral = joined.get(room_id, {}).get("ephemeral", {}).get("events", [])
    return [event["content"] for event in ephemeral if event["type"] == "m.receipt"]


async def test_receipts_are_shown_to_others_unless_they_are_private(
    alice: Person, bob: Person, room_id: str, clock: FakeClock
) -> None:
    first, second = await alice.say(room_id, "one"), await alice.say(room_id, "two")
    alices, bobs = Syncing(alice), Syncing(bob)
    await alices.sync()
    await bobs.sync()
    await bob.do("POST", f"/rooms/{room_id}/receipt/m.read/{first}", {})
    expected = {first: {"m.read": {bob.user_id: {"ts": clock.now_ms()}}}}
    assert await receipts(alices, room_id) == [expected]
    assert await receipts(bobs, room_id) == [expected]
    assert await receipts(alices, room_id) == []
    await bob.do("POST", f"/rooms/{room_id}/receipt/m.read.private/{second}", {})
    assert await receipts(alices, room_id) == []
    assert await receipts(bobs, room_id) == [{second: {"m.read.private": {bob.user_id: {"ts": clock.now_ms()}}}}]
    assert await receipts(Syncing(alice), room_id) == [expected]
    await bob.do("POST", f"/rooms/{room_id}/receipt/m.read/{second}", {"thread_id": "main"})
    threaded = {second: {"m.read": {bob.user_id: {"ts": clock.now_ms(), "thread_id": "main"}}}}
    assert await receipts(alices, room_id) == [threaded]
    assert await receipts(Syncing(alice), room_id) == [expected, threaded]


async def test_markers_only_go_forwards(alice: Person, room_id: str) -> None:
    first, second = await alice.say(room_id, "one"), await alice.say(room_id, "two")
    client = Syncing(alice)
    await client.sync()
    await alice.do("POST", f"/rooms/{room_id}/read_markers", {"m.fully_read": second, "m.read": second})
    room = await client.room(room_id)
    assert room["account_data"]["events"] == [{"type": "m.fully_read", "content": {"event_id": second}}]
    assert [event["type"] for event in room["ephemeral"]["events"]] == ["m.receipt"]
    await alice.do("POST", f"/rooms/{room_id}/receipt/m.fully_read/{first}")
    await alice.do("POST", f"/rooms/{room_id}/receipt/m.read/{first}")
    assert "rooms" not in await client.sync()
    path = f"/user/{alice.user_id}/rooms/{room_id}/account_data/m.fully_read"
    assert await alice.do("GET", path) == {"event_id": second}


async def test_receipts_that_cannot_be_are_refused(alice: Person, bob: Person, meet: Meet, room_id: str) -> None:
    event_id = await alice.say(room_id, "one")
    carol = await meet("carol")
    receipt = f"/rooms/{room_id}/receipt"
    assert (await carol.ask("POST", f"{receipt}/m.read/{event_id}", {})).status_code == 403
    assert (await bob.ask("POST", f"{receipt}/m.odd/{event_id}", {})).status_code == 400
    assert (await bob.ask("POST", f"{receipt}/m.read/$unknown", {})).status_code == 404
    for thread_id in ("", 5, None, "$other"):
        answer = await bob.ask("POST", f"{receipt}/m.read/{event_id}", {"thread_id": thread_id})
        assert (answer.status_code, answer.json()["errcode"]) == (400, "M_INVALID_PARAM")
    assert (await bob.ask("POST", f"{receipt}/m.fully_read/{event_id}", {"thread_id": "main"})).status_code == 400


async def test_typing_wakes_and_ends(alice: Person, bob: Person, room_id: str) -> None:
    client = Syncing(bob)
    await client.sync()

    async def typing(**params: Any) -> list[str]:
        room = await client.room(room_id, **params)
        [event] = room["ephemeral"]["events"]
        assert event["type"] == "m.typing"
        return event["content"]["user_ids"]

    waiting = asyncio.create_task(typing(timeout=10_000))
    await asyncio.sleep(0.05)
    path = f"/rooms/{room_id}/typing/{alice.user_id}"
    await alice.do("PUT", path, {"typing": True, "timeout": 300})
    assert await asyncio.wait_for(waiting, 5) == [alice.user_id]
    assert await Syncing(bob).room(room_id)
    assert await typing(timeout=10_000) == []
    await alice.do("PUT", path, {"typing": True})
    assert await typing() == [alice.user_id]
    await alice.do("PUT", path, {"typing": False})
    assert await typing() == []
    assert (await bob.ask("PUT", path, {"typing": True})).status_code == 403
    assert (await alice.ask("PUT", path, {})).status_code == 400


async def test_presence_follows_syncing_and_is_told_to_who_shares_a_room(
    alice: Person, bob: Person, meet: Meet, room_id: str, clock: FakeClock, state: dict[str, Any]
) -> None:
    carol = await meet("carol")
    [own] = (await Syncing(carol).sync())["presence"]["events"]
    assert (own["sender"], own["content"]["presence"]) == (carol.user_id, "online")
    client = Syncing(bob)
    await client.sync()

    async def presence() -> dict[str, Any]:
        events = (await client.sync()).get("presence", {"events": []})["events"]
        return {event["sender"]: event["content"] for event in events}

    await presence()
    await Syncing(alice).sync()
    assert (await presence())[alice.user_id] == {"presence": "online", "last_active_ago": 0, "currently_active": True}
    await Syncing(alice).sync(set_presence="unavailable")
    assert (await presence())[alice.user_id]["presence"] == "unavailable"
    await alice.do("PUT", f"/presence/{alice.user_id}/status", {"presence": "online", "status_msg": "tea"})
    told = (await presence())[alice.user_id]
    assert (told["presence"], told["status_msg"]) == ("online", "tea")
    path = f"/presence/{alice.user_id}/status"
    assert (await bob.do("GET", path))["status_msg"] == "tea"
    assert (await carol.ask("GET", path)).status_code == 403
    assert (await bob.ask("PUT", path, {"presence": "online"})).status_code == 403
    assert (await alice.ask("PUT", path, {"presence": "asleep"})).status_code == 400
    clock.advance(seconds=60)
    await state["attendance"].look()
    assert (await presence())[alice.user_id]["presence"] == "offline"
    await Syncing(alice).sync(set_presence="offline")
    assert alice.user_id not in await presence()


async def test_nothing_is_left_of_the_presence_of_who_wants_to_be_erased(
    alice: Person, bob: Person, room_id: str, clock: FakeClock, state: dict[str, Any]
) -> None:
    await Syncing(alice).sync()
    await alice.do("PUT", f"/presence/{alice.user_id}/status", {"presence": "online", "status_msg": "tea"})
    password = {"type": "m.login.password", "password": "correct horse"}
    await alice.do("POST", "/account/deactivate", {"auth": password, "erase": True})
    clock.advance(seconds=60)
    await state["attendance"].look()
    async with state["resources"].database.reading() as session:
        assert await status_of(session, alice.user_id) is None
