"""State resolution ("State resolution" of the room versions): version 2, and 2.1 from room version 12 on.

Where the specification leaves a choice, and in two places where nobody does what it says, this does as the servers
that are out there, since what counts is that all come to the same state: see ``is_power_event`` and
``with_auth_chains``.
"""

import asyncio
import heapq
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from identity_server.homeserver.events.auth_chains import AuthChains, EventSource
from identity_server.homeserver.events.auth_rules import auth_keys, authorise
from identity_server.homeserver.events.event import CREATE, JOIN_RULES, POWER_LEVELS, Event, StateKey, StateMap
from identity_server.homeserver.events.power_levels import Level, PowerLevels
from identity_server.homeserver.events.refusal import NotAllowed
from identity_server.homeserver.events.versions import RoomVersion

__all__ = ["EventSource", "resolve"]

Events = Mapping[str, Event]

# Others get their turn after so many events.
_TURN = 100


async def resolve(version: RoomVersion, states: Sequence[StateMap], source: EventSource) -> dict[StateKey, str]:
    """The resolution of ``states``, the same in whichever order they and their keys come.

    ``source`` is asked for the conflicted events, for their auth chains, and for as much of the unconflicted state as
    the outcome depends on. Events that it does not know are passed over.
    """
    unconflicted, conflicted = separate(states)
    if not conflicted:
        return unconflicted
    chains = await AuthChains.of(conflicted, source)
    full = await chains.full_conflicted_set(states, unconflicted, source, with_subgraph=version.resolves_from_nothing)
    events = {**chains.events, **await _referred_to(full, chains.events, unconflicted, source)}
    # Step 1
    picked = with_auth_chains({event_id for event_id in full if is_power_event(events[event_id])}, full, events)
    power_events = reverse_topological_power_ordering(picked, events)
    # Step 2
    partial = {} if version.resolves_from_nothing else dict(unconflicted)
    await iterative_auth_checks(power_events, partial, events)
    # Step 3
    mainline = await mainline_of(partial.get(POWER_LEVELS), events, source)
    others = mainline_ordering(full - picked, mainline, events)
    # Step 4
    await iterative_auth_checks(others, partial, events)
    # Step 5
    return {**partial, **unconflicted}


def separate(states: Sequence[StateMap]) -> tuple[dict[StateKey, str], set[str]]:
    """The unconflicted state map and the conflicted state set."""
    first, *others = states or [{}]
    unconflicted = {
        key: event_id for key, event_id in first.items() if all(state.get(key) == event_id for state in others)
    }
    conflicted: set[str] = set()
    for state in states:
        if len(state) != len(unconflicted):
            conflicted |= {event_id for key, event_id in state.items() if key not in unconflicted}
    return unconflicted, conflicted


def is_power_event(event: Event) -> bool:
    """Whether it might remove someone's ability to do something in the room.

    As others have it, only the power levels and join rules that hold are meant, those without a state key of their
    own; and ``m.room.create``, which comes before everything anyway.
    """
    if event.membership in ("leave", "ban"):
        return event.sender != event.state_key
    return event.key in (CREATE, POWER_LEVELS, JOIN_RULES)


def with_auth_chains(power_events: Collection[str], full: Collection[str], events: Events) -> set[str]:
    """``power_events`` and those in their auth chains that belong to the ``full`` conflicted set.

    As others have it, chains are followed within that set; what lies behind an event outside of it is not reached.
    """
    picked = set(power_events)
    pending = list(power_events)
    while pending:
        for cited in events[pending.pop()].cited:
            if cited in full and cited not in picked:
                picked.add(cited)
                pending.append(cited)
    return picked


