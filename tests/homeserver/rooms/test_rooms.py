from typing import Any

import pytest

from identity_server.runtime.clock import FakeClock
from tests.homeserver.conftest import bearing
from tests.homeserver.rooms.conftest import V1, V3, Meet, Person, bodies, outcome


async def test_a_room_begins_in_the_order_that_is_written(alice: Person) -> None:
    room_id = await alice.create_room(
        preset="public_chat",
        room_alias_name="thepub",
        name="The Grand Duke Pub",
        topic="All about happy hour",
        creation_content={"m.federate": False},
        invite=None,
        is_direct=None,
        initial_state=[{"type": "m.room.guest_access", "content": {"guest_access": "can_join"}}],
    )
    events = (await alice.messages(room_id, dir="f", limit=50))["chunk"]
    assert [event["type"] for event in events] == [
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.canonical_alias",
        "m.room.join_rules",
        "m.room.history_visibility",
        "m.room.guest_access",
        "m.room.name",
        "m.room.topic",
    ]
    assert events[0]["content"] == {"m.federate": False, "room_version": "12"}
    assert events[0]["room_id"] == room_id
    assert (await alice.state(room_id, "m.room.guest_access")) == {"guest_access": "can_join"}
    assert (await alice.do("GET", "/directory/room/%23thepub:hs.test"))["room_id"] == room_id
    assert (await alice.do("GET", "/joined_rooms"))["joined_rooms"] == [room_id]


@pytest.mark.parametrize("version", ["6", "12"])
async def test_people_talk_in_rooms_of_every_version(alice: Person, bob: Person, version: str) -> None:
    room_id = await alice.create_room(room_version=version, invite=[bob.user_id], preset="private_chat")
    await bob.join(room_id)
    said = [await alice.say(room_id, "hello"), await bob.say(room_id, "hi")]
    chunk = (await bob.messages(room_id, limit=2))["chunk"]
    assert [event["event_id"] for event in chunk] == said[::-1]
    redaction = await bob.do("PUT", f"/rooms/{room_id}/redact/{said[1]}/t1", {"reason": "oops"})
    gone = await alice.event(room_id, said[1])
    assert gone["content"] == {}
    because = gone["unsigned"]["redacted_because"]
    assert because["event_id"] == redaction["event_id"]
    assert because["redacts"] == because["content"]["redacts"] == said[1]
    refused = await bob.ask("PUT", f"/rooms/{room_id}/redact/{said[0]}/t2", {})
    assert outcome(refused) == (403, "M_FORBIDDEN")
    again = await bob.do("PUT", f"/rooms/{room_id}/redact/{said[1]}/t1", {"reason": "oops"})
    assert again == redaction


async def test_a_transaction_is_one_event_and_echoed_to_the_device_that_sent_it(meet: Meet, alice: Person) -> None:
    room_id = await alice.create_room()
    path = f"/rooms/{room_id}/send/m.room.message/t1"
    first = await alice.do("PUT", path, {"body": "once", "msgtype": "m.text"})
    assert await alice.do("PUT", path, {"body": "once", "msgtype": "m.text"}) == first
    other = await alice.do("PUT", f"/rooms/{room_id}/send/m.other/t1", {"body": "once"})
    assert other != first
    shown = await alice.event(room_id, first["event_id"])
    assert shown["unsigned"]["transaction_id"] == "t1"
    login = await alice.client.post(
        f"{V3}/login",
        json={
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": "alice"},
            "password": "correct horse",
        },
    )
    elsewhere = Person(alice.client, login.json())
    assert "transaction_id" not in (await elsewhere.event(room_id, first["event_id"]))["unsigned"]
    assert await elsewhere.do("PUT", path, {"body": "once", "msgtype": "m.text"}) != first


