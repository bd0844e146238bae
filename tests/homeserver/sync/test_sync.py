import asyncio
import time
from typing import Any

from tests.homeserver.sync.conftest import Meet, Person, Syncing


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def bodies(section: dict[str, Any]) -> list[str]:
    return [
        event["content"].get("body") for event in section["timeline"]["events"] if event["type"] == "m.room.message"
    ]


async def test_a_client_sees_a_room_begin_and_go_on(alice: Person) -> None:
    room_id = await alice.create_room(name="Tea")
    client = Syncing(alice)
    first = await client.room(room_id)
    assert types(first["timeline"]["events"])[:2] == ["m.room.create", "m.room.member"]
    assert first["state"]["events"] == []
    assert first["timeline"]["limited"] is False
    assert first["summary"] == {"m.joined_member_count": 1, "m.invited_member_count": 0}
    assert "room_id" not in first["timeline"]["events"][0]
    began = await alice.do("GET", f"/rooms/{room_id}/members", at=first["timeline"]["prev_batch"])
    assert [member["state_key"] for member in began["chunk"]] == [alice.user_id]
    event_id = await alice.say(room_id, "hello")
    second = await client.room(room_id)
    assert [event["event_id"] for event in second["timeline"]["events"]] == [event_id]
    assert second["timeline"]["events"][0]["unsigned"]["transaction_id"] == "0"
    assert second["timeline"]["events"][0]["unsigned"]["membership"] == "join"
    assert second["state"]["events"] == []
    third = await client.sync()
    assert "rooms" not in third
    assert third["device_one_time_keys_count"] == {"signed_curve25519": 0}
    assert third["device_unused_fallback_key_types"] == []


async def test_a_gap_is_bridged_by_state_and_closed_by_messages(alice: Person) -> None:
    room_id = await alice.create_room(name="Tea")
    client = Syncing(alice, filter={"room": {"timeline": {"limit": 2}}})
    first = await client.room(room_id)
    assert first["timeline"]["limited"]
    assert len(first["timeline"]["events"]) == 2
    assert "m.room.create" in types(first["state"]["events"])
    since = client.since
    missed = [await alice.put_state(room_id, "m.room.topic", {"topic": "missed"})]
    missed += [await alice.say(room_id, f"missed {number}") for number in range(3)]
    await alice.put_state(room_id, "m.room.name", {"name": "Coffee"})
    await alice.say(room_id, "last")
    second = await client.room(room_id)
    assert types(second["timeline"]["events"]) == ["m.room.name", "m.room.message"]
    assert [event["content"] for event in second["state"]["events"]] == [{"topic": "missed"}]
    page = await alice.messages(room_id, **{"from": second["timeline"]["prev_batch"], "to": since, "limit": 100})
    assert [event["event_id"] for event in page["chunk"]] == missed[::-1]


async def test_with_use_state_after_the_state_is_that_at_the_end(alice: Person) -> None:
    room_id = await alice.create_room(name="Tea")
    client = Syncing(alice, use_state_after="true")
    first = await client.room(room_id)
    assert "state" not in first
    assert "m.room.create" in types(first["state_after"]["events"])
    await alice.put_state(room_id, "m.room.name", {"name": "Coffee"})
    second = await client.room(room_id)
    assert types(second["state_after"]["events"]) == types(second["timeline"]["events"]) == ["m.room.name"]
    await alice.say(room_id, "hello")
    assert (await client.room(room_id))["state_after"] == {"events": []}


