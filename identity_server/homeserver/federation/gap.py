"""What came before an event and has not reached us (Server-Server API, "Backfilling and retrieving missing events")."""

import asyncio
from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import func, select

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.federation.fetch import Fetch
from identity_server.homeserver.federation.outcomes import NotNow, is_passing
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.room import EXTREMITIES
from identity_server.homeserver.timeline.stored import EVENTS, OUTLIER
from identity_server.matrix.http import Unreachable
from identity_server.matrix.json_api import Refused
from identity_server.runtime.database import Database, in_chunks

_MOST_EVENTS = 1_000
_AT_ONCE = 100
# All servers that we know tell of so many at once, if there are; who tells fewer, though not all, tells no more.
_FEWEST = 20
_MOST_ROUNDS = 100
_MOST_ENDS = 20
_MOST_SECONDS = 60


class Gap(NamedTuple):
    """``events`` lie before the one that was received, and nothing else does if it ``is_whole``; ``is_told``: whether
    at least its parents were told of, be they from before our time."""

    events: Mapping[str, Event]
    is_whole: bool
    is_told: bool


async def collect_gap(
    database: Database,
    fetch: Fetch,
    server_name: str,
    event: Event,
    *,
    most_seconds: float = _MOST_SECONDS,
    patient: bool = False,
) -> Gap:
    """What is missing before ``event``: a thousand events at most, and as far as ``server_name`` tells them.

    Not what is from before we came to the room: taken for news, its old state would become a branch of the present.
    If it is ``patient`` it raises ``NotNow`` where the server does not answer.
    """
    until = asyncio.get_running_loop().time() + most_seconds
    collected: dict[str, Event] = {}
    told: set[str] = set()
    asks = [_missing_events, _backfill]
    async with database.reading() as session:
        ends = list(
            await session.scalars(
                select(EXTREMITIES.c.event_id).where(EXTREMITIES.c.room_id == event.room_id).limit(_MOST_ENDS)
            )
        )
        ours = (EVENTS.c.room_id == event.room_id) & (EVENTS.c.position > 0)
        min_depth: int = await session.scalar(select(func.min(EVENTS.c.depth)).where(ours)) or 0
    for _ in range(_MOST_ROUNDS):
        unknown = await _unknown_parents(database, [event, *collected.values()], collected)
        if not unknown:
            return Gap(collected, is_whole=True, is_told=True)
        is_late = asyncio.get_running_loop().time() > until
        if not asks or len(collected) >= _MOST_EVENTS or is_late:
            break
        try:
            found = await asks[0](fetch, server_name, event, collected, unknown, ends)
        except (Unreachable, Refused) as error:
            if patient and is_passing(error):
                raise NotNow("What came before the event could not be had") from error
            asks.pop(0)  # but there is another way
            continue
        told.update(found)
        new = {
            event_id: one
            for event_id, one in found.items()
            if event_id not in collected and one.depth >= min_depth and event_id != event.event_id
        }
        new = await _without_known(database, new)
        if len(found) < _FEWEST or not new:
            asks.clear()
        collected.update(new)
    untold = await _unknown_parents(database, [event], collected) - told
    return Gap(collected, is_whole=False, is_told=not untold)


async def _missing_events(
    fetch: Fetch,
    server_name: str,
    event: Event,
    collected: Mapping[str, Event],
    unknown: Collection[str],
    ends: Collection[str],
) -> dict[str, Event]:
    before = set(unknown)
    latest = [one.event_id for one in (event, *collected.values()) if not before.isdisjoint(one.prev_events)]
    return await fetch.missing_events(
        server_name,
        event.room_id,
        event.version,
        latest=latest[:_MOST_ENDS],
        earliest=ends,
        limit=_AT_ONCE,
        min_depth=0,  # that a parent is from before our time is to be seen
    )


async def _backfill(
    fetch: Fetch,
    server_name: str,
    event: Event,
    _collected: Mapping[str, Event],
    unknown: Collection[str],
    _ends: Collection[str],
) -> dict[str, Event]:
    return await fetch.backfill(server_name, event.room_id, event.version, sorted(unknown)[:_MOST_ENDS], limit=_AT_ONCE)


async def _unknown_parents(database: Database, events: Collection[Event], collected: Mapping[str, Event]) -> set[str]:
    parents = {parent for event in events for parent in event.prev_events} - collected.keys()
    async with database.reading() as session:
        found: set[str] = set()
        for chunk in in_chunks(sorted(parents)):
            has_state = EVENTS.c.event_id.in_(chunk) & EVENTS.c.state_group.is_not(None)
            found.update(await session.scalars(select(EVENTS.c.event_id).where(has_state)))
    return parents - found


async def _without_known(database: Database, events: Mapping[str, Event]) -> dict[str, Event]:
    async with database.reading() as session:
        standing = await store.known_events(session, events.keys())
    return {event_id: event for event_id, event in events.items() if standing.get(event_id, OUTLIER) == OUTLIER}
