"""Reading a room's history, a page at a time."""

from collections.abc import Collection, Sequence
from typing import cast

from sqlalchemy import ColumnElement, Table, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.timeline.extremities import EDGES
from identity_server.homeserver.timeline.models import HistoryGap
from identity_server.homeserver.timeline.stored import COLUMNS, EVENTS, OUTLIER, StoredEvent, stored_events
from identity_server.runtime.database import in_chunks, insert_missing

_GAPS = cast(Table, HistoryGap.__table__)


async def page(
    session: AsyncSession,
    room_id: str,
    *,
    after: int | None = None,
    until: int | None = None,
    backwards: bool,
    limit: int,
    conditions: Sequence[ColumnElement[bool]] = (),
) -> list[StoredEvent]:
    """At most ``limit`` events with ``after`` < position <= ``until`` (None: no bound), nearest to the start first.

    The start is ``until`` for whoever reads ``backwards``, and ``after`` otherwise.
    """
    statement = select(*COLUMNS).where(EVENTS.c.room_id == room_id, EVENTS.c.position.is_not(None), *conditions)
    if after is not None:
        statement = statement.where(EVENTS.c.position > after)
    if until is not None:
        statement = statement.where(EVENTS.c.position <= until)
    order = EVENTS.c.position.desc() if backwards else EVENTS.c.position.asc()
    return stored_events(await session.execute(statement.order_by(order).limit(limit)))


async def nearest_in_time(
    session: AsyncSession, room_id: str, ts: int, *, backwards: bool, limit: int, skip: int = 0
) -> list[StoredEvent]:
    """Events of the history at ``ts`` or before it (``backwards``) or after it, the nearest first."""
    in_history = select(*COLUMNS).where(EVENTS.c.room_id == room_id, EVENTS.c.position.is_not(None))
    time, position = EVENTS.c.origin_server_ts, EVENTS.c.position
    if backwards:
        statement = in_history.where(time <= ts).order_by(time.desc(), position.desc())
    else:
        statement = in_history.where(time >= ts).order_by(time.asc(), position.asc())
    return stored_events(await session.execute(statement.limit(limit).offset(skip)))


async def backward_extremities(session: AsyncSession, room_id: str, limit: int = 20) -> list[str]:
    """Events of the history of which some parent is not known, or as an outlier only; the latest first.

    What is before them is to be had from other servers ("Backfilling and retrieving missing events").
    """
    parent = EVENTS.alias()
    statement = (
        select(EVENTS.c.event_id)
        .join_from(EVENTS, EDGES, EDGES.c.event_id == EVENTS.c.event_id)
        .outerjoin(parent, parent.c.event_id == EDGES.c.prev_event_id)
        .where(
            EVENTS.c.room_id == room_id,
            EVENTS.c.position.is_not(None),
            parent.c.event_id.is_(None) | (parent.c.standing == OUTLIER),
        )
        .group_by(EVENTS.c.event_id)
        .order_by(func.max(EVENTS.c.depth).desc())
    )
    return list(await session.scalars(statement.limit(limit)))


async def note_gap(session: AsyncSession, room_id: str, position: int) -> None:
    """That what is before the event at ``position`` is not here."""
    await insert_missing(session, HistoryGap, [{"room_id": room_id, "position": position}])


async def last_gaps(session: AsyncSession, room_ids: Collection[str], upto: int) -> dict[str, int]:
    """By room: the position of the last event before which there is a gap, at position <= ``upto``."""
    found: dict[str, int] = {}
    for rooms in in_chunks(sorted(room_ids)):
        statement = select(_GAPS.c.room_id, func.max(_GAPS.c.position).label("last")).where(
            _GAPS.c.room_id.in_(rooms), _GAPS.c.position <= upto
        )
        found |= {row.room_id: row.last for row in await session.execute(statement.group_by(_GAPS.c.room_id))}
    return found