async def test_a_waiting_client_is_answered_as_soon_as_something_happens(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room(preset="public_chat")
    client = Syncing(bob)
    await client.sync()
    waiting = asyncio.create_task(client.sync(timeout=20_000))
    await asyncio.sleep(0.1)
    await bob.join(room_id)
    assert room_id in (await asyncio.wait_for(waiting, 5))["rooms"]["join"]
    waiting = asyncio.create_task(client.sync(timeout=20_000))
    await asyncio.sleep(0.1)
    await alice.say(room_id, "hello")
    began = time.monotonic()
    assert bodies((await asyncio.wait_for(waiting, 5))["rooms"]["join"][room_id]) == ["hello"]
    assert time.monotonic() - began < 1
    began = time.monotonic()
    assert "rooms" not in await client.sync(timeout=200)
    assert 0.15 < time.monotonic() - began < 3


async def test_invitations_come_with_what_may_be_known_of_the_room(alice: Person, bob: Person) -> None:
    client = Syncing(bob)
    await client.sync()
    room_id = await alice.create_room(name="Tea", invite=[bob.user_id])
    events = (await client.room(room_id, "invite"))["invite_state"]["events"]
    by_type = {event["type"]: event for event in events if event["type"] != "m.room.member"}
    assert by_type["m.room.name"]["content"] == {"name": "Tea"}
    assert "m.room.create" in by_type
    own = [event for event in events if event.get("state_key") == bob.user_id]
    assert own[0]["content"]["membership"] == "invite"
    assert all(event.keys() <= {"type", "state_key", "sender", "content"} for event in events)
    assert "rooms" not in await client.sync()
    assert room_id in (await Syncing(bob).sync())["rooms"]["invite"]
    await bob.do("POST", f"/rooms/{room_id}/leave", {})
    left = await client.room(room_id, "leave")
    assert left["timeline"]["events"][-1]["content"]["membership"] == "leave"
    assert left["state"]["events"] == []
    assert "rooms" not in await Syncing(bob).sync()


async def test_who_comes_into_a_room_is_told_all_of_it(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room(preset="public_chat", name="Tea")
    await alice.say(room_id, "before")
    client = Syncing(bob)
    await client.sync()
    await bob.join(room_id)
    joined = await client.room(room_id)
    assert joined["timeline"]["limited"] is True
    assert bodies(joined) == ["before"]
    memberships = {event["type"]: event["unsigned"]["membership"] for event in joined["timeline"]["events"]}
    assert memberships["m.room.message"] == "leave"
    assert joined["timeline"]["events"][-1]["unsigned"]["membership"] == "join"
    known = types(joined["state"]["events"]) + types(joined["timeline"]["events"])
    assert {"m.room.create", "m.room.name", "m.room.power_levels"} <= set(known)


async def test_who_joins_sees_nothing_from_before_where_history_is_hidden(alice: Person, bob: Person) -> None:
    hidden = {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}}
    room_id = await alice.create_room(preset="public_chat", initial_state=[hidden])
    await alice.say(room_id, "before")
    await bob.join(room_id)
    await alice.say(room_id, "after")
    client = Syncing(bob)
    assert bodies(await client.room(room_id)) == ["after"]
    await bob.do("POST", f"/rooms/{room_id}/leave", {})
    await alice.put_state(room_id, "m.room.topic", {"topic": "overhauled"})
    await alice.say(room_id, "unheard")
    await alice.put_state(room_id, "m.room.topic", {"topic": "holds still"})
    await bob.join(room_id)
    # What holds is told in any case, and shown where it happened.
    room = await client.room(room_id)
    topics = [event["content"] for event in room["timeline"]["events"] if event["type"] == "m.room.topic"]
    assert topics == [{"topic": "holds still"}]
    assert bodies(room) == ["after"]


async def test_who_is_removed_is_told_so_and_nothing_after(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    client = Syncing(bob)
    await client.sync()
    await alice.say(room_id, "before")
    await alice.do("POST", f"/rooms/{room_id}/kick", {"user_id": bob.user_id, "reason": "rude"})
    await alice.say(room_id, "after")
    left = await client.room(room_id, "leave")
    assert bodies(left) == ["before"]
    assert left["timeline"]["events"][-1]["content"] == {"membership": "leave", "reason": "rude"}
    assert "rooms" not in await client.sync()
    assert "rooms" not in await Syncing(bob).sync()
    with_left = Syncing(bob, filter={"room": {"include_leave": True}})
    assert bodies(await with_left.room(room_id, "leave")) == ["before"]
    await bob.do("POST", f"/rooms/{room_id}/forget", {})
    assert "rooms" not in await Syncing(bob, filter={"room": {"include_leave": True}}).sync()


async def test_of_a_forgotten_room_other_clients_hear_once_that_it_is_over(alice: Person, bob: Person) -> None:
    joined, invited = await alice.create_room(preset="public_chat"), await alice.create_room(invite=[bob.user_id])
    await bob.join(joined)
    client = Syncing(bob)
    await client.sync()
    for room_id in (joined, invited):
        await bob.do("POST", f"/rooms/{room_id}/leave", {})
        await bob.do("POST", f"/rooms/{room_id}/forget", {})
    assert set((await client.sync())["rooms"]["leave"]) == {joined, invited}
    await alice.do("POST", f"/rooms/{joined}/ban", {"user_id": bob.user_id})
    assert "rooms" not in await client.sync()


async def test_who_left_and_came_again_between_two_syncs_is_told_all_anew(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    client = Syncing(bob)
    await client.sync()
    await bob.do("POST", f"/rooms/{room_id}/leave", {})
    await alice.put_state(room_id, "m.room.topic", {"topic": "unseen"})
    await bob.join(room_id)
    answer = await client.sync()
    assert "leave" not in answer["rooms"]
    room = answer["rooms"]["join"][room_id]
    assert room["timeline"]["limited"]
    assert "m.room.create" in types(room["state"]["events"] + room["timeline"]["events"])


async def test_full_state_brings_the_state_and_only_the_new_events(alice: Person) -> None:
    room_id = await alice.create_room(name="Tea")
    client = Syncing(alice)
    await client.sync()
    answer = await client.room(room_id, full_state="true")
    assert answer["timeline"]["events"] == []
    assert "m.room.create" in types(answer["state"]["events"])


async def test_lazily_loaded_members_are_those_who_spoke_and_each_once(alice: Person, bob: Person, meet: Meet) -> None:
    carol = await meet("carol")
    room_id = await alice.create_room(preset="public_chat", name="Tea")
    await bob.join(room_id)
    await carol.join(room_id)
    for number in range(4):
        await alice.say(room_id, f"{number}")
    lazy = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 2}}}
    client = Syncing(bob, filter=lazy)

    def members(section: dict[str, Any]) -> set[str]:
        return {event["state_key"] for event in section["state"]["events"] if event["type"] == "m.room.member"}

    assert members(await client.room(room_id)) == {alice.user_id, bob.user_id}
    await alice.say(room_id, "again")
    assert members(await client.room(room_id)) == set()
    await carol.say(room_id, "hello")
    assert members(await client.room(room_id)) == {carol.user_id}
    await carol.say(room_id, "hello again")
    assert members(await client.room(room_id)) == set()
    redundant = {"room": {"state": {"lazy_load_members": True, "include_redundant_members": True}}}
    await carol.say(room_id, "and again")
    assert members(await client.room(room_id, filter=redundant)) == {carol.user_id}


