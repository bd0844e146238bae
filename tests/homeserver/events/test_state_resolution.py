"""State resolution: what holds in any room, by whatever way it has come about, and a few rooms told by hand."""

import time
from collections.abc import Mapping, Sequence
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from identity_server.homeserver.events.auth_rules import auth_keys
from identity_server.homeserver.events.event import CREATE, JOIN_RULES, POWER_LEVELS, Event, StateKey, StateMap, member
from identity_server.homeserver.events.power_levels import PowerLevels
from identity_server.homeserver.events.state_resolution import resolve
from identity_server.homeserver.events.versions import VERSIONS, RoomVersion
from tests.homeserver.events.random_rooms import ALICE, BOB, CAROL, DAVE, ERIN, Known, RandomRoom, drive

any_version = st.sampled_from(list(VERSIONS.values()))
any_random = st.randoms(use_true_random=False)
every_version = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)


def any_order(random: Random, events: Mapping[str, Event]) -> list[Event]:
    """The events, each after its parents and what it cites, otherwise at random."""
    ordered: list[Event] = []
    waiting = dict(events)
    while waiting:
        ready = [e for e in waiting.values() if not waiting.keys() & {*e.prev_events, *e.auth_events}]
        ordered.append(waiting.pop(random.choice(ready).event_id))
    return ordered


# What holds in any room


@settings(max_examples=60, deadline=None)
@given(any_version, any_random)
def test_in_whichever_order_events_arrive_the_state_is_the_same(version: RoomVersion, random: Random) -> None:
    room = RandomRoom(version, random).grow(15)
    arrived: dict[str, Event] = {}
    after: dict[str, StateMap] = {}
    for event in any_order(random, room.events):
        parents = [after[parent] for parent in event.prev_events]
        random.shuffle(parents)
        # Nobody knows more than what has arrived; and a state says nothing by its order.
        shuffled = [dict(random.sample(list(state.items()), len(state))) for state in parents]
        before = drive(resolve(version, shuffled, Known(arrived))) if parents else {}
        changed = event.is_state and not event.rejected
        after[event.event_id] = {**before, event.key: event.event_id} if changed else before
        arrived[event.event_id] = event
    assert after == room.after
    tips = [after[tip] for tip in room.tips]
    random.shuffle(tips)
    assert drive(resolve(version, tips, Known(arrived))) == room.resolve([room.after[tip] for tip in room.tips])


@settings(max_examples=60, deadline=None)
@given(any_version, any_random)
def test_what_is_agreed_on_stands_and_what_is_resolved_was_somewhere(version: RoomVersion, random: Random) -> None:
    room = RandomRoom(version, random).grow(15)
    states = [random.choice(list(room.after.values())) for _ in range(random.choice((1, 2, 3, 4)))]
    resolved = room.resolve(states)
    agreed = set.intersection(*(set(state.items()) for state in states))
    assert agreed <= resolved.items()
    assert all(room.events[event_id].key == key for key, event_id in resolved.items())
    # Resolving again what has been resolved changes nothing.
    assert room.resolve([resolved, resolved]) == resolved
    assert room.resolve([*states, *states]) == resolved


def levels_of(room: RandomRoom, power_levels: Event | None) -> PowerLevels:
    create = next(event for event in room.events.values() if event.key == CREATE)
    return PowerLevels(create, power_levels)