async def test_who_is_not_in_a_room_neither_reads_nor_writes(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room()
    event_id = await alice.say(room_id, "secret")
    for method, path in (
        ("GET", f"/rooms/{room_id}/messages?dir=b"),
        ("GET", f"/rooms/{room_id}/state"),
        ("GET", f"/rooms/{room_id}/state/m.room.create/"),
        ("GET", f"/rooms/{room_id}/members"),
        ("GET", f"/rooms/{room_id}/joined_members"),
        ("GET", f"/rooms/{room_id}/context/{event_id}"),
        ("GET", f"/rooms/{room_id}/aliases"),
        ("PUT", f"/rooms/{room_id}/send/m.room.message/1"),
        ("PUT", f"/rooms/{room_id}/state/m.room.name/"),
        ("POST", f"/rooms/{room_id}/join"),
        ("POST", f"/rooms/{room_id}/leave"),
    ):
        answer = await bob.ask(method, path, {} if method != "GET" else None)
        assert outcome(answer) == (403, "M_FORBIDDEN"), path
    assert outcome(await bob.ask("GET", f"/rooms/{room_id}/event/{event_id}")) == (404, "M_NOT_FOUND")
    assert outcome(await bob.ask("POST", "/join/%23nothing:hs.test", {})) == (404, "M_NOT_FOUND")
    assert outcome(await bob.ask("POST", "/join/nonsense", {})) == (400, "M_INVALID_PARAM")


async def test_members_come_and_go(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room(preset="public_chat", room_version="10")
    target = {"user_id": bob.user_id, "reason": "so"}
    assert outcome(await alice.ask("POST", f"/rooms/{room_id}/kick", target)) == (403, "M_FORBIDDEN")
    assert outcome(await alice.ask("POST", f"/rooms/{room_id}/unban", target)) == (403, "M_BAD_STATE")
    await bob.join(room_id)
    joined = (await bob.do("GET", f"/rooms/{room_id}/joined_members"))["joined"]
    assert joined == {
        person.user_id: {"display_name": person.user_id[1:].partition(":")[0], "avatar_url": None}
        for person in (alice, bob)
    }
    await alice.say(room_id, "before")
    await alice.do("POST", f"/rooms/{room_id}/kick", target)
    await alice.say(room_id, "after")
    assert bodies((await bob.messages(room_id))["chunk"]) == ["before"]
    kicked = await bob.state(room_id, "m.room.member", bob.user_id)
    assert kicked == {"membership": "leave", "reason": "so"}
    await bob.join(room_id)
    assert bodies((await bob.messages(room_id))["chunk"]) == ["after", "before"]
    await alice.do("POST", f"/rooms/{room_id}/ban", target)
    assert outcome(await bob.ask("POST", f"/rooms/{room_id}/join", {})) == (403, "M_FORBIDDEN")
    assert outcome(await alice.ask("POST", f"/rooms/{room_id}/invite", target)) == (403, "M_BAD_STATE")
    await alice.do("POST", f"/rooms/{room_id}/unban", target)
    await bob.join(room_id)
    await bob.do("POST", f"/rooms/{room_id}/leave", {})
    await bob.do("POST", f"/rooms/{room_id}/leave", {})
    assert outcome(await alice.ask("POST", f"/rooms/{room_id}/forget", {})) == (400, "M_UNKNOWN")
    await bob.do("POST", f"/rooms/{room_id}/forget", {})
    assert outcome(await bob.ask("GET", f"/rooms/{room_id}/messages?dir=b")) == (403, "M_FORBIDDEN")


async def test_invitations_are_accepted_and_turned_down(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room(invite=[bob.user_id], is_direct=True)
    invite = await alice.state(room_id, "m.room.member", bob.user_id)
    assert invite["membership"] == "invite"
    assert invite["is_direct"] is True
    await bob.do("POST", f"/rooms/{room_id}/leave", {})
    assert outcome(await bob.ask("POST", f"/rooms/{room_id}/join", {})) == (403, "M_FORBIDDEN")
    await alice.do("POST", f"/rooms/{room_id}/invite", {"user_id": bob.user_id, "reason": "please"})
    wish = {"reason": "well", "org.example.seat": {"row": 3}, "membership": "ban", "third_party_signed": None}
    assert await bob.do("POST", f"/join/{room_id}", wish) == {"room_id": room_id}
    entered = {"displayname": "bob", "membership": "join", "reason": "well", "org.example.seat": {"row": 3}}
    assert await bob.state(room_id, "m.room.member", bob.user_id) == entered
    again = await alice.ask("POST", f"/rooms/{room_id}/invite", {"user_id": bob.user_id})
    assert outcome(again) == (403, "M_FORBIDDEN")
    for wrong in ({}, {"medium": "email"}, {"user_id": "bob"}):
        assert (await alice.ask("POST", f"/rooms/{room_id}/invite", wrong)).status_code == 400


async def test_knocking_asks_to_be_let_in(alice: Person, bob: Person) -> None:
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    room_id = await alice.create_room(initial_state=[rules])
    assert await bob.do("POST", f"/knock/{room_id}", {"reason": "me too"}) == {"room_id": room_id}
    assert (await alice.state(room_id, "m.room.member", bob.user_id))["membership"] == "knock"
    assert outcome(await bob.ask("POST", f"/join/{room_id}", {})) == (403, "M_FORBIDDEN")
    await alice.do("POST", f"/rooms/{room_id}/invite", {"user_id": bob.user_id})
    await bob.join(room_id)


async def test_members_of_a_space_may_join_its_restricted_rooms(alice: Person, bob: Person) -> None:
    space = await alice.create_room(preset="public_chat", creation_content={"type": "m.space"}, name="Space")
    allow = [{"type": "m.room_membership", "room_id": space}]
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    room_id = await alice.create_room(initial_state=[rules], name="Inner")
    await alice.put_state(space, "m.space.child", {"via": ["hs.test"], "suggested": True}, room_id)
    assert outcome(await bob.ask("POST", f"/rooms/{room_id}/join", {})) == (403, "M_FORBIDDEN")
    outside = await bob.do("GET", f"{V1}/rooms/{space}/hierarchy")
    assert [room["name"] for room in outside["rooms"]] == ["Space"]
    await bob.join(space)
    tree = await bob.do("GET", f"{V1}/rooms/{space}/hierarchy")
    assert [room["name"] for room in tree["rooms"]] == ["Space", "Inner"]
    assert [child["state_key"] for child in tree["rooms"][0]["children_state"]] == [room_id]
    assert tree["rooms"][1]["allowed_room_ids"] == [space]
    first = await bob.do("GET", f"{V1}/rooms/{space}/hierarchy", limit=1)
    rest = await bob.do("GET", f"{V1}/rooms/{space}/hierarchy", limit=1, **{"from": first["next_batch"]})
    assert [room["name"] for room in first["rooms"] + rest["rooms"]] == ["Space", "Inner"]
    assert "next_batch" not in rest
    await bob.join(room_id)
    joined = await bob.state(room_id, "m.room.member", bob.user_id)
    assert joined["join_authorised_via_users_server"] == alice.user_id
    summary = await bob.do("GET", f"{V1}/room_summary/{room_id}")
    assert (summary["membership"], summary["num_joined_members"]) == ("join", 2)


async def test_history_is_seen_as_it_was_meant_to_be(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room(preset="public_chat")

    async def visibility(value: str) -> None:
        await alice.put_state(room_id, "m.room.history_visibility", {"history_visibility": value})

    await alice.say(room_id, "shared")
    await visibility("joined")
    await alice.say(room_id, "joined")
    await visibility("invited")
    await alice.say(room_id, "invited, before")
    await alice.do("POST", f"/rooms/{room_id}/invite", {"user_id": bob.user_id})
    await alice.say(room_id, "invited, after")
    await visibility("world_readable")
    await alice.say(room_id, "for all the world")
    assert bodies((await bob.messages(room_id, limit=50))["chunk"]) == ["for all the world", "invited, after"]
    await bob.join(room_id)
    seen = bodies((await bob.messages(room_id, limit=50))["chunk"])
    assert seen == ["for all the world", "invited, after", "shared"]
    chunk = (await bob.messages(room_id, limit=50))["chunk"]
    memberships = {event["content"].get("body"): event["unsigned"]["membership"] for event in chunk}
    assert memberships["invited, after"] == "invite"
    assert memberships["shared"] == "leave"
    assert chunk[0]["unsigned"]["membership"] == "join"


async def test_pages_meet_without_gap_or_overlap(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    said = [str(number) for number in range(25)]
    for body in said:
        await alice.say(room_id, body)
    wanted = '{"types": ["m.room.mess*"], "lazy_load_members": true}'
    pages, token, back = [], None, []
    for _ in range(10):
        more = {"from": token} if token else {}
        page = await alice.messages(room_id, limit=10, filter=wanted, **more)
        pages += bodies(page["chunk"])
        back.append(page["start"])
        assert [member["state_key"] for member in page.get("state", [])] == [alice.user_id] * bool(page["chunk"])
        token = page.get("end")
        if token is None:
            break
    assert pages == said[::-1]
    forwards = await alice.messages(room_id, dir="f", limit=5, filter=wanted, **{"from": back[2]})
    assert bodies(forwards["chunk"]) == said[5:10]
    # Before its beginning a room can be turned round in, and is read to its end.
    whole = await alice.messages(room_id, limit=100)
    beginning = await alice.messages(room_id, **{"from": whole["end"]})
    assert (beginning["chunk"], "end" in beginning) == ([], False)
    forwards = await alice.messages(room_id, dir="f", limit=100, **{"from": beginning["start"]})
    assert [event["event_id"] for event in forwards["chunk"]] == [event["event_id"] for event in whole["chunk"]][::-1]
    # Who came in only after the earliest event of a page is told of with it, too.
    await bob.join(room_id)
    await bob.say(room_id, "hi")
    for limit in (3, 100):
        page = await alice.messages(room_id, limit=limit, filter='{"lazy_load_members": true}')
        shown = {member["state_key"]: member["content"]["membership"] for member in page["state"]}
        assert shown == {alice.user_id: "join", bob.user_id: "join"}
    assert outcome(await alice.ask("GET", f"/rooms/{room_id}/messages?dir=b&from=what")) == (400, "M_INVALID_PARAM")
    assert outcome(await alice.ask("GET", f"/rooms/{room_id}/messages?dir=b&filter=[]")) == (400, "M_BAD_JSON")


async def test_what_is_sent_without_a_transaction_is_sent_each_time(alice: Person) -> None:
    room_id = await alice.create_room()
    sent = [
        (await alice.do("POST", f"/rooms/{room_id}/send/m.room.message", {"msgtype": "m.text", "body": "again"}))
        for _ in range(2)
    ]
    await alice.do("POST", f"/rooms/{room_id}/redact/{sent[0]['event_id']}", {"reason": "twice"})
    said = (await alice.messages(room_id, filter='{"types": ["m.room.message"]}'))["chunk"]
    assert [event["content"].get("body") for event in said] == ["again", None]


async def test_context_surrounds_an_event(alice: Person) -> None:
    room_id = await alice.create_room()
    said = [await alice.say(room_id, str(number)) for number in range(7)]
    around = await alice.do("GET", f"/rooms/{room_id}/context/{said[3]}", limit=4)
    assert bodies(around["events_before"]) == ["2", "1"]
    assert around["event"]["event_id"] == said[3]
    assert bodies(around["events_after"]) == ["4", "5"]
    assert "m.room.create" in {event["type"] for event in around["state"]}
    before = await alice.messages(room_id, limit=1, **{"from": around["start"]})
    after = await alice.messages(room_id, dir="f", limit=1, **{"from": around["end"]})
    assert (bodies(before["chunk"]), bodies(after["chunk"])) == (["0"], ["6"])


def _relates(kind: str, event_id: str, **more: Any) -> dict[str, Any]:
    return {"m.relates_to": {"rel_type": kind, "event_id": event_id, **more}}


async def test_what_relates_to_an_event_is_told_with_it(alice: Person, bob: Person, clock: FakeClock) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    root = await alice.say(room_id, "root")
    edit = {"m.new_content": {"body": "better", "msgtype": "m.text"}}
    await alice.say(room_id, "* edited", **_relates("m.replace", root), **edit)
    clock.advance(seconds=1)
    last = await alice.say(room_id, "* better", **_relates("m.replace", root), **edit)
    await bob.say(room_id, "* not mine", **_relates("m.replace", root), **edit)
    reference = await bob.say(room_id, "see there", **_relates("m.reference", root))
    reply = await bob.say(room_id, "in a thread", **_relates("m.thread", root))
    relations = (await alice.event(room_id, root))["unsigned"]["m.relations"]
    assert relations["m.replace"]["event_id"] == last
    assert relations["m.reference"] == {"chunk": [{"event_id": reference}]}
    thread = relations["m.thread"]
    assert (thread["count"], thread["latest_event"]["event_id"]) == (1, reply)
    assert thread["current_user_participated"] is True
    threads = await bob.do("GET", f"{V1}/rooms/{room_id}/threads", include="participated")
    assert [event["event_id"] for event in threads["chunk"]] == [root]
    edits = await alice.do("GET", f"{V1}/rooms/{room_id}/relations/{root}/m.replace", limit=2)
    assert len(edits["chunk"]) == 2
    rest = await alice.do(
        "GET", f"{V1}/rooms/{room_id}/relations/{root}/m.replace/m.room.message", **{"from": edits["next_batch"]}
    )
    assert len(rest["chunk"]) == 1
    assert len((await alice.do("GET", f"{V1}/rooms/{room_id}/relations/{root}"))["chunk"]) == 5

    reaction = _relates("m.annotation", root, key="👍")
    await bob.do("PUT", f"/rooms/{room_id}/send/m.reaction/r1", reaction)
    await bob.do("PUT", f"/rooms/{room_id}/send/m.reaction/r1", reaction)
    twice = await bob.ask("PUT", f"/rooms/{room_id}/send/m.reaction/r2", reaction)
    assert outcome(twice) == (400, "M_DUPLICATE_ANNOTATION")
    within = await bob.ask("PUT", f"/rooms/{room_id}/send/m.room.message/r3", _relates("m.thread", reply))
    assert outcome(within) == (400, "M_UNKNOWN")


async def test_rooms_are_upgraded_with_their_names_and_rules(alice: Person, bob: Person) -> None:
    old = await alice.create_room(
        preset="public_chat", room_version="10", room_alias_name="pub", name="Pub", visibility="public"
    )
    await bob.join(old)
    await alice.do("POST", f"/rooms/{old}/ban", {"user_id": "@mallory:hs.test"})
    assert outcome(await bob.ask("POST", f"/rooms/{old}/upgrade", {"new_version": "12"})) == (403, "M_FORBIDDEN")
    unknown = await alice.ask("POST", f"/rooms/{old}/upgrade", {"new_version": "no"})
    assert outcome(unknown) == (400, "M_UNSUPPORTED_ROOM_VERSION")
    nowhere = await alice.ask("POST", "/rooms/!nowhere:hs.test/upgrade", {"new_version": "12"})
    assert outcome(nowhere) == (404, "M_NOT_FOUND")
    itself = await alice.ask("PUT", f"/rooms/{old}/send/m.room.tombstone/1", {"replacement_room": old})
    assert outcome(itself) == (400, "M_BAD_JSON")
    middle = (await alice.do("POST", f"/rooms/{old}/upgrade", {"new_version": "11"}))["replacement_room"]
    tombstone = await bob.do("GET", f"/rooms/{old}/state/m.room.tombstone?format=event")
    assert tombstone["content"]["replacement_room"] == middle
    created = await alice.state(middle, "m.room.create")
    assert created["predecessor"] == {"room_id": old, "event_id": tombstone["event_id"]}
    new = (
        await alice.do("POST", f"/rooms/{middle}/upgrade", {"new_version": "12", "additional_creators": [bob.user_id]})
    )["replacement_room"]
    created = await alice.state(new, "m.room.create")
    assert created["predecessor"]["room_id"] == middle
    assert created["additional_creators"] == [bob.user_id]
    assert (await alice.state(new, "m.room.name")) == {"name": "Pub"}
    assert (await alice.state(new, "m.room.member", "@mallory:hs.test"))["membership"] == "ban"
    levels = await alice.state(new, "m.room.power_levels")
    assert levels["users"] == {}
    assert levels["events"]["m.room.tombstone"] == 150
    assert (await alice.do("GET", "/directory/room/%23pub:hs.test"))["room_id"] == new
    assert (await alice.state(new, "m.room.canonical_alias")) == {"alias": "#pub:hs.test"}
    assert (await alice.do("GET", "/publicRooms"))["chunk"][0]["room_id"] == new
    await bob.join(new)
    # The creators of the one room are those of the next only if they are named.
    levels["users"] = {(moderator := "@carol:hs.test"): 150}
    await alice.do("PUT", f"/rooms/{new}/state/m.room.power_levels/", levels)
    newest = (await bob.do("POST", f"/rooms/{new}/upgrade", {"new_version": "12"}))["replacement_room"]
    assert "additional_creators" not in await bob.state(newest, "m.room.create")
    assert (await bob.state(newest, "m.room.power_levels"))["users"] == {moderator: 150}
    anew = await bob.ask("PUT", f"/rooms/{newest}/state/m.room.create/", {"room_version": "12"})
    assert outcome(anew) == (400, "M_INVALID_PARAM")
    named = {"creation_content": {"additional_creators": ["@carol:hs.test", "carol"]}}
    assert outcome(await bob.ask("POST", "/createRoom", named)) == (400, "M_INVALID_PARAM")
    muted = await bob.ask("PUT", f"/rooms/{old}/send/m.room.message/1", {"body": "anybody?", "msgtype": "m.text"})
    assert outcome(muted) == (403, "M_FORBIDDEN")


async def test_what_a_user_has_set_for_a_room_goes_along_when_it_is_replaced(alice: Person, bob: Person) -> None:
    old = await alice.create_room(preset="public_chat")
    await bob.join(old)
    data = f"/user/{bob.user_id}/account_data"
    await bob.do("PUT", f"/user/{bob.user_id}/rooms/{old}/tags/m.favourite", {"order": 0.5})
    await bob.do("PUT", f"{data}/m.direct", {alice.user_id: [old], "@eve:hs.test": ["!x:y"]})
    await bob.do("PUT", f"/pushrules/global/room/{old}", {"actions": []})
    about = {"kind": "event_match", "key": "room_id", "pattern": old}
    await bob.do("PUT", f"/pushrules/global/override/{old}", {"actions": [], "conditions": [about]})
    new = (await alice.do("POST", f"/rooms/{old}/upgrade", {"new_version": "12"}))["replacement_room"]
    await bob.join(new)
    tags = await bob.do("GET", f"/user/{bob.user_id}/rooms/{new}/tags")
    assert tags == {"tags": {"m.favourite": {"order": 0.5}}}
    assert await bob.do("GET", f"{data}/m.direct") == {alice.user_id: [old, new], "@eve:hs.test": ["!x:y"]}
    rules = (await bob.do("GET", "/pushrules/"))["global"]
    assert [rule["rule_id"] for rule in rules["room"]] == [old, new]
    assert (await bob.do("GET", f"/pushrules/global/override/{new}"))["conditions"] == [{**about, "pattern": new}]
    # So it is where a client makes the new room itself, and only then closes the old one.
    await alice.do("PUT", f"/pushrules/global/room/{new}", {"actions": []})
    newest = await alice.create_room(creation_content={"predecessor": {"room_id": new}})
    for replacement in ("!\0:hs.test", newest):
        await alice.put_state(new, "m.room.tombstone", {"body": "gone", "replacement_room": replacement})
    rules = (await alice.do("GET", "/pushrules/"))["global"]
    assert [rule["rule_id"] for rule in rules["room"]] == [new, newest]


async def test_who_wants_no_invitations_gets_none(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    path = f"/user/{bob.user_id}/account_data/m.invite_permission_config"
    await bob.do("PUT", path, {"default_action": "block"})
    assert "invite" not in (await bob.do("GET", "/sync")).get("rooms", {})
    other = await alice.create_room()
    blocked = (403, "M_INVITE_BLOCKED")
    assert outcome(await alice.ask("POST", f"/rooms/{other}/invite", {"user_id": bob.user_id})) == blocked
    assert outcome(await alice.ask("POST", "/createRoom", {"invite": [bob.user_id]})) == blocked
    state = f"/rooms/{other}/state/m.room.member/{bob.user_id}"
    assert outcome(await alice.ask("PUT", state, {"membership": "invite"})) == blocked
    await bob.do("PUT", path, {})
    assert room_id in (await bob.do("GET", "/sync"))["rooms"]["invite"]


async def test_the_directory_is_searched_and_paged(alice: Person, bob: Person) -> None:
    rooms = [await alice.create_room(visibility="public", name=f"Room {number}") for number in range(3)]
    await alice.create_room(visibility="public", name="Space", creation_content={"type": "m.space"})
    await bob.join(rooms[1])
    listed = await alice.do("GET", "/publicRooms", limit=1)
    assert listed["chunk"][0]["room_id"] == rooms[1]
    assert listed["total_room_count_estimate"] == 4
    second = await alice.do("GET", "/publicRooms", limit=1, since=listed["next_batch"])
    assert second["prev_batch"]
    found = await alice.do("POST", "/publicRooms", {"filter": {"generic_search_term": "room 2"}})
    assert [room["name"] for room in found["chunk"]] == ["Room 2"]
    spaces = await alice.do("POST", "/publicRooms", {"filter": {"room_types": ["m.space"]}})
    assert [room["room_type"] for room in spaces["chunk"]] == ["m.space"]
    path = f"/directory/list/room/{rooms[1]}"
    assert outcome(await bob.ask("PUT", path, {"visibility": "private"})) == (403, "M_FORBIDDEN")
    await alice.do("PUT", path, {"visibility": "private"})
    assert (await alice.do("GET", path)) == {"visibility": "private"}
    assert outcome(await alice.ask("GET", "/directory/list/room/!no:hs.test")) == (404, "M_NOT_FOUND")


async def test_aliases_lead_to_rooms_and_rooms_may_say_so(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room(preset="public_chat", name="one")
    path = "/directory/room/%23a%2Fb:hs.test"
    await alice.do("PUT", path, {"room_id": room_id})
    assert outcome(await alice.ask("PUT", path, {"room_id": room_id})) == (409, "M_UNKNOWN")
    assert outcome(await alice.ask("PUT", "/directory/room/nope", {"room_id": room_id})) == (400, "M_INVALID_PARAM")
    canonical = {"alias": "#a/b:hs.test", "alt_aliases": ["#c:hs.test"]}
    state = f"/rooms/{room_id}/state/m.room.canonical_alias/"
    assert outcome(await alice.ask("PUT", state, canonical)) == (400, "M_BAD_ALIAS")
    assert outcome(await alice.ask("PUT", state, {"alias": "nope"})) == (400, "M_INVALID_PARAM")
    await alice.do("PUT", "/directory/room/%23c:hs.test", {"room_id": room_id})
    await alice.do("PUT", state, canonical)
    assert (await bob.do("POST", "/join/%23a%2Fb:hs.test", {}))["room_id"] == room_id
    assert (await bob.do("GET", f"/rooms/{room_id}/aliases"))["aliases"] == ["#a/b:hs.test", "#c:hs.test"]
    assert outcome(await bob.ask("DELETE", path)) == (403, "M_FORBIDDEN")
    await alice.do("DELETE", path)
    assert outcome(await alice.ask("DELETE", path)) == (404, "M_NOT_FOUND")
    assert (await alice.state(room_id, "m.room.canonical_alias")) == {"alt_aliases": ["#c:hs.test"]}


async def test_people_find_what_was_said(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room(preset="public_chat", name="Martians")
    other = await alice.create_room(name="Elsewhere")
    await alice.say(room_id, "Of martians and men")
    await alice.say(room_id, '100% "quoted" ÄÖ_x')
    await alice.say(other, "more martians")
    await bob.join(room_id)

    async def search(person: Person, term: str, **more: Any) -> Any:
        asked = {"search_categories": {"room_events": {"search_term": term, **more}}}
        return (await person.do("POST", "/search", asked))["search_categories"]["room_events"]

    found = await search(alice, "martians", order_by="recent", keys=["content.body"])
    assert bodies([hit["result"] for hit in found["results"]]) == ["more martians", "Of martians and men"]
    assert found["results"][0]["result"]["user_id"] == alice.user_id
    assert (await search(bob, "MARTIANS", keys=["content.body"]))["count"] == 1
    assert (await search(bob, "martians"))["count"] == 2
    assert (await search(bob, "äö_X"))["count"] == 1
    assert (await search(bob, '"quoted" 100%'))["count"] == 1
    assert (await search(bob, "nothing"))["results"] == []
    around = await search(bob, "quoted", event_context={"before_limit": 1, "include_profile": True})
    context = around["results"][0]["context"]
    assert bodies(context["events_before"]) == ["Of martians and men"]
    assert context["profile_info"] == {alice.user_id: {"displayname": "alice"}}
    grouped = await search(alice, "martians", groupings={"group_by": [{"key": "room_id"}]})
    assert set(grouped["groups"]["room_id"]) == {room_id, other}


async def test_what_was_found_is_read_page_by_page_until_one_is_not_full(alice: Person) -> None:
    room_id = await alice.create_room()
    said = [await alice.say(room_id, f"tea {number}") for number in range(4)]
    asked = {"search_term": "tea", "order_by": "recent", "filter": {"limit": 2}}
    pages: list[list[str]] = []
    params: dict[str, str] = {}
    while len(pages) < 4:
        answer = await alice.do("POST", "/search", {"search_categories": {"room_events": asked}}, **params)
        found = answer["search_categories"]["room_events"]
        assert found["count"] == 4
        pages.append([hit["result"]["event_id"] for hit in found["results"]])
        if "next_batch" not in found:
            break
        params = {"next_batch": found["next_batch"]}
    assert pages == [said[:1:-1], said[1::-1], []]


async def test_a_moment_is_found_in_either_direction(alice: Person, clock: FakeClock) -> None:
    room_id = await alice.create_room()
    said = []
    for _ in range(3):
        clock.advance(seconds=60)
        said.append((await alice.say(room_id, "x"), clock.now_ms()))
    path = f"{V1}/rooms/{room_id}/timestamp_to_event"
    assert (await alice.do("GET", path, ts=said[1][1] - 5, dir="f"))["event_id"] == said[1][0]
    assert (await alice.do("GET", path, ts=said[1][1] + 5, dir="b"))["event_id"] == said[1][0]
    assert outcome(await alice.ask("GET", path, ts=said[2][1] + 5, dir="f")) == (404, "M_NOT_FOUND")


async def test_what_cannot_be_an_event_is_refused(alice: Person) -> None:
    room_id = await alice.create_room()
    before = await alice.do("GET", f"/rooms/{room_id}/state")
    impossible: tuple[tuple[str, Any], ...] = (
        ("m.room.power_levels", {"users": {"@a:b": "many"}}),
        ("m.room.power_levels", {"events": []}),
        ("m.room.name", {"name": 5}),
        ("m.room.member", {"membership": "friend"}),
        ("m.room.name", {"name": 1.5}),
        ("m.room.name", {"huge": 2**60}),
        ("m.room.tombstone", {}),
        ("m.room.server_acl", {"allow": [], "deny": []}),
        ("m.room.name", {"name": "x" * 70_000}),
        ("m." + "x" * 300, {}),
        ("m.nul%00", {}),
    )
    for event_type, content in impossible:
        key = alice.user_id if event_type == "m.room.member" else ""
        answer = await alice.ask("PUT", f"/rooms/{room_id}/state/{event_type}/{key}", content)
        assert answer.status_code in (400, 413), answer.text
    assert await alice.do("GET", f"/rooms/{room_id}/state") == before


async def test_rooms_that_cannot_be_are_refused(alice: Person) -> None:
    await alice.create_room(room_alias_name="taken")
    for wish, errcode in (
        ({"room_version": 1}, "M_BAD_JSON"),
        ({"room_version": "0"}, "M_UNSUPPORTED_ROOM_VERSION"),
        ({"room_alias_name": "taken"}, "M_ROOM_IN_USE"),
        ({"invite": ["bob"]}, "M_INVALID_PARAM"),
        ({"preset": "nice"}, "M_INVALID_PARAM"),
        ({"power_level_content_override": {"ban": "50"}}, "M_BAD_JSON"),
        ({"power_level_content_override": {"users": {alice.user_id: 100}}}, "M_INVALID_ROOM_STATE"),
        ({"room_version": "10", "power_level_content_override": {"users": {}}, "name": "x"}, "M_INVALID_ROOM_STATE"),
    ):
        assert outcome(await alice.ask("POST", "/createRoom", wish)) == (400, errcode), wish
    assert len((await alice.do("GET", "/joined_rooms"))["joined_rooms"]) == 1


async def test_what_offends_is_reported(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room(preset="public_chat")
    event_id = await alice.say(room_id, "rude")
    path = f"/rooms/{room_id}/report/{event_id}"
    assert outcome(await bob.ask("POST", path, {"reason": "rude"})) == (404, "M_NOT_FOUND")
    await bob.join(room_id)
    assert await bob.do("POST", path, {"reason": "rude", "score": -100}) == {}
    assert await bob.do("POST", f"/rooms/{room_id}/report", {"reason": "rude"}) == {}
    assert outcome(await bob.ask("POST", "/rooms/!no:hs.test/report", {"reason": "x"})) == (404, "M_NOT_FOUND")
    assert await bob.do("POST", "/users/@alice:hs.test/report", {"reason": "rude"}) == {}


async def test_no_event_is_nested_so_deeply_that_it_cannot_be_told(alice: Person) -> None:
    room_id = await alice.create_room()
    path = f"{V3}/rooms/{room_id}/send/m.deep"

    async def send(depth: int) -> int:
        body = '{"a":' * depth + "1" + "}" * depth
        sent = await alice.client.put(f"{path}/{depth}", content=body, headers=bearing(alice.login))
        return sent.status_code

    assert [await send(depth) for depth in (239, 240, 300, 5000)] == [200, 400, 400, 400]
    for told in (f"/rooms/{room_id}/messages?dir=b", "/sync"):
        assert (await alice.ask("GET", told)).status_code == 200
