"""What another server may send, and what comes of it."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.timeline import store
from tests.homeserver.federation.peer import Peer, open_peer, redacted
from tests.homeserver.federation.servers import Authority, Homeserver, Json, Person

LARGEST = 2**53 - 1


@pytest.fixture
async def peer(here: Homeserver, authority: Authority) -> AsyncIterator[Peer]:
    async with open_peer(here, authority) as peer:
        yield peer


@pytest.fixture
async def alice(here: Homeserver) -> Person:
    return await here.person("alice")


async def standing(here: Homeserver, event_id: str) -> str | None:
    async with here.state["resources"].database.reading() as session:
        stored = await store.get_event(session, event_id)
    return stored.standing if stored else None


async def test_an_event_is_taken_once_however_often_it_comes(peer: Peer, alice: Person) -> None:
    room_id = await alice.creates(preset="public_chat")
    room = await peer.joins(room_id)
    event = room.then(content={"body": "once"})
    for transaction_id in ("a", "a", "b"):
        assert await peer.send(event.pdu, event.pdu, transaction_id=transaction_id) == {event.event_id: {}}
    assert await alice.texts(room_id) == ["once"]


async def test_an_event_with_a_wrong_hash_counts_as_redacted_and_one_with_a_wrong_signature_not_at_all(
    peer: Peer, alice: Person
) -> None:
    room_id = await alice.creates(preset="public_chat")
    room = await peer.joins(room_id)
    tampered = room.then(content={"body": "original"})
    assert await peer.send({**tampered.pdu, "content": {"body": "changed"}}) == {tampered.event_id: {}}
    forged = room.event(sender=alice.user_id)
    assert "error" in (await peer.send(forged.pdu))[forged.event_id]
    unsigned = room.event()
    assert "error" in (await peer.send({**unsigned.pdu, "signatures": {}}))[unsigned.event_id]
    assert [event["content"] for event in await alice.history(room_id) if event["type"] == "m.room.message"] == [{}]


async def test_what_the_rules_forbid_is_rejected_and_what_builds_on_it_may_stand(
    peer: Peer, alice: Person, here: Homeserver
) -> None:
    room_id = await alice.creates(preset="public_chat")
    room = await peer.joins(room_id)
    refused = room.event("m.room.name", {"name": "Mine"}, state_key="")
    for _ in range(2):
        assert await peer.send(refused.pdu) == {refused.event_id: {}}  # it has been dealt with
    assert await standing(here, refused.event_id) == "rejected"
    after = room.event(prev_events=[refused.event_id], depth=refused.depth + 1)
    assert await peer.send(after.pdu) == {after.event_id: {}}
    assert await alice.texts(room_id) == ["hello"]
    assert ("m.room.name", "") not in await alice.state(room_id)


async def test_one_who_is_banned_cannot_speak_from_before_the_ban(peer: Peer, alice: Person, here: Homeserver) -> None:
    room_id = await alice.creates(preset="public_chat")
    room = await peer.joins(room_id)
    await alice.ok("POST", f"/rooms/{quote(room_id)}/ban", {"user_id": peer.mallory})
    evading = room.event()
    assert await peer.send(evading.pdu) == {evading.event_id: {}}
    assert await standing(here, evading.event_id) == "soft_failed"
    assert await alice.texts(room_id) == []
    said = await alice.says(room_id, "gone")
    async with here.state["resources"].database.reading() as session:
        stored = await store.get_event(session, said)
    assert stored is not None
    assert evading.event_id not in stored.event.prev_events


async def test_what_is_missing_is_asked_for(peer: Peer, alice: Person) -> None:
    room_id = await alice.creates(preset="public_chat")
    room = await peer.joins(room_id)
    events = [room.then(content={"body": str(number)}) for number in range(60)]

    def missing(request: Any) -> Json:
        # Twenty at a time, as others do.
        known = {event.event_id: number for number, event in enumerate(events)}
        latest = min(known[event_id] for event_id in request.state.body["latest_events"])
        return {"events": [event.pdu for event in events[max(0, latest - 20) : latest]]}

    peer.answers["get_missing_events"] = missing
    assert await peer.send(events[-1].pdu) == {events[-1].event_id: {}}
    assert await alice.texts(room_id) == [str(number) for number in range(60)]
    assert sum(asked.startswith("get_missing_events") for asked in peer.asked) == 3


async def test_history_that_nobody_tells_is_passed_over_by_asking_for_the_state(peer: Peer, alice: Person) -> None:
    room_id = await alice.creates(preset="public_chat")
    room = await peer.joins(room_id)
    before = dict(room.state)
    lost = room.then("m.room.member", {"membership": "join", "displayname": "M"}, state_key=peer.mallory)
    peer.answers["state_ids"] = lambda _request: {
        "pdu_ids": [event.event_id for event in before.values()],
        "auth_chain_ids": [event.event_id for event in before.values()],
    }
    peer.answers[f"event/{lost.event_id}"] = lambda _request: {"pdus": [lost.pdu]}
    since = (await alice.ok("GET", "/sync", timeout=0))["next_batch"]
    await alice.says(room_id, "before")
    told = room.then(content={"body": "after all"})
    event = room.then(content={"body": "and more"})
    # Of what comes right before an event its server has to tell.
    assert "error" in (await peer.send(event.pdu))[event.event_id]
    assert not any(asked.startswith("state") for asked in peer.asked)
    peer.answers["get_missing_events"] = lambda _request: {"events": [told.pdu]}
    assert await peer.send(event.pdu) == {event.event_id: {}}
    assert await alice.texts(room_id) == ["before", "after all", "and more"]
    # Clients are told only what is after the gap, so that they ask what was in it.
    for position in ({"since": since}, {"since": since, "full_state": "true"}, {}):
        timeline = (await alice.ok("GET", "/sync", timeout=0, **position))["rooms"]["join"][room_id]["timeline"]
        assert [one["event_id"] for one in timeline["events"]] == [told.event_id, event.event_id]
        assert timeline["limited"] is True
    state = await alice.state(room_id)
    assert state["m.room.member", peer.mallory] == lost.event_id


async def test_a_slash_behind_a_path_is_no_other_path(peer: Peer, alice: Person) -> None:
    room_id = await alice.creates(preset="public_chat")
    room = await peer.joins(room_id)
    event = room.then(content={"body": "said"})
    assert await peer.send(event.pdu, transaction_id="old/") == {event.event_id: {}}
    assert await alice.texts(room_id) == ["said"]
    query = f"event_id={quote(event.event_id)}"
    answer = await peer.ask("GET", f"/_matrix/federation/v1/state_ids/{quote(room_id)}/?{query}")
    assert room.state["m.room.create", ""].event_id in answer.json()["pdu_ids"]
    answer = await peer.ask("POST", f"/_matrix/federation/v1/get_missing_events/{quote(room_id)}/", {})
    assert answer.json() == {"events": []}


async def test_what_an_event_rests_on_may_come_with_its_past(peer: Peer, alice: Person) -> None:
    room_id = await alice.creates(preset="public_chat", room_version="11")
    room = await peer.joins(room_id)
    keys = [
        ("m.room.create", ""),
        ("m.room.power_levels", ""),
        ("m.room.join_rules", ""),
        ("m.room.member", peer.mallory),
    ]

    def renamed(name: str) -> Event:
        return room.then(
            "m.room.member",
            {"membership": "join", "displayname": name},
            state_key=peer.mallory,
            auth_events=[room.state[key].event_id for key in keys],
        )

    past = [renamed(f"M{number}") for number in range(12)]
    event = room.then(content={"body": "after all"})
    peer.answers["get_missing_events"] = lambda _request: {"events": [one.pdu for one in past]}
    assert await peer.send(event.pdu) == {event.event_id: {}}
    # One name in the middle is lost. So those after it cannot be had, and the state that rests on them is not taken.
    before = dict(room.state)
    lost = [renamed(name) for name in ("A", "B", "C")]
    told, last = room.then(content={"body": "told"}), room.then(content={"body": "last"})
    peer.answers["get_missing_events"] = lambda _request: {"events": [told.pdu]}
    peer.answers["state_ids"] = lambda _request: {
        "pdu_ids": [one.event_id for one in {**before, lost[2].key: lost[2]}.values()],
        "auth_chain_ids": [one.event_id for one in [*before.values(), *lost]],
    }
    for one in (lost[0], lost[2]):
        peer.answers[f"event/{one.event_id}"] = lambda _request, pdu=one.pdu: {"pdus": [pdu]}
    peer.asked.clear()
    assert "error" in (await peer.send(last.pdu))[last.event_id]
    # Who tells little has told all; and of the event that it sent itself it is not asked for the state.
    assert [sum(asked.startswith(way) for asked in peer.asked) for way in ("get_missing", "backfill", "state")] == [
        1,
        0,
        1,
    ]
    assert (await alice.state(room_id))["m.room.member", peer.mallory] == past[-1].event_id


async def test_what_is_rejected_for_its_auth_events_leaves_no_gap(peer: Peer, alice: Person) -> None:
    room_id = await alice.creates(preset="public_chat", room_version="11")
    room = await peer.joins(room_id)
    refused = room.event("m.room.name", {"name": "Mine"}, state_key="")
    resting = room.then(auth_events=[*room.last.auth_events, room.last.event_id, refused.event_id])
    after = room.then(content={"body": "after"})
    chain = [*room.state.values(), refused]
    peer.answers["event_auth"] = lambda _request: {"auth_chain": [one.pdu for one in chain]}
    assert await peer.send(resting.pdu, after.pdu) == {resting.event_id: {}, after.event_id: {}}
    assert not any(asked.startswith("get_missing_events") for asked in peer.asked)
    assert await alice.texts(room_id) == ["after"]


async def test_a_room_keeps_servers_out_by_its_list(alice: Person, here: Homeserver, authority: Authority) -> None:
    room_id = await alice.creates(preset="public_chat")
    async with open_peer(here, authority, host="127.0.0.1") as peer:
        room = await peer.joins(room_id)
        for acl in ({"allow": ["*"], "deny": ["127.*.?"]}, {"allow": ["*"], "allow_ip_literals": False}):
            await alice.sets(room_id, "m.room.server_acl", acl)
            event = room.event(content={"body": str(acl)})
            assert (await peer.send(event.pdu))[event.event_id]["errcode"] == "M_FORBIDDEN"
            typing = {"room_id": room_id, "user_id": peer.mallory, "typing": True}
            await peer.send(edus=[{"edu_type": "m.typing", "content": typing}])
            told = await alice.ok("GET", "/sync", timeout=0)
            ephemeral = told["rooms"]["join"][room_id]["ephemeral"]["events"]
            assert [event["content"] for event in ephemeral if event["type"] == "m.typing"] in ([], [{"user_ids": []}])
            for path in ("state_ids/{}?event_id=$a", "backfill/{}?v=$a&limit=1", "event_auth/{}/$a"):
                answer = await peer.ask("GET", f"/_matrix/federation/v1/{path.format(quote(room_id))}")
                assert (answer.status_code, answer.json()["errcode"]) == (403, "M_FORBIDDEN"), path
        assert await alice.texts(room_id) == []


async def test_whatever_is_sent_nothing_breaks(peer: Peer, alice: Person) -> None:
    room_id, other_id = await alice.creates(preset="public_chat"), await alice.creates(preset="public_chat")
    room, other = await peer.joins(room_id), await peer.joins(other_id)
    good = room.event()
    member = {"membership": "join"}
    hostile: list[Any] = [
        None,
        [],
        "event",
        {},
        {"room_id": room_id},
        {**good.pdu, "room_id": "!nul\0"},
        {**good.pdu, "room_id": {}},
        {**good.pdu, "type": "nul\0"},
        {**good.pdu, "content": []},
        {**good.pdu, "hashes": {"sha256": "!"}},
        {**good.pdu, "signatures": {peer.name: {"ed25519:p": "?"}}},
        {**good.pdu, "signatures": {peer.name: {"ed25519:p\0": "?"}, "\0": {}}},
        {**good.pdu, "depth": -1},
        {**good.pdu, "depth": LARGEST + 1},
        {**good.pdu, "prev_events": ["$a"] * 30},
        {**good.pdu, "auth_events": [1]},
        room.event(content={"body": "x" * 70_000}).pdu,
        room.event(content={"m.relates_to": {"event_id": "\0", "rel_type": "\0"}, "body": "\0"}).pdu,
        room.event(content={"nested": _nested(200)}).pdu,
        room.event(depth=LARGEST).pdu,
        room.event(origin_server_ts=LARGEST).pdu,
        room.event(prev_events=[]).pdu,
        room.event(prev_events=[room.last.event_id, room.last.event_id]).pdu,
        room.event(prev_events=[other.last.event_id]).pdu,
        room.event(prev_events=["$nowhere"]).pdu,
        room.event(auth_events=[]).pdu,
        room.event(auth_events=["$nowhere"]).pdu,
        room.event(auth_events=[*good.auth_events, *good.auth_events][:10]).pdu,
        room.event(auth_events=[event.event_id for event in other.state.values()][:10]).pdu,
        room.event("m.room.member", member, state_key=alice.user_id).pdu,
        room.event("m.room.member", {"membership": ["join"]}, state_key=peer.mallory).pdu,
        room.event("m.room.member", {"membership": "leave"}, state_key="@nobody").pdu,
        room.event("m.room.create", {"room_version": "12"}, state_key="").pdu,
        room.event("m.room.power_levels", {"users": {peer.mallory: 100}}, state_key="").pdu,
        room.event("m.room.power_levels", {"users": {"a\0": "100"}, "events": 5}, state_key="").pdu,
        room.event("m.room.redaction", {"redacts": room.state["m.room.create", ""].event_id}).pdu,
        room.event("m.room.redaction", {"redacts": "\0"}, redacts="\0").pdu,
        room.event("m.room.server_acl", {"allow": [["*"]], "deny": {"a": 1}}, state_key="").pdu,
        room.event("m.room.third_party_invite", {"public_keys": [[]]}, state_key="\0").pdu,
        room.event(
            "m.room.member", {"membership": "invite", "third_party_invite": {"signed": 1}}, state_key="@a:b"
        ).pdu,
        redacted(good),
    ]
    # One that goes in circles however it is asked.
    peer.answers["get_missing_events"] = lambda _request: {"events": [hostile[-1], {}, None, good.pdu]}
    peer.answers["backfill"] = lambda _request: {"pdus": [[], good.pdu]}
    peer.answers["state_ids"] = lambda _request: {"pdu_ids": ["$x", 1, None], "auth_chain_ids": "no"}
    peer.answers["event_auth"] = lambda _request: {"auth_chain": [good.pdu, 5]}
    for start in range(0, len(hostile), 20):
        await peer.send(*hostile[start : start + 20], edus=[None, {}, {"edu_type": 1}, {"edu_type": "m.typing"}])
    for edu_type in ("m.typing", "m.receipt", "m.presence", "m.direct_to_device", "m.device_list_update"):
        contents = [
            {},
            {"user_id": 1},
            {"user_id": "\0"},
            {"push": 1},
            {"messages": {"a": 1}},
            {room_id: {"m.read": 1}},
        ]
        await peer.send(edus=[{"edu_type": edu_type, "content": content} for content in contents])
    fine = room.event(content={"body": "fine"})
    elsewhere = other.event(content={"body": "elsewhere"})
    assert await peer.send(fine.pdu, elsewhere.pdu) == {fine.event_id: {}, elsewhere.event_id: {}}
    await alice.says(room_id, "well")
    assert {"fine", "well"} <= set(await alice.texts(room_id))
    assert await alice.texts(other_id) == ["elsewhere"]


async def test_whatever_is_made_of_an_event_by_chance_does_no_harm(peer: Peer, alice: Person) -> None:
    room_id = await alice.creates(preset="public_chat", room_version="11")
    room = await peer.joins(room_id)
    chance = random.Random(11)
    kinds = ("m.room.message", "m.room.member", "m.room.power_levels", "m.room.topic", "m.room.redaction", "org.x")
    for _ in range(6):
        pdus = []
        for _ in range(20):
            fields = {name: _junk(chance) for name in chance.sample(_FIELDS, chance.randint(0, 2))}
            content = {_text(chance): _junk(chance) for _ in range(3)} | {"membership": chance.choice(("join", "x"))}
            with contextlib.suppress(ValueError, TypeError, AttributeError):  # what cannot even be signed
                pdus.append(room.event(chance.choice(kinds), content, **fields).pdu)
        await peer.send(*pdus)
    fine = room.event(content={"body": "fine"})
    assert await peer.send(fine.pdu) == {fine.event_id: {}}
    await alice.says(room_id, "well")
    assert {"fine", "well"} <= set(await alice.texts(room_id))


async def test_nonsense_in_paths_and_bodies_is_refused(peer: Peer, alice: Person) -> None:
    room_id = await alice.creates(preset="public_chat")
    await peer.joins(room_id)
    name, nul = quote(room_id), "%00"
    for path in (
        f"event/{nul}",
        f"state/{nul}?event_id=$a",
        f"state/{name}?event_id={nul}",
        f"state_ids/{name}?event_id={nul}",
        f"state_ids/{name}",
        f"event_auth/{name}/{nul}",
        f"backfill/{name}?v={nul}&limit=1",
        f"backfill/{name}?v=$a&limit=-1&limit=x",
        f"backfill/{name}?v=$a&limit={10**30}",
        f"timestamp_to_event/{name}?ts={10**30}&dir=f",
        f"timestamp_to_event/{name}?ts=1&dir=x",
        f"make_join/{nul}/{nul}?ver={nul}",
        f"make_leave/{name}/{nul}",
        f"hierarchy/{nul}",
        f"query/directory?room_alias={nul}",
        f"query/profile?user_id={nul}",
        f"publicRooms?limit={10**30}&since={nul}",
        f"user/devices/{nul}",
        f"media/download/{nul}",
    ):
        answer = await peer.ask("GET", f"/_matrix/federation/v1/{path}")
        assert answer.status_code < 500, (path, answer.status_code)
    for method, path, body in (
        ("POST", f"v1/get_missing_events/{name}", {"latest_events": ["\0"], "earliest_events": [1]}),
        ("POST", f"v1/get_missing_events/{name}", {"latest_events": [], "earliest_events": [], "limit": 10**30}),
        ("PUT", "v1/send/1", {"pdus": {}}),
        ("PUT", "v1/send/2", {"pdus": [{}] * 51}),
        ("PUT", "v1/send/3", {"edus": [{}] * 101}),
        ("PUT", f"v1/send/{nul}", {"pdus": []}),
        ("PUT", f"v2/send_join/{name}/{nul}", {}),
        ("PUT", f"v2/invite/{nul}/$a", {"event": {}, "room_version": {}}),
        ("PUT", f"v1/exchange_third_party_invite/{name}", {"type": "m.room.member", "content": {}}),
        ("POST", "v1/user/keys/query", {"device_keys": {"\0": ["\0"]}}),
        ("POST", "v1/user/keys/claim", {"one_time_keys": 1}),
    ):
        answer = await peer.ask(method, f"/_matrix/federation/{path}", body)
        assert answer.status_code < 500, (path, answer.status_code)


async def test_a_server_that_answers_slowly_keeps_only_its_own_event_waiting(
    peer: Peer, alice: Person, here: Homeserver, authority: Authority
) -> None:
    room_id = await alice.creates(preset="public_chat")
    room = await peer.joins(room_id)
    release = asyncio.Event()
    waiting = room.event(prev_events=["$nowhere"])
    slow = asyncio.create_task(_held_until(peer, release, waiting.pdu))
    async with open_peer(here, authority, b"q" * 32) as other:
        quick = await other.joins(room_id)
        event = quick.event(content={"body": "quick"})
        async with asyncio.timeout(5):
            assert await other.send(event.pdu) == {event.event_id: {}}
            await alice.says(room_id, "too")
    assert await alice.texts(room_id) == ["quick", "too"]
    release.set()
    await slow


async def _held_until(peer: Peer, release: asyncio.Event, pdu: Any) -> None:
    hear = peer.hear

    async def held(request: Any) -> Any:
        await release.wait()
        return await hear(request)

    object.__setattr__(peer, "hear", held)
    await peer.send(pdu)


_FIELDS = (
    "prev_events",
    "auth_events",
    "depth",
    "origin_server_ts",
    "state_key",
    "sender",
    "type",
    "redacts",
    "origin",
)


def _text(chance: random.Random) -> str:
    return "".join(chance.choice("ab$@!:\0 \u00e9\U0001f600") for _ in range(chance.randint(0, 12)))


def _junk(chance: random.Random, levels: int = 3) -> Any:
    match chance.randrange(9 if levels else 6):
        case 0:
            return None
        case 1:
            return chance.choice((0, -1, 1, LARGEST, -LARGEST, True))
        case 2 | 3:
            return _text(chance)
        case 4:
            return chance.choice((f"${_text(chance)}", f"@{_text(chance)}:a", f"!{_text(chance)}"))
        case 5:
            return "x" * chance.choice((10, 300))
        case 6 | 7:
            return [_junk(chance, levels - 1) for _ in range(chance.randint(0, 4))]
        case _:
            return {_text(chance): _junk(chance, levels - 1) for _ in range(chance.randint(0, 4))}


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value
