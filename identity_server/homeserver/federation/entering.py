"""Becoming one of a room's servers: what ``send_join`` answered, checked in bulk and written at once.

A room brings tens of thousands of events. Their signatures are checked in threads, and they are written in one
transaction, together with our user's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from identity_server.homeserver.events.auth_rules import NotAllowed, authorise
from identity_server.homeserver.events.event import CREATE, Event, StateKey
from identity_server.homeserver.events.format import InvalidEvent
from identity_server.homeserver.federation.checks import BadSignature, check_event, check_events, in_order
from identity_server.homeserver.federation.gap import collect_gap
from identity_server.homeserver.federation.outliers import check_by_auth_events, cited_ids, judge_aside, put_judged
from identity_server.homeserver.federation.receive import Receiver
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.append import append
from identity_server.homeserver.timeline.history import note_gap
from identity_server.homeserver.timeline.room import add_room

_MOST_EVENTS = 500_000
_CATCHING_UP_SECONDS = 10


class NotEnterable(Exception):
    """What the server answered is no room that our user could be in."""


@dataclass(frozen=True)
class _Entered:
    judged: Mapping[str, Event]
    state: Mapping[StateKey, Event]


async def enter(
    receiver: Receiver, server_name: str, event: Event, answer: Mapping[str, Any], *, is_here: bool, now_ms: int
) -> None:
    """Take up the room from what ``server_name`` answered to the join ``event``. Raises ``NotEnterable``.

    ``is_here``: we were in the room before, and know it better than by this answer.
    """
    event = await _as_accepted(receiver, event, answer.get("event"))
    if is_here:
        (error,) = await receiver.take(server_name, [event])
        if error is not None:
            raise NotEnterable(error)
        return
    entered = await _check(receiver, event, answer)
    was_here = await _was_here(receiver, event.room_id)
    is_connected = was_here and await _catch_up(receiver, server_name, event)
    async with receiver.database.transaction() as session:
        await add_room(session, event.room_id, event.version, now_ms=now_ms)
        await put_judged(session, entered.judged)
        state = {key: one.event_id for key, one in entered.state.items()}
        position = await append(session, receiver.timeline, event, state_before=state, anew=not is_connected)
        if was_here and not is_connected and position is not None:
            await note_gap(session, event.room_id, position)


async def _was_here(receiver: Receiver, room_id: str) -> bool:
    async with receiver.database.reading() as session:
        room = await store.find_room(session, room_id)
    return room is not None and room.state_group is not None


async def _catch_up(receiver: Receiver, server_name: str, event: Event) -> bool:
    """Of a room that we were in before: have what happened meanwhile, if that is not too much. Whether it is all."""
    gap = await collect_gap(receiver.database, receiver.fetch, server_name, event, most_seconds=_CATCHING_UP_SECONDS)
    if not gap.is_whole:
        return False
    await receiver.take(server_name, in_order(gap.events))
    return True


async def _as_accepted(receiver: Receiver, event: Event, accepted: Any) -> Event:
    """The event with the signature of who authorised it, if the room wants one."""
    if accepted is None:
        return event
    try:
        signed = await check_event(receiver.fetch.key_ring, accepted, event.version)
    except (InvalidEvent, BadSignature) as error:
        raise NotEnterable(str(error)) from error
    if signed.event_id != event.event_id:
        raise NotEnterable("another event was accepted than the one that we sent")
    return signed


async def _check(receiver: Receiver, event: Event, answer: Mapping[str, Any]) -> _Entered:
    listed, chain = answer.get("state"), answer.get("auth_chain")
    if not isinstance(listed, list) or not isinstance(chain, list) or len(listed) + len(chain) > _MOST_EVENTS:
        raise NotEnterable("the answer holds no state")
    key_ring, version, room_id = receiver.fetch.key_ring, event.version, event.room_id
    state_events = (await check_events(key_ring, listed, version, room_id=room_id)).events
    others = (await check_events(key_ring, chain, version, room_id=room_id, known=state_events)).events
    events = {**others, **state_events}
    async with receiver.database.reading() as session:
        unseen = {cited for one in events.values() for cited in cited_ids(one)} - events.keys()
        known = {event_id: stored.event for event_id, stored in (await store.get_events(session, unseen)).items()}
    judged = await judge_aside(events, known)
    state: dict[StateKey, Event] = {}
    for event_id in state_events:
        one = judged.get(event_id)
        if one is not None and one.is_state and not one.rejected:
            state.setdefault(one.key, one)
    _check_room(event, judged, state)
    return _Entered(judged, state)


def _check_room(event: Event, judged: Mapping[str, Event], state: Mapping[StateKey, Event]) -> None:
    create = state.get(CREATE)
    if create is None or create.content.get("room_version", "1") != event.version.identifier:
        raise NotEnterable("the room has no m.room.create of its version")
    try:
        check_by_auth_events(event, judged)
        authorise(event, state)
    except (NotAllowed, LookupError) as error:
        raise NotEnterable(str(error)) from error
