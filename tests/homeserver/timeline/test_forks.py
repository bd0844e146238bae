"""Whatever order events come in, and from whichever part of the graph: what is known of the room agrees with itself."""

import random
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import select

from identity_server.homeserver.events.event import StateKey
from identity_server.homeserver.events.refusal import NotAllowed
from identity_server.homeserver.events.state_resolution import resolve
from identity_server.homeserver.streams import current_position
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.models import Membership
from identity_server.homeserver.timeline.room import EXTREMITIES, ROOMS
from identity_server.homeserver.timeline.state import StateGroups, StoredEvents
from identity_server.homeserver.timeline.stored import EVENTS, REJECTED, SOFT_FAILED
from tests.homeserver.timeline.conftest import ALICE, BOB, Shared

State = dict[StateKey, str]


class Graph:
    """The plainest account of the room: the state after each event, computed anew."""

    def __init__(self, room: Shared) -> None:
        self.room = room
        self.parents: dict[str, tuple[str, ...]] = {}
        self.states: dict[str, State] = {}

    async def read(self) -> None:
        async with self.room.database.reading() as session:
            ids = list(await session.scalars(select(EVENTS.c.event_id).order_by(EVENTS.c.position)))
            events = {event_id: stored.event for event_id, stored in (await store.get_events(session, ids)).items()}
            for event_id in ids:
                if event_id in self.states:
                    continue
                event = events[event_id]
                before = [self.states[parent] for parent in event.prev_events]
                state = await resolve(event.version, before, StoredEvents(session)) if before else {}
                self.parents[event_id] = event.prev_events
                self.states[event_id] = {**state, event.key: event_id} if event.is_state else state

    @property
    def tips(self) -> set[str]:
        return self.parents.keys() - {parent for parents in self.parents.values() for parent in parents}

    async def check(self) -> None:
        await self.read()
        room = self.room
        async with room.database.reading() as session:
            tips = set(await session.scalars(select(EXTREMITIES.c.event_id)))
            assert tips == self.tips
            states = [self.states[tip] for tip in sorted(tips)]
            current = await resolve(room.version, states, StoredEvents(session))
            assert await store.current_state_ids(session, room.room_id) == current
            group = await session.scalar(select(ROOMS.c.state_group))
            # Read anew, as another process would.
            assert await StateGroups().state_of(session, group) == current
            now = await current_position(session)
            assert await store.state_at_position(session, room.room_id, now) == current
            stored = await store.get_events(session, list(self.states))
            for event_id, state in self.states.items():
                assert await room.timeline.groups.state_of(session, stored[event_id].state_group) == state
            rows = await session.scalars(select(Membership).where(Membership.room_id == room.room_id))
            members = {row.user_id: row.membership for row in rows}
            said = {
                key: stored[event_id].event.membership
                for (type_, key), event_id in current.items()
                if "member" in type_
            }
            assert members == said
            there = {user_id.partition(":")[2] for user_id, membership in said.items() if membership == "join"}
            assert await store.servers_in_room(session, room.room_id) == there


_WAYS: tuple[tuple[str, dict[str, Any], str | None], ...] = (
    ("m.room.message", {"body": "x"}, None),
    ("m.room.topic", {"topic": "a"}, ""),
    ("m.room.topic", {"topic": "b"}, ""),
    ("m.room.name", {"name": "c"}, ""),
    ("m.room.member", {"membership": "ban"}, "@carol:third.test"),
    ("m.room.member", {"membership": "leave"}, "@carol:third.test"),
    ("m.room.member", {"membership": "leave"}, ALICE),
    ("m.room.join_rules", {"join_rule": "invite"}, ""),
    ("m.room.join_rules", {"join_rule": "public"}, ""),
)


@pytest.mark.parametrize("version", ["10", "12"])
@pytest.mark.parametrize("seed", [1, 2])
async def test_what_is_known_of_a_room_is_what_its_graph_says(room: Shared, seed: int) -> None:
    chance = random.Random(seed)
    graph = Graph(room)
    await graph.check()
    for _ in range(20):
        event_type, content, key = chance.choice(_WAYS)
        recent = list(graph.parents)[-6:]
        try:
            if chance.random() < 0.3 and key != ALICE:
                await room.say(event_type, dict(content), key)
            elif event_type == "m.room.message" and chance.random() < 0.3:
                join = {"membership": "join"}
                await room.hear(
                    [chance.choice(recent)], "m.room.member", join, "@carol:third.test", sender="@carol:third.test"
                )
            else:
                parents = chance.sample(recent, min(len(recent), chance.randint(1, 3)))
                await room.hear(parents, event_type, dict(content), key)
        except NotAllowed:
            continue
        await graph.check()