@settings(max_examples=40, deadline=None)
@given(any_version, any_random)
def test_all_power_in_any_fork_was_given_by_those_who_had_it(version: RoomVersion, random: Random) -> None:
    room = RandomRoom(version, random).grow(25)
    forks = [[random.choice(list(room.after.values())) for _ in range(3)] for _ in range(5)]
    states = [*room.after.values(), *(room.resolve(fork) for fork in forks)]
    for event_id in {state[POWER_LEVELS] for state in states if POWER_LEVELS in state}:
        event = room.events[event_id]
        cited = {room.events[cited].key: room.events[cited] for cited in event.auth_events}
        before, after = levels_of(room, cited.get(POWER_LEVELS)), levels_of(room, event)
        power = before.of(event.sender)
        assert power >= before.needed_for("m.room.power_levels", is_state=True)
        if POWER_LEVELS not in cited:
            continue  # the first: whoever may send it says what they like
        for user in (ALICE, BOB, CAROL, DAVE, ERIN, "@nobody:anywhere"):
            if after.of(user) > before.of(user):
                assert after.of(user) <= power, user
            elif after.of(user) < before.of(user) and user != event.sender:
                default_was_lowered = user not in event.content.get("users", {}) and before.of(user) <= power
                assert before.of(user) < power or default_was_lowered, user


@settings(max_examples=40, deadline=None)
@given(any_version, any_random)
def test_who_has_no_power_gains_none_and_drives_nobody_out(version: RoomVersion, random: Random) -> None:
    room = RandomRoom(version, random, nonsense=0.1)
    before = room.settle()
    users = {BOB: 50} if version.privileged_creators else {ALICE: 100, BOB: 50}
    levels = {"users": users, "users_default": 0, "state_default": 50, "invite": 0, "events_default": 0}
    draft = {"sender": ALICE, "type": "m.room.power_levels", "state_key": "", "content": levels}
    begun = room.send(draft, room.tips, before)
    assume(not begun.rejected and begun.event_id in room.tips)  # or else Alice herself may not, as the room began
    kept = {
        key: event_id for key, event_id in room.settle().items() if key in (POWER_LEVELS, JOIN_RULES, member(ALICE))
    }
    room.grow(20, only=(CAROL, DAVE, ERIN))
    forks = [[random.choice(list(room.after.values())) for _ in range(3)] for _ in range(5)]
    for state in [*room.after.values(), *(room.resolve(fork) for fork in forks)]:
        assert kept.items() <= state.items()


# Rooms told by hand


class Told:
    """A room whose events have short names; ``auth_events`` are taken from the state that is handed in."""

    def __init__(self, version: RoomVersion) -> None:
        self.version = version
        self.events: dict[str, Event] = {}
        create: dict[str, Any] = {"creator": ALICE, "room_version": version.identifier}
        self.room_id = "!create" if version.room_id_is_create_event_id else "!room:one"
        self.start = self.add({}, "create", ALICE, "m.room.create", create)
        self.start = self.add(self.start, "alice", ALICE, "m.room.member", {"membership": "join"}, ALICE)

    def add(
        self, state: StateMap, name: str, sender: str, event_type: str, content: Any, state_key: str = "", ts: int = 0
    ) -> dict[StateKey, str]:
        """The state after the event."""
        keys = auth_keys(event_type, sender, state_key, content, self.version)
        pdu = {
            "room_id": self.room_id,
            "type": event_type,
            "state_key": state_key,
            "sender": sender,
            "content": content,
            "origin_server_ts": ts or len(self.events),
            "depth": len(self.events),
            "prev_events": list(self.events)[-1:],
            "auth_events": [state[key] for key in sorted(keys) if key in state],
            "signatures": {},
        }
        if event_type == "m.room.create" and self.version.room_id_is_create_event_id:
            del pdu["room_id"]
        event = Event(f"${name}", pdu, self.version)
        self.events[event.event_id] = event
        return {**state, event.key: event.event_id}

    def levels(self, state: StateMap, name: str, sender: str, ts: int = 0, **levels: Any) -> dict[StateKey, str]:
        users = {} if self.version.privileged_creators else {ALICE: 100}
        content = {**levels, "users": {**users, **levels.get("users", {})}}
        return self.add(state, name, sender, "m.room.power_levels", content, ts=ts)

    def moves(self, state: StateMap, name: str, sender: str, target: str, membership: str, ts: int = 0) -> Any:
        return self.add(state, name, sender, "m.room.member", {"membership": membership}, target, ts)

    def resolve(self, *states: StateMap) -> dict[StateKey, str]:
        return drive(resolve(self.version, states, Known(self.events)))

    def with_users(self, *users: str) -> dict[StateKey, str]:
        state = self.add(self.start, "public", ALICE, "m.room.join_rules", {"join_rule": "public"})
        for user in users:
            state = self.moves(state, user[1:4], user, user, "join")
        return state


