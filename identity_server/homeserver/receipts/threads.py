"""Which thread an event is in (Client-Server API, "Threaded read receipts")."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.timeline import store

MAIN = "main"
_THREAD = "m.thread"
_MOST_HOPS = 3


async def threads_of(session: AsyncSession, events: Sequence[Event]) -> dict[str, str]:
    """By event ID: the thread root's event ID, or ``main``."""
    found: dict[str, str] = {}
    followed: dict[str, Event] = {}
    for event in events:
        at = event
        for _ in range(_MOST_HOPS + 1):
            related, relation_type = _relation_of(at)
            if related is None or relation_type == _THREAD:
                break
            followed.update(await _read(session, related, followed))
            if related not in followed:
                related = None
                break
            at = followed[related]
        else:
            related = None
        found[event.event_id] = related or MAIN
    return found


async def thread_of(session: AsyncSession, event: Event) -> str:
    return (await threads_of(session, [event]))[event.event_id]


async def is_related(session: AsyncSession, event: Event, thread_id: str) -> bool:
    """Whether ``event`` is the thread's root, or follows from it by relations of whatever types."""
    at = event
    for _ in range(_MOST_HOPS + 1):
        related = _relation_of(at)[0]
        if thread_id in (at.event_id, related):
            return True
        stored = await store.get_event(session, related) if related is not None else None
        if stored is None:
            return False
        at = stored.event
    return False


def _relation_of(event: Event) -> tuple[str | None, str | None]:
    relation = event.content.get("m.relates_to")
    if not isinstance(relation, Mapping):
        return None, None
    related, relation_type = relation.get("event_id"), relation.get("rel_type")
    if not isinstance(related, str) or not isinstance(relation_type, str) or "\0" in related:
        return None, None
    return related, relation_type


async def _read(session: AsyncSession, event_id: str, known: Mapping[str, Any]) -> dict[str, Event]:
    if event_id in known:
        return {}
    stored = await store.get_event(session, event_id)
    return {event_id: stored.event} if stored else {}