async def test_heroes_stand_in_for_a_name(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    summary = (await Syncing(alice).room(room_id))["summary"]
    assert summary == {"m.joined_member_count": 1, "m.invited_member_count": 1, "m.heroes": [bob.user_id]}
    client = Syncing(alice)
    await client.sync()
    await bob.join(room_id)
    assert (await client.room(room_id))["summary"]["m.joined_member_count"] == 2
    await bob.say(room_id, "hello")
    assert (await client.room(room_id))["summary"] == {}


async def test_ignored_users_are_not_heard_but_their_state_is(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    client = Syncing(alice)
    await client.sync()
    ignoring = {"ignored_users": {bob.user_id: {}}}
    await alice.do("PUT", f"/user/{alice.user_id}/account_data/m.ignored_user_list", ignoring)
    await bob.say(room_id, "unheard")
    await bob.do("PUT", f"/profile/{bob.user_id}/displayname", {"displayname": "Bobby"})
    await bob.create_room(invite=[alice.user_id])
    answer = await client.sync()
    assert answer["account_data"]["events"] == [{"type": "m.ignored_user_list", "content": ignoring}]
    assert "m.room.message" not in types(
        answer["rooms"].get("join", {}).get(room_id, {"timeline": {"events": []}})["timeline"]["events"]
    )
    assert "invite" not in answer["rooms"]


async def test_filters_choose_rooms_types_senders_and_fields(alice: Person, bob: Person) -> None:
    tea = await alice.create_room(preset="public_chat", name="Tea")
    coffee = await alice.create_room(name="Coffee")
    await bob.join(tea)
    await bob.say(tea, "from bob")
    await alice.say(tea, "from alice", url="mxc://hs.test/a")
    only = {"room": {"rooms": [tea], "timeline": {"types": ["m.room.mess*"], "senders": [bob.user_id]}}}
    answer = await Syncing(alice, filter=only).sync()
    assert set(answer["rooms"]["join"]) == {tea}
    assert bodies(answer["rooms"]["join"][tea]) == ["from bob"]
    without = {"room": {"not_rooms": [tea], "state": {"not_types": ["m.room.c*"]}, "timeline": {"limit": 0}}}
    answer = await Syncing(alice, filter=without).sync()
    assert set(answer["rooms"]["join"]) == {coffee}
    state = types(answer["rooms"]["join"][coffee]["state"]["events"])
    assert "m.room.name" in state
    assert "m.room.create" not in state
    filter_id = (
        await alice.do(
            "POST",
            f"/user/{alice.user_id}/filter",
            {"event_fields": ["content.body"], "room": {"timeline": {"contains_url": True}}},
        )
    )["filter_id"]
    kept = await alice.do("GET", f"/user/{alice.user_id}/filter/{filter_id}")
    assert kept["event_fields"] == ["content.body"]
    room = await Syncing(alice, filter=filter_id).room(tea)
    assert room["timeline"]["events"] == [{"content": {"body": "from alice"}}]
    topics = Syncing(alice, filter={"room": {"timeline": {"types": []}, "state": {"types": ["m.room.topic"]}}})
    await topics.sync()
    await bob.say(tea, "what the filter keeps back is no news")
    await bob.do("POST", f"/rooms/{tea}/leave", {})
    assert "rooms" not in await topics.sync()
    await alice.put_state(tea, "m.room.topic", {"topic": "Oolong"})
    room = await topics.room(tea)
    assert types(room["state"]["events"]) == ["m.room.topic"]
    assert room["summary"]["m.joined_member_count"] == 1


async def test_bad_requests_are_refused(alice: Person, bob: Person) -> None:
    for params in (
        {"since": "nonsense"},
        {"filter": "unknown"},
        {"filter": "{"},
        {"filter": '{"room": []}'},
        {"filter": '{"room": {"timeline": {"limit": "x"}}}'},
        {"timeout": "soon"},
        {"set_presence": "asleep"},
    ):
        answer = await alice.ask("GET", "/sync", **params)
        assert answer.status_code == 400, (params, answer.text)
    for definition in (
        {"room": "all"},
        {"presence": {"senders": ["nobody"]}},
        {"room": {"timeline": {"rooms": ["nowhere"]}}},
        {"event_format": "odd"},
    ):
        assert (await alice.ask("POST", f"/user/{alice.user_id}/filter", definition)).status_code == 400
    assert (await alice.ask("POST", f"/user/{bob.user_id}/filter", {})).status_code == 403
    assert (await alice.ask("GET", f"/user/{alice.user_id}/filter/0")).status_code == 404


async def test_messages_to_a_device_come_a_part_at_a_time_and_go_once_they_arrived(alice: Person, bob: Person) -> None:
    client = Syncing(bob)
    await client.sync()
    to_all = {"messages": {bob.user_id: {"*": {"n": 1}}}}
    for number in range(102):
        await alice.do("PUT", f"/sendToDevice/org.example.x/{number}", to_all)
    first = await client.sync()
    assert len(first["to_device"]["events"]) == 100
    assert first["to_device"]["events"][0] == {"type": "org.example.x", "sender": alice.user_id, "content": {"n": 1}}
    before = client.since
    assert len((await client.sync(timeout=10_000))["to_device"]["events"]) == 2
    client.since = before
    assert len((await client.sync())["to_device"]["events"]) == 2
    assert "to_device" not in await client.sync()
    assert "to_device" not in await Syncing(bob).sync()