@every_version
def test_a_ban_wins_over_what_the_banned_do_in_another_fork(version: str) -> None:
    told = Told(version)
    begun = told.levels(told.with_users(BOB), "levels", ALICE, users={BOB: 50})
    banned = told.moves(begun, "ban", ALICE, BOB, "ban", ts=100)
    evading = told.add(begun, "topic", BOB, "m.room.topic", {"topic": "mine"}, ts=50)
    evading = told.moves(evading, "rename", BOB, BOB, "join", ts=51)
    resolved = told.resolve(banned, evading)
    assert resolved[member(BOB)] == "$ban"
    assert ("m.room.topic", "") not in resolved
    assert resolved == told.resolve(evading, banned)


@every_version
def test_the_mightier_wins_when_two_change_the_power_levels(version: RoomVersion) -> None:
    told = Told(version)
    begun = told.levels(told.with_users(BOB), "levels", ALICE, users={BOB: 60})
    alice = told.levels(begun, "demotion", ALICE, ts=200, users={BOB: 0})
    bob = told.levels(begun, "coup", BOB, ts=100, users={BOB: 60, CAROL: 60})
    assert told.resolve(alice, bob)[POWER_LEVELS] == "$demotion"


@every_version
def test_of_equals_in_time_the_event_id_decides(version: RoomVersion) -> None:
    told = Told(version)
    begun = told.levels(told.with_users(BOB), "levels", ALICE, state_default=0)
    topics = [told.add(begun, name, BOB, "m.room.topic", {"topic": name}, ts=100) for name in ("a", "b", "c")]
    assert told.resolve(*topics)[("m.room.topic", "")] == "$c"
    later = told.add(begun, "0", BOB, "m.room.topic", {"topic": "later"}, ts=101)
    assert told.resolve(*topics, later)[("m.room.topic", "")] == "$0"


@every_version
def test_what_rests_on_later_power_levels_comes_later_whenever_it_was_sent(version: RoomVersion) -> None:
    """ "Mainline ordering"."""
    told = Told(version)
    begun = told.levels(told.with_users(BOB), "first", ALICE, state_default=0)
    old = told.add(begun, "old", BOB, "m.room.topic", {"topic": "old"}, ts=900)
    second = told.levels(begun, "second", ALICE, state_default=0, kick=60)
    new = told.add(second, "new", BOB, "m.room.topic", {"topic": "new"}, ts=100)
    assert told.resolve(old, new)[("m.room.topic", "")] == "$new"


@every_version
def test_a_rejected_event_lends_no_authority(version: RoomVersion) -> None:
    """ "Iterative auth checks": what is missing comes from ``auth_events``, if they are not rejected."""
    told = Told(version)
    told.moves(told.start, "bob", BOB, BOB, "join")
    told.levels(told.start, "levels", ALICE, state_default=0)
    with_bob = {**told.start, POWER_LEVELS: "$levels", member(BOB): "$bob"}
    topic = told.add(with_bob, "topic", BOB, "m.room.topic", {"topic": "mine"})
    del topic[member(BOB)]
    assert told.resolve(topic, told.start).get(("m.room.topic", "")) == "$topic"
    bob = told.events["$bob"]
    told.events["$bob"] = Event(bob.event_id, bob.pdu, bob.version, rejected=True)
    assert ("m.room.topic", "") not in told.resolve(topic, told.start)


