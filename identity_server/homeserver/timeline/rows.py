"""Events as rows: writing them."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.timeline.extremities import EDGES
from identity_server.homeserver.timeline.models import EventEdge, StoredEventRow
from identity_server.homeserver.timeline.redactions import dump
from identity_server.homeserver.timeline.stored import EVENTS, OUTLIER, StoredEvent
from identity_server.runtime.database import in_chunks, insert_missing

_ADD_EVENT, _ADD_EDGE = EVENTS.insert(), EDGES.insert()


async def put_event(session: AsyncSession, stored: StoredEvent) -> None:
    """A new event and its edges."""
    await session.execute(_ADD_EVENT, _values(stored))
    edges = _edges(stored.event)
    if edges:
        await session.execute(_ADD_EDGE, edges if len(edges) > 1 else edges[0])


async def place_event(session: AsyncSession, stored: StoredEvent) -> None:
    """What was an outlier becomes a part of the graph; if it was redacted it stays so."""
    values = {
        "position": stored.position,
        "standing": stored.standing,
        "is_ours": stored.is_ours,
        "state_group": stored.state_group,
        "replaces_state": stored.replaces_state,
    }
    await session.execute(update(EVENTS).where(EVENTS.c.event_id == stored.event_id).values(values))
    await insert_missing(session, EventEdge, _edges(stored.event))


async def put_outliers(session: AsyncSession, events: Iterable[Event], standing: str = OUTLIER) -> None:
    """Keep events, of which the state is not known, for what they say of others; those that are known stay."""
    rows = [_values(StoredEvent(event, None, standing, None)) for event in events]
    for chunk in in_chunks(rows):
        await insert_missing(session, StoredEventRow, chunk)


def _values(stored: StoredEvent) -> dict[str, Any]:
    event = stored.event
    relates_to, relation_type = relation_of(event)
    return {
        "event_id": event.event_id,
        "room_id": event.room_id,
        "version": event.version.identifier,
        "position": stored.position,
        "standing": stored.standing,
        "is_ours": stored.is_ours,
        "type": event.type,
        "state_key": event.state_key,
        "sender": event.sender,
        "depth": event.depth,
        "origin_server_ts": event.origin_server_ts,
        "state_group": stored.state_group,
        "pdu": dump(event.pdu),
        "redacted_by": stored.redacted_by,
        "replaces_state": stored.replaces_state,
        "relates_to": relates_to,
        "relation_type": relation_type,
        "redacts": _storable(event.redacts),
        "device_id": stored.device_id,
        "transaction_id": stored.transaction_id,
    }


def relation_of(event: Event) -> tuple[str | None, str | None]:
    """The event ID that it relates to and how (Client-Server API, "Forming relationships between events").

    A reply alone (``m.in_reply_to``) is no such relationship.
    """
    relation = event.content.get("m.relates_to")
    if not isinstance(relation, dict):
        return None, None
    relates_to, relation_type = _storable(relation.get("event_id")), _storable(relation.get("rel_type"))
    return (relates_to, relation_type) if relates_to and relation_type else (None, None)


def _edges(event: Event) -> list[dict[str, Any]]:
    return [
        {"event_id": event.event_id, "prev_event_id": parent, "room_id": event.room_id}
        for parent in dict.fromkeys(event.prev_events)
    ]


def _storable(value: Any) -> str | None:
    """PostgreSQL stores no NUL, and no identifier contains one."""
    return value if isinstance(value, str) and "\0" not in value else None
