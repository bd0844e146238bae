"""A client that follows holds what a client that begins anew is told."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.versions import VERSIONS
from identity_server.homeserver.sync.state import changed_state
from identity_server.homeserver.sync.store import Change
from identity_server.homeserver.sync.timeline import Section
from identity_server.homeserver.timeline.stored import StoredEvent
from tests.homeserver.sync.conftest import Meet, Person, Syncing

MUCH = {"room": {"timeline": {"limit": 1000}}}


class Replica:
    """What a client makes of what it is told: rooms with their state by key and their timeline of event IDs."""

    def __init__(self, person: Person, *, state_after: bool) -> None:
        self.person = person
        self.client = Syncing(person, use_state_after=str(state_after).lower())
        self.state_after = state_after
        self.rooms: dict[str, dict[tuple[str, str], str]] = {}
        self.timelines: dict[str, list[str]] = {}
        self.invited: set[str] = set()

    async def sync(self, limit: int) -> None:
        since = self.client.since
        answer = (await self.client.sync(filter={"room": {"timeline": {"limit": limit}}})).get("rooms", {})
        for room_id in answer.get("invite", {}):
            self.invited.add(room_id)
        for room_id in answer.get("leave", {}):
            self.invited.discard(room_id)
            self.rooms.pop(room_id, None)
            self.timelines.pop(room_id, None)
        for room_id, room in answer.get("join", {}).items():
            self.invited.discard(room_id)
            await self._apply(room_id, room, since)

    async def _apply(self, room_id: str, room: dict[str, Any], since: str | None) -> None:
        is_new = room_id not in self.rooms
        timeline = [event["event_id"] for event in room["timeline"]["events"]]
        if room["timeline"]["limited"]:
            until = {} if is_new or since is None else {"to": since}
            missed = await self.person.messages(
                room_id, **{"from": room["timeline"]["prev_batch"], "limit": 1000, **until}
            )
            timeline = [event["event_id"] for event in missed["chunk"][::-1]] + timeline
        told = [*room["state_after" if self.state_after else "state"]["events"]]
        if not self.state_after:
            told += [event for event in room["timeline"]["events"] if "state_key" in event]
        state = self.rooms.setdefault(room_id, {})
        state.update({(event["type"], event["state_key"]): event["event_id"] for event in told})
        known = self.timelines.setdefault(room_id, [])
        known += [event_id for event_id in timeline if event_id not in known]


async def check(replica: Replica) -> None:
    fresh = Replica(replica.person, state_after=False)
    await fresh.sync(1000)
    assert replica.rooms == fresh.rooms
    assert replica.invited == fresh.invited
    for room_id, timeline in fresh.timelines.items():
        assert replica.timelines[room_id] == timeline, room_id


async def test_a_client_that_follows_holds_what_one_that_begins_anew_is_told(
    alice: Person, bob: Person, meet: Meet
) -> None:
    chance = random.Random(7)
    carol = await meet("carol")
    rooms = [await alice.create_room(preset="public_chat", name=f"{number}") for number in range(3)]
    replicas = [Replica(bob, state_after=False), Replica(bob, state_after=True)]

    async def attempt(person: Person, method: str, path: str, body: Any) -> None:
        answer = await person.ask(method, path, body)
        assert answer.status_code < 500, answer.text

    for step in range(90):
        room_id, person = chance.choice(rooms), chance.choice((alice, bob, bob, carol))
        path = f"/rooms/{room_id}"
        match chance.randrange(12):
            case 0 | 1 | 2:
                await attempt(person, "PUT", f"{path}/send/m.room.message/{step}", {"body": f"{step}"})
            case 3 | 4:
                await attempt(alice, "PUT", f"{path}/state/m.room.topic/", {"topic": f"{step}"})
            case 5:
                name = chance.choice("xyz")
                await attempt(alice, "PUT", f"{path}/state/org.example/{name}", {"step": step})
            case 6 | 7:
                await attempt(person, "POST", f"{path}/join", {})
            case 8:
                await attempt(chance.choice((bob, carol)), "POST", f"{path}/leave", {})
            case 9:
                act = chance.choice(("kick", "kick", "ban", "unban", "unban", "invite"))
                await attempt(alice, "POST", f"{path}/{act}", {"user_id": chance.choice((bob, carol)).user_id})
            case 10:
                await replicas[0].sync(chance.choice((1, 2, 5, 20)))
            case _:
                await replicas[1].sync(chance.choice((1, 2, 5, 20)))
        if step % 45 == 44:
            for replica in replicas:
                await replica.sync(2)
                await check(replica)
    for room_id in rooms:
        await attempt(alice, "POST", f"/rooms/{room_id}/unban", {"user_id": bob.user_id})
        await attempt(bob, "POST", f"/rooms/{room_id}/join", {})
    for replica in replicas:
        await replica.sync(2)
        assert len(replica.rooms) == len(rooms)
        await check(replica)


KEYS = [("a", ""), ("b", ""), ("c", "")]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[tuple[str, str] | None, dict[tuple[str, str], int]]]:
    """By position: the key of the event there (None: no state), and what the state holds then of keys that change.

    It may be anything, as after a fork; mostly it is the event itself.
    """
    history = []
    for position in range(1, draw(st.integers(1, 12)) + 1):
        key = draw(st.none() | st.sampled_from(KEYS))
        changes = {key: position} if key and draw(st.integers(0, 3)) else {}
        for other in draw(st.lists(st.sampled_from(KEYS), max_size=1)):
            changes[other] = draw(st.integers(1, position))
        history.append((key, changes))
    return history


def stored(position: int, key: tuple[str, str] | None) -> StoredEvent:
    pdu: dict[str, Any] = {"type": key[0] if key else "m", "room_id": "!r", "sender": "@a:b", "content": {}}
    if key:
        pdu["state_key"] = key[1]
    return StoredEvent(Event(f"${position}", pdu, VERSIONS["10"]), position, "accepted", None)


@given(histories(), st.integers(0, 12), st.integers(0, 5), st.booleans())
def test_whatever_becomes_of_forks_the_client_ends_with_the_current_state(
    history: list[tuple[tuple[str, str] | None, dict[tuple[str, str], int]]], since: int, limit: int, state_after: bool
) -> None:
    before: dict[tuple[str, str], str] = {}
    states: list[dict[tuple[str, str], str]] = [{}]
    end: dict[tuple[str, str], str] = {}
    changes = []
    for position, (_, changed) in enumerate(history, start=1):
        end |= {key: f"${event}" for key, event in changed.items()}
        states.append(dict(end))
        if position <= since:
            before = dict(end)
        else:
            changes += [Change("!r", *key, position, f"${event}") for key, event in changed.items()]
    new = [stored(position, key) for position, (key, _) in enumerate(history, start=1) if position > since]
    shown = tuple(new[len(new) - limit :] if limit < len(new) else new) if limit else ()
    start = (shown[0].position or 0) - 1 if shown else len(history)
    told = changed_state(Section(shown, start, len(shown) < len(new)), changes, state_after=state_after)
    client = {**before, **told.state}
    touched = {event.event.key for event in told.section.events if event.event.is_state}
    if not state_after:
        # What an event of the timeline replaces is what stood before the timeline.
        at_start = states[told.section.start]
        assert {key: client.get(key) for key in touched} == {key: at_start.get(key) for key in touched}
    if not state_after:
        client |= {event.event.key: event.event_id for event in told.section.events if event.event.is_state}
    else:
        assert told.section.events == shown
    assert client == end
    assert told.section.limited or len(told.section.events) == len(new)


def test_a_members_name_that_lost_in_a_fork_hides_nothing_but_a_membership_does() -> None:
    def became(position: int, membership: str) -> StoredEvent:
        content = {"membership": membership, "displayname": str(position)}
        pdu = {"type": "m.room.member", "state_key": "@a:b", "room_id": "!r", "sender": "@a:b", "content": content}
        return StoredEvent(Event(f"${position}", pdu, VERSIONS["12"]), position, "accepted", None)

    won = [Change("!r", "m.room.member", "@a:b", 1, "$1")]
    for last, expected in (("join", ["$1", "$2"]), ("leave", [])):
        section = Section((became(1, "join"), became(2, last)), 0, limited=False)
        told = changed_state(section, won, state_after=False).section
        assert [event.event_id for event in told.events] == expected
