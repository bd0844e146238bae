"""Events that are kept for what they authorise, though the state at them is not known."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.auth_rules import NotAllowed, authorise, check_auth_events
from identity_server.homeserver.events.event import CREATE, Event, StateKey
from identity_server.homeserver.federation.checks import in_order
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.rows import put_outliers
from identity_server.homeserver.timeline.stored import REJECTED
from identity_server.runtime.database import Database

_LOT = 500


def cited_state(event: Event, cited: Mapping[str, Event]) -> dict[StateKey, Event] | None:
    """The state that the event's auth events make up, ``m.room.create`` included; None if one of them is not there."""
    if any(event_id not in cited for event_id in event.auth_events):
        return None
    auth_events = [cited[event_id] for event_id in event.auth_events]
    state = {auth_event.key: auth_event for auth_event in auth_events if auth_event.is_state}
    if event.version.room_id_is_create_event_id and event.type != CREATE[0]:
        create = cited.get(create_id(event.room_id))
        if create is None:
            return None
        state[CREATE] = create
    return state


def create_id(room_id: str) -> str:
    """From room version 12 on: the ID of the room's ``m.room.create``."""
    return "$" + room_id[1:]


def cited_ids(event: Event) -> set[str]:
    """What has to be known for the event to be authorised."""
    if event.version.room_id_is_create_event_id and event.type != CREATE[0]:
        return {*event.auth_events, create_id(event.room_id)}
    return set(event.auth_events)


def check_by_auth_events(event: Event, cited: Mapping[str, Event]) -> None:
    """Check 4 of a received PDU. Raises ``NotAllowed``, ``LookupError`` if an auth event is not in ``cited``."""
    state = cited_state(event, cited)
    if state is None:
        raise LookupError("an auth event is not known")
    check_auth_events(event, [cited[event_id] for event_id in event.auth_events])
    if CREATE in state and state[CREATE].rejected:
        raise NotAllowed("2", "the room's m.room.create was rejected")
    authorise(event, state)


def judge(events: Mapping[str, Event], known: Mapping[str, Event]) -> dict[str, Event]:
    """``events`` by check 4, marked where it rejects them; without those whose auth events nobody has."""
    judged: dict[str, Event] = {}
    cited = dict(known)
    for event in in_order(events, by_auth=True):
        try:
            check_by_auth_events(event, cited)
        except LookupError:
            continue
        except NotAllowed:
            event = replace(event, rejected=True)
        judged[event.event_id] = cited[event.event_id] = event
    return judged


async def judge_aside(events: Mapping[str, Event], known: Mapping[str, Event]) -> dict[str, Event]:
    """The same, in a thread where there are many."""
    if len(events) < _LOT:
        return judge(events, known)
    return await asyncio.to_thread(judge, events, known)


async def keep_outliers(database: Database, events: Mapping[str, Event]) -> None:
    """Keep those of ``events`` that are new, and can be judged."""
    async with database.reading() as session:
        new = events.keys() - (await store.known_events(session, events.keys())).keys()
        wanted = {event_id for one in new for event_id in cited_ids(events[one])}
        known = {event_id: stored.event for event_id, stored in (await store.get_events(session, wanted)).items()}
    judged = await judge_aside({event_id: events[event_id] for event_id in new}, known)
    if judged:
        async with database.transaction() as session:
            await put_judged(session, judged)


async def put_judged(session: AsyncSession, judged: Mapping[str, Event]) -> None:
    await put_outliers(session, [event for event in judged.values() if not event.rejected])
    await put_outliers(session, [event for event in judged.values() if event.rejected], REJECTED)