def reverse_topological_power_ordering(ids: Collection[str], events: Events) -> list[str]:
    """The lexicographically smallest topological ordering, by Kahn's algorithm; the earliest event comes first."""
    cites = {event_id: set(events[event_id].cited) & set(ids) for event_id in ids}
    cited_by: dict[str, list[str]] = {event_id: [] for event_id in ids}
    for event_id, cited_ids in cites.items():
        for cited in cited_ids:
            cited_by[cited].append(event_id)

    def smallest_first(event_id: str) -> tuple[Level, int, str]:
        event = events[event_id]
        return (-_power_of_sender(event, events), event.origin_server_ts, event_id)

    candidates = [smallest_first(event_id) for event_id, cited_ids in cites.items() if not cited_ids]
    heapq.heapify(candidates)
    ordering: list[str] = []
    while candidates:
        _, _, event_id = heapq.heappop(candidates)
        ordering.append(event_id)
        for citing in cited_by[event_id]:
            cites[citing].remove(event_id)
            if not cites[citing]:
                heapq.heappush(candidates, smallest_first(citing))
    return ordering


def _power_of_sender(event: Event, events: Events) -> Level:
    """As its own ``auth_events`` have it."""
    cited = {cited.key: cited for cited in _cited(event, events)}
    return PowerLevels(cited.get(CREATE), cited.get(POWER_LEVELS)).of(event.sender)


async def mainline_of(power_levels: str | None, events: dict[str, Event], source: EventSource) -> list[str]:
    """The mainline of an ``m.room.power_levels`` event: it, the one that it cites, and so on.

    What of it ``events`` lacks is fetched into it.
    """
    mainline: list[str] = []
    while power_levels is not None:
        mainline.append(power_levels)
        if power_levels not in events:
            events.update(await source.events([power_levels]))
        event = events.get(power_levels)
        unknown = [cited for cited in event.cited if cited not in events] if event else []
        if unknown:
            events.update(await source.events(unknown))
        power_levels = _cited_power_levels(event, events) if event else None
    return mainline


def mainline_ordering(ids: Iterable[str], mainline: Sequence[str], events: Events) -> list[str]:
    """``ids`` in the mainline ordering based on the event that ``mainline`` begins with."""
    positions: dict[str | None, float] = {None: math.inf}
    positions.update({event_id: position for position, event_id in enumerate(mainline)})

    def smallest_first(event_id: str) -> tuple[float, int, str]:
        event = events[event_id]
        passed: list[str] = []
        nearest = _cited_power_levels(event, events)
        while nearest is not None and nearest not in positions:
            passed.append(nearest)
            nearest = _cited_power_levels(events[nearest], events)
        position = positions[nearest]
        positions.update(dict.fromkeys(passed, position))
        return (-position, event.origin_server_ts, event_id)

    return sorted(ids, key=smallest_first)


async def iterative_auth_checks(ids: Sequence[str], state: dict[StateKey, str], events: Events) -> None:
    """Applies those of the events to ``state`` that the authorisation rules allow, in their order."""
    for number, event_id in enumerate(ids):
        if number % _TURN == _TURN - 1:
            await asyncio.sleep(0)
        event = events[event_id]
        try:
            authorise(event, _state_for(event, state, events))
        except NotAllowed:
            continue
        state[event.key] = event_id


def _state_for(event: Event, state: StateMap, events: Events) -> dict[StateKey, Event]:
    """What the rules look at: the state, and where it has nothing the event's own ``auth_events``, if not rejected."""
    needed = {CREATE, *auth_keys(event.type, event.sender, event.state_key, event.content, event.version)}
    own = {cited.key: cited for cited in _cited(event, events) if not cited.rejected}
    found = {key: events.get(state[key]) if key in state else own.get(key) for key in needed}
    return {key: known for key, known in found.items() if known is not None}


def _cited(event: Event, events: Events) -> list[Event]:
    return [events[cited] for cited in event.cited if cited in events and events[cited].is_state]


def _cited_power_levels(event: Event, events: Events) -> str | None:
    for cited in _cited(event, events):
        if cited.key == POWER_LEVELS:
            return cited.event_id
    return None


async def _referred_to(full: Collection[str], events: Events, unconflicted: StateMap, source: EventSource) -> Events:
    """What the checks of the ``full`` conflicted set may look at beyond ``events``."""
    wanted: set[str] = set()
    for event in (events[event_id] for event_id in full):
        keys = auth_keys(event.type, event.sender, event.state_key, event.content, event.version)
        wanted |= {unconflicted[key] for key in keys if key in unconflicted}
    return await source.events(sorted(wanted - events.keys()))