@every_version
def test_what_was_allowed_when_it_was_sent_stays_allowed_since_version_12(version: RoomVersion) -> None:
    """A server has lost Bob's join, from a time when all might join; now they may not, and both servers know that.

    Version 2 begins with what both agree on, by which Bob may not join; 2.1 with nothing, so that his join rests on
    what he cited. (Carol's join, which both know, cites it too: so it is not itself in conflict.)
    """
    told = Told(version)
    told_all = told.add(told.with_users(BOB, CAROL), "private", ALICE, "m.room.join_rules", {"join_rule": "invite"})
    lost = {key: event_id for key, event_id in told_all.items() if key != member(BOB)}
    assert told.resolve(told_all, lost) == (told_all if version.resolves_from_nothing else lost)


@every_version
def test_nothing_and_one_thing_need_no_resolution(version: RoomVersion) -> None:
    told = Told(version)
    known = Known(told.events)
    assert drive(resolve(version, [], known)) == {}
    assert drive(resolve(version, [{}, {}], known)) == {}
    assert drive(resolve(version, [told.start], known)) == told.start
    assert drive(resolve(version, [told.start, dict(told.start)], known)) == told.start
    assert known.asked == set()
    assert told.resolve({}, told.start) == told.start


@every_version
def test_what_is_not_known_here_is_passed_over(version: RoomVersion) -> None:
    told = Told(version)
    begun = told.levels(told.with_users(BOB), "levels", ALICE, state_default=0)
    topic = told.add(begun, "topic", BOB, "m.room.topic", {"topic": "mine"})
    lost = {**begun, ("m.room.topic", ""): "$lost", ("m.room.name", ""): "$lost too"}
    assert told.resolve(topic, lost) == topic
    del told.events["$levels"]
    assert told.resolve(topic, lost).keys() >= begun.keys()


# Large rooms


@cache
def large_room(version_id: str, members: int) -> tuple[Told, StateMap]:
    version = VERSIONS[version_id]
    told = Told(version)
    state = told.levels(told.with_users(BOB, CAROL), "levels", ALICE, users={BOB: 50})
    begun = dict(state)
    for number in range(members):
        user = f"@user{number}:server{number % 50}"
        state[member(user)] = told.moves(begun, f"member{number}", user, user, "join")[member(user)]
    return told, state


def resolved_in_ms(told: Told, states: Sequence[StateMap]) -> tuple[float, dict[StateKey, str], set[str]]:
    known = Known(told.events)
    begun = time.process_time()
    resolved = drive(resolve(told.version, states, known))
    return (time.process_time() - begun) * 1000, resolved, known.asked


@pytest.mark.parametrize("version", ["11", "12"])
def test_a_fork_in_a_room_of_20000_is_resolved_by_looking_at_the_fork(version: str) -> None:
    told, state = large_room(version, 20_000)
    topic = told.add(state, "topic", BOB, "m.room.topic", {"topic": "mine"})
    banned = told.moves(state, "ban", ALICE, CAROL, "ban")
    worked_ms, resolved, asked = resolved_in_ms(told, [topic, banned])
    assert resolved == {**topic, member(CAROL): "$ban"}
    assert len(asked) < 20
    assert worked_ms < 500  # some 20


@pytest.mark.parametrize("version", ["11", "12"])
def test_where_all_of_20000_have_a_say_it_still_takes_no_time_to_speak_of(version: str) -> None:
    told, state = large_room(version, 20_000)
    # Two changes on one side: the first of them is in the auth difference, unless somebody else rests on it.
    once = told.moves(state, "once", CAROL, CAROL, "join")
    twice = told.moves(once, "twice", CAROL, CAROL, "join")
    worked_ms, resolved, asked = resolved_in_ms(told, [state, twice])
    assert resolved == twice
    assert len(asked) < 20_100
    assert worked_ms < 1000  # some 40
    # Nor where the two sides have nothing in common.
    worked_ms, resolved, _ = resolved_in_ms(told, [{}, twice])
    assert resolved == twice
    assert worked_ms < 5000  # some 500
