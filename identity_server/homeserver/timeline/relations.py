"""Events that relate to others, and what is told of them with those (Client-Server API, "Event relationships")."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.timeline.client_format import Viewer, client_events
from identity_server.homeserver.timeline.stored import COLUMNS, EVENTS, StoredEvent, stored_events
from identity_server.runtime.database import in_chunks

ANNOTATION = "m.annotation"
REFERENCE = "m.reference"
REPLACE = "m.replace"
THREAD = "m.thread"

Aggregations = Mapping[str, Mapping[str, Any]]


async def shown_events(
    session: AsyncSession,
    events: Sequence[StoredEvent],
    *,
    viewer: Viewer,
    now_ms: int,
    unsigned: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """As ``client_events``, with what relates to each aggregated under ``m.relations``."""
    found = await aggregations(session, events, viewer=viewer, now_ms=now_ms)
    about: dict[str, dict[str, Any]] = {event_id: dict(more) for event_id, more in (unsigned or {}).items()}
    for event_id, relations in found.items():
        about.setdefault(event_id, {})["m.relations"] = relations
    return await client_events(session, events, viewer=viewer, now_ms=now_ms, unsigned=about)


async def aggregations(
    session: AsyncSession, events: Sequence[StoredEvent], *, viewer: Viewer, now_ms: int
) -> Aggregations:
    """By event ID and relation type, for those of ``events`` that others relate to."""
    parents = {stored.event_id: stored for stored in events}
    related = await _relation_types(session, parents)
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    if related.get(REFERENCE):
        for parent, chunk in (await _references(session, related[REFERENCE])).items():
            found[parent][REFERENCE] = {"chunk": [{"event_id": event_id} for event_id in chunk]}
    if related.get(REPLACE):
        edits = await _latest_edits(session, {parent: parents[parent] for parent in related[REPLACE]})
        shown = await client_events(session, list(edits.values()), viewer=viewer, now_ms=now_ms)
        for parent, edit in zip(edits, shown, strict=True):
            found[parent][REPLACE] = edit
    if related.get(THREAD):
        roots = {parent: parents[parent] for parent in related[THREAD]}
        for parent, summary in (await _threads(session, roots, viewer=viewer, now_ms=now_ms)).items():
            found[parent][THREAD] = summary
    return found


async def children(
    session: AsyncSession,
    room_id: str,
    parents: Collection[str],
    *,
    relation_type: str | None = None,
    event_type: str | None = None,
) -> list[StoredEvent]:
    """The events of the history that relate to ``parents``, the latest first."""
    found: list[StoredEvent] = []
    for chunk in in_chunks(list(parents)):
        statement = select(*COLUMNS).where(
            EVENTS.c.relates_to.in_(chunk), EVENTS.c.room_id == room_id, EVENTS.c.position.is_not(None)
        )
        if relation_type is not None:
            statement = statement.where(EVENTS.c.relation_type == relation_type)
        if event_type is not None:
            statement = statement.where(EVENTS.c.type == event_type)
        found += stored_events(await session.execute(statement))
    return sorted(found, key=lambda stored: stored.position or 0, reverse=True)


async def is_annotated(session: AsyncSession, parent: str, sender: str, key: str) -> bool:
    """Whether the user has reacted to the event with ``key`` already."""
    statement = select(*COLUMNS).where(
        EVENTS.c.relates_to == parent,
        EVENTS.c.relation_type == ANNOTATION,
        EVENTS.c.sender == sender,
        EVENTS.c.position.is_not(None),
    )
    reactions = stored_events(await session.execute(statement))
    return any(relation(stored.event).get("key") == key for stored in reactions)


async def thread_roots(
    session: AsyncSession, room_id: str, *, before: int | None, limit: int, participant: str | None = None
) -> list[tuple[str, int]]:
    """Event IDs of the roots of threads, with the position of the latest event in each, the latest first.

    ``before``: only threads whose latest event is at or before this position. ``participant``: only those that the
    user has written in or begun.
    """
    latest = func.max(EVENTS.c.position)
    root = EVENTS.alias()
    is_here = select(root.c.event_id).where(root.c.event_id == EVENTS.c.relates_to, root.c.room_id == room_id)
    statement = select(EVENTS.c.relates_to, latest).where(
        EVENTS.c.room_id == room_id,
        EVENTS.c.relation_type == THREAD,
        EVENTS.c.position.is_not(None),
        is_here.exists(),
    )
    if participant is not None:
        reply = EVENTS.alias()
        wrote = select(reply.c.event_id).where(
            reply.c.relates_to == EVENTS.c.relates_to,
            reply.c.relation_type == THREAD,
            reply.c.sender == participant,
            reply.c.position.is_not(None),
        )
        began = select(root.c.event_id).where(root.c.event_id == EVENTS.c.relates_to, root.c.sender == participant)
        statement = statement.where(or_(wrote.exists(), began.exists()))
    statement = statement.group_by(EVENTS.c.relates_to)
    if before is not None:
        statement = statement.having(latest <= before)
    rows = await session.execute(statement.order_by(latest.desc()).limit(limit))
    return [(row[0], row[1]) for row in rows]


def relation(event: Event) -> Mapping[str, Any]:
    """``m.relates_to``, if it is an object."""
    relates_to = event.content.get("m.relates_to")
    return relates_to if isinstance(relates_to, Mapping) else {}


async def _relation_types(session: AsyncSession, parents: Collection[str]) -> dict[str, list[str]]:
    """For each aggregated relation type, the parents that something relates to by it."""
    related: dict[str, list[str]] = defaultdict(list)
    for chunk in in_chunks(list(parents)):
        statement = (
            select(EVENTS.c.relates_to, EVENTS.c.relation_type)
            .distinct()
            .where(
                EVENTS.c.relates_to.in_(chunk),
                EVENTS.c.relation_type.in_((REFERENCE, REPLACE, THREAD)),
                EVENTS.c.position.is_not(None),
            )
        )
        for parent, relation_type in await session.execute(statement):
            related[relation_type].append(parent)
    return related


async def _references(session: AsyncSession, parents: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    statement = (
        select(EVENTS.c.relates_to, EVENTS.c.event_id)
        .where(EVENTS.c.relates_to.in_(parents), EVENTS.c.relation_type == REFERENCE, EVENTS.c.position.is_not(None))
        .order_by(EVENTS.c.position)
    )
    for parent, event_id in await session.execute(statement):
        found[parent].append(event_id)
    return found


async def _latest_edits(session: AsyncSession, parents: Mapping[str, StoredEvent]) -> dict[str, StoredEvent]:
    """The most recent valid replacement of each ("Server-side aggregation of m.replace relationships")."""
    parents = {event_id: stored for event_id, stored in parents.items() if not stored.redacted_by}
    statement = (
        select(*COLUMNS, EVENTS.c.relates_to)
        .where(
            EVENTS.c.relates_to.in_(list(parents)),
            EVENTS.c.relation_type == REPLACE,
            EVENTS.c.position.is_not(None),
        )
        .order_by(EVENTS.c.origin_server_ts.desc(), EVENTS.c.event_id.desc())
    )
    found: dict[str, StoredEvent] = {}
    for row in await session.execute(statement):
        if row.relates_to in found:
            continue
        edit = stored_events([row[:-1]])[0]
        if _replaces(edit.event, parents[row.relates_to].event):
            found[row.relates_to] = edit
    return found


def _replaces(edit: Event, original: Event) -> bool:
    """ "Validity of replacement events". Of an encrypted one it is not seen whether it has ``m.new_content``."""
    return (
        edit.room_id == original.room_id
        and edit.sender == original.sender
        and edit.type == original.type
        and not edit.is_state
        and not original.is_state
        and relation(original).get("rel_type") != REPLACE
        and (edit.type == "m.room.encrypted" or isinstance(edit.content.get("m.new_content"), Mapping))
    )


async def _threads(
    session: AsyncSession, roots: Mapping[str, StoredEvent], *, viewer: Viewer, now_ms: int
) -> dict[str, dict[str, Any]]:
    """Thread summaries ("Server-side aggregation of m.thread relationships")."""
    in_thread = (
        EVENTS.c.relates_to.in_(list(roots)),
        EVENTS.c.relation_type == THREAD,
        EVENTS.c.position.is_not(None),
    )
    counted = select(EVENTS.c.relates_to, func.count(), func.max(EVENTS.c.position)).where(*in_thread)
    rows = (await session.execute(counted.group_by(EVENTS.c.relates_to))).all()
    wrote = select(EVENTS.c.relates_to).distinct().where(*in_thread, EVENTS.c.sender == viewer.user_id)
    participated = set(await session.scalars(wrote))
    latest = select(*COLUMNS, EVENTS.c.relates_to).where(
        EVENTS.c.room_id == next(iter(roots.values())).event.room_id,
        EVENTS.c.position.in_([row[2] for row in rows]),
    )
    last = {row.relates_to: stored_events([row[:-1]])[0] for row in await session.execute(latest)}
    edits = await _latest_edits(session, {stored.event_id: stored for stored in last.values()})
    shown_edits = await client_events(session, list(edits.values()), viewer=viewer, now_ms=now_ms)
    about = {event_id: {"m.relations": {REPLACE: edit}} for event_id, edit in zip(edits, shown_edits, strict=True)}
    shown = await client_events(session, list(last.values()), viewer=viewer, now_ms=now_ms, unsigned=about)
    latest_events = dict(zip(last, shown, strict=True))
    return {
        root: {
            "latest_event": latest_events[root],
            "count": count,
            "current_user_participated": root in participated or roots[root].event.sender == viewer.user_id,
        }
        for root, count, _ in rows
        if root in latest_events
    }
