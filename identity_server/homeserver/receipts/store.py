from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Table, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.receipts.models import Receipt
from identity_server.runtime.database import in_chunks, insert

READ = "m.read"
PRIVATE = "m.read.private"
RECEIPT = "m.receipt"

_TABLE = cast(Table, Receipt.__table__)
_COLUMNS = tuple(_TABLE.c)


@dataclass(frozen=True)
class Given:
    """A receipt as it is kept; ``thread_id`` is empty for an unthreaded one."""

    room_id: str
    user_id: str
    receipt_type: str
    thread_id: str
    event_id: str
    event_position: int | None
    ts: int
    position: int


async def find(session: AsyncSession, room_id: str, user_id: str, receipt_type: str, thread_id: str) -> Given | None:
    statement = select(*_COLUMNS).where(
        _TABLE.c.room_id == room_id,
        _TABLE.c.user_id == user_id,
        _TABLE.c.receipt_type == receipt_type,
        _TABLE.c.thread_id == thread_id,
    )
    row = (await session.execute(statement)).one_or_none()
    return Given(*row) if row else None


async def put(session: AsyncSession, given: Given) -> None:
    row = vars(given)
    keys = ["room_id", "user_id", "receipt_type", "thread_id"]
    values = {name: value for name, value in row.items() if name not in keys}
    await session.execute(insert(session, Receipt).values(row).on_conflict_do_update(index_elements=keys, set_=values))


async def given_since(session: AsyncSession, since: int, upto: int, *, viewer: str, limit: int) -> list[Given]:
    """Those of all rooms at ``since`` < position <= ``upto`` that ``viewer`` may see, at most ``limit``."""
    statement = select(*_COLUMNS).where(_TABLE.c.position > since, _TABLE.c.position <= upto, _visible_to(viewer))
    return [Given(*row) for row in await session.execute(statement.order_by(_TABLE.c.position).limit(limit))]


async def given_in(
    session: AsyncSession, room_ids: Collection[str], upto: int, *, viewer: str, since: int | None = None
) -> list[Given]:
    """Those of ``room_ids`` that ``viewer`` may see, at ``since`` < position <= ``upto``."""
    found: list[Given] = []
    for rooms in in_chunks(sorted(room_ids)):
        statement = select(*_COLUMNS).where(_TABLE.c.room_id.in_(rooms), _TABLE.c.position <= upto, _visible_to(viewer))
        if since is not None:
            statement = statement.where(_TABLE.c.position > since)
        found += [Given(*row) for row in await session.execute(statement.order_by(_TABLE.c.position))]
    return found


async def given_by(session: AsyncSession, user_id: str, room_ids: Collection[str]) -> dict[str, list[Given]]:
    """A user's own, by room."""
    found: dict[str, list[Given]] = {}
    for rooms in in_chunks(sorted(room_ids)):
        statement = select(*_COLUMNS).where(_TABLE.c.room_id.in_(rooms), _TABLE.c.user_id == user_id)
        for row in await session.execute(statement):
            found.setdefault(row.room_id, []).append(Given(*row))
    return found


def as_events(given: Iterable[Given]) -> list[dict[str, Any]]:
    """``m.receipt`` events, one for each thread: within one an event has room for a single receipt of each user."""
    by_thread: dict[str, dict[str, Any]] = {}
    for receipt in given:
        data: dict[str, Any] = {"ts": receipt.ts}
        if receipt.thread_id:
            data["thread_id"] = receipt.thread_id
        of_event = by_thread.setdefault(receipt.thread_id, {}).setdefault(receipt.event_id, {})
        of_event.setdefault(receipt.receipt_type, {})[receipt.user_id] = data
    return [{"type": RECEIPT, "content": content} for content in by_thread.values()]


def _visible_to(viewer: str) -> Any:
    return or_(_TABLE.c.receipt_type != PRIVATE, _TABLE.c.user_id == viewer)