async def test_the_next_event_of_ours_merges_all_forks(room: Shared) -> None:
    graph = Graph(room)
    await graph.read()
    (start,) = graph.tips
    forks = [await room.hear([start], "m.room.message", {"body": str(number)}) for number in range(25)]
    await graph.check()
    first = await room.say("m.room.message", {"body": "hello"})
    assert len(first.event.prev_events) == 20  # as many as an event may have
    second = await room.say("m.room.message", {"body": "again"})
    assert {*first.event.prev_events, *second.event.prev_events} == {fork.event_id for fork in forks} | {first.event_id}
    await graph.check()
    assert graph.tips == {second.event_id}


async def test_an_event_that_was_refused_is_built_upon_by_nobody_of_ours(room: Shared) -> None:
    graph = Graph(room)
    await graph.read()
    (start,) = graph.tips
    rejected = await room.hear([start], "m.room.topic", {"topic": "no"}, "", standing=REJECTED)
    failed = await room.hear([rejected.event_id], "m.room.topic", {"topic": "hardly"}, "", standing=SOFT_FAILED)
    assert (await room.say("m.room.message", {"body": "x"})).event.prev_events == (start,)
    # What stands behind them is behind whoever builds on them.
    last = await room.hear([failed.event_id], "m.room.message", {"body": "y"})
    async with room.database.reading() as session:
        assert await store.state_event(session, room.room_id, "m.room.topic") is not None
        tips = set(await session.scalars(select(EXTREMITIES.c.event_id)))
    assert last.event_id in tips
    assert start not in tips


async def test_a_redaction_holds_also_if_it_comes_before_its_target(room: Shared) -> None:
    graph = Graph(room)
    await graph.read()
    (start,) = graph.tips
    late = await room.write([start], "m.room.message", {"body": "oops"})
    redaction = await room.hear([start], "m.room.redaction", {}, redacts=late.event_id)
    async with room.database.reading() as session:
        unproven = await store.get_event(session, redaction.event_id)
    assert unproven is not None
    assert unproven.position is None
    await room.arrive(late)
    async with room.database.reading() as session:
        stored = await store.get_events(session, [late.event_id, redaction.event_id])
    assert stored[late.event_id].event.content == {}
    assert stored[late.event_id].redacted_by == redaction.event_id
    shown = [stored[event_id].position for event_id in (late.event_id, redaction.event_id)]
    assert None not in shown
    assert shown == sorted(shown, key=lambda position: position or 0)


async def test_a_redaction_without_right_is_never_shown(room: Shared) -> None:
    said = await room.say("m.room.message", {"body": "mine"})
    await room.say("m.room.power_levels", {"users": {ALICE: 100}}, "")
    graph = Graph(room)
    await graph.read()
    redaction = await room.hear(list(graph.tips), "m.room.redaction", {}, redacts=said.event_id, sender=BOB)
    async with room.database.reading() as session:
        stored = await store.get_events(session, [said.event_id, redaction.event_id])
    assert stored[said.event_id].event.content == {"body": "mine"}
    assert stored[redaction.event_id].position is None


async def test_a_group_that_was_rolled_back_is_not_remembered(room: Shared) -> None:
    groups = room.timeline.groups
    with suppress(RuntimeError):
        async with room.database.transaction() as session:
            group = await groups.add(session, room.room_id, None, {("m.gone", ""): "$gone"})
            assert await groups.state_of(session, group) == {("m.gone", ""): "$gone"}
            raise RuntimeError
    async with room.database.transaction() as session:
        again = await groups.add(session, room.room_id, None, {("m.here", ""): "$here"})
    async with room.database.reading() as session:
        assert await groups.state_of(session, again) == {("m.here", ""): "$here"}


async def test_states_far_from_a_whole_one_are_read_all_the_same(room: Shared) -> None:
    expected: State = {}
    group: int | None = None
    async with room.database.transaction() as session:
        for number in range(250):
            change = {("m.test", str(number % 40)): f"${number}"}
            group = await room.timeline.groups.add(session, room.room_id, group, change)
            expected.update(change)
    async with room.database.reading() as session:
        assert await StateGroups().state_of(session, group) == expected
