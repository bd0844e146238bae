from typing import Any

import pytest

from tests.homeserver.sync.conftest import Meet, Person, Syncing

THREADS = {"room": {"timeline": {"unread_thread_notifications": True}}}


@pytest.fixture
async def room_id(alice: Person, bob: Person, meet: Meet) -> str:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await (await meet("carol")).join(room_id)
    return room_id


def counts(room: Any) -> tuple[int, int]:
    unread = room["unread_notifications"]
    return unread["notification_count"], unread["highlight_count"]


async def test_what_was_not_read_is_counted_until_it_is(alice: Person, bob: Person, room_id: str) -> None:
    client = Syncing(bob)
    assert counts(await client.room(room_id)) == (0, 0)
    await alice.say(room_id, "one")
    assert counts(await client.room(room_id)) == (1, 0)
    await alice.say(room_id, "notice", msgtype="m.notice")
    mentioned = await alice.say(room_id, "bob!", **{"m.mentions": {"user_ids": [bob.user_id]}})
    assert counts(await client.room(room_id)) == (2, 1)
    last = await alice.say(room_id, "two")
    assert counts(await Syncing(bob).room(room_id)) == (3, 1)
    await bob.do("POST", f"/rooms/{room_id}/receipt/m.read/{mentioned}", {})
    assert counts(await client.room(room_id)) == (1, 0)
    await bob.do("POST", f"/rooms/{room_id}/receipt/m.read.private/{last}", {})
    assert counts(await client.room(room_id)) == (0, 0)
    await alice.say(room_id, "three")
    await bob.say(room_id, "whoever writes has read")
    assert counts(await client.room(room_id)) == (0, 0)


async def test_each_thread_is_counted_by_itself_for_who_asks(alice: Person, bob: Person, room_id: str) -> None:
    root = await alice.say(room_id, "root")
    client = Syncing(bob, filter=THREADS)
    await client.sync()
    in_thread = {"m.relates_to": {"rel_type": "m.thread", "event_id": root}}
    await alice.say(room_id, "in the thread", **in_thread)
    last = await alice.say(room_id, "and again", **in_thread)
    room = await client.room(room_id)
    assert counts(room) == (1, 0)
    assert room["unread_thread_notifications"] == {root: {"notification_count": 2, "highlight_count": 0}}
    assert counts(await Syncing(bob).room(room_id)) == (3, 0)
    await bob.do("POST", f"/rooms/{room_id}/receipt/m.read/{last}", {"thread_id": root})
    room = await client.room(room_id)
    assert counts(room) == (1, 0)
    assert "unread_thread_notifications" not in room
    await bob.do("POST", f"/rooms/{room_id}/receipt/m.read/{root}", {"thread_id": "main"})
    assert counts(await client.room(room_id)) == (0, 0)
    # What relates to the root otherwise is in the main timeline, and yet one can have read the thread up to there.
    await alice.say(room_id, "once more", **in_thread)
    reference = await alice.say(room_id, "aside", **{"m.relates_to": {"rel_type": "m.reference", "event_id": root}})
    assert counts(await Syncing(bob).room(room_id)) == (2, 0)
    await bob.do("POST", f"/rooms/{room_id}/receipt/m.read/{reference}", {"thread_id": root})
    room = await client.room(room_id)
    assert counts(room) == (1, 0)
    assert "unread_thread_notifications" not in room
    not_in_main = await bob.ask("POST", f"/rooms/{room_id}/receipt/m.read/{last}", {"thread_id": "main"})
    assert (not_in_main.status_code, not_in_main.json()["errcode"]) == (400, "M_INVALID_PARAM")


async def test_rules_decide_what_counts(alice: Person, bob: Person, room_id: str) -> None:
    client = Syncing(bob)
    await client.sync()
    rules = "/pushrules/global"
    await bob.do("PUT", f"{rules}/room/{room_id}", {"actions": []})
    word = {"pattern": "tea*", "actions": ["notify", {"set_tweak": "highlight"}]}
    await bob.do("PUT", f"{rules}/content/tea", word)
    answer = await client.sync()
    assert [event["type"] for event in answer["account_data"]["events"]] == ["m.push_rules"]
    assert answer["account_data"]["events"][0]["content"] == await bob.do("GET", "/pushrules/")
    await alice.say(room_id, "nothing")
    await alice.say(room_id, "Time for Teapots")
    assert counts(await client.room(room_id)) == (1, 1)
    await bob.do("PUT", f"{rules}/override/.m.rule.master/enabled", {"enabled": True})
    await alice.say(room_id, "tea")
    assert counts(await client.room(room_id)) == (0, 0)
