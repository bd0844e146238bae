from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import CursorResult, Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase

from identity_server.identity.associations.merge import Claim, Precedence
from identity_server.identity.associations.merkle import Node, Peaks
from identity_server.identity.associations.models import CurrentAssociation, LogEntry, LogHead, LogNode
from identity_server.identity.associations.statement import LIFETIME_MS, PlainBinding, Statement, grown
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.bulk import insert_rows, replacing

_LOG = "associations"
_STATED = ("position", "medium", "address", "user_id", "ts", "not_before", "not_after")
_KEY, _HELD = ("medium", "address"), ("user_id", "ts", "origin", "origin_id", "spelling")

# One parameter for all addresses: as one each, 10,000 of them cost more than the whole rest of an import.
_SELECT_SQLITE = (
    "SELECT held.* FROM json_each(?) AS asked CROSS JOIN {table} AS held"
    " ON held.medium = asked.value ->> 0 AND held.address = asked.value ->> 1"
)
_SELECT_POSTGRESQL = (
    "SELECT held.* FROM unnest($1::text[], $2::text[]) AS asked (medium, address)"
    " JOIN {table} AS held ON held.medium = asked.medium AND held.address = asked.address"
)
_FORGET_SQLITE = (
    "DELETE FROM associations WHERE (medium, address) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))"
)
_FORGET_POSTGRESQL = (
    "DELETE FROM associations AS held USING unnest($1::text[], $2::text[]) AS asked (medium, address)"
    " WHERE held.medium = asked.medium AND held.address = asked.address"
)
# Whole tables pass here: 1.4 µs a row; by SQLAlchemy's own rows, 2.5.
_PAGE_OF_BOUND = (
    "SELECT medium, address, user_id, spelling FROM associations"
    " WHERE (medium, address) > ({}, {}) AND user_id IS NOT NULL ORDER BY medium, address LIMIT {}"
)


class Current(NamedTuple):
    """What holds for an address; ``user_id`` is None after a tombstone."""

    user_id: str | None
    precedence: Precedence
    spelling: str | None


class Bound(NamedTuple):
    threepid: Threepid
    user_id: str
    spelling: str | None


class Logged(NamedTuple):
    """A statement of our own, and where it stands in the log."""

    position: int
    statement: Statement


class Head(NamedTuple):
    """Where the log ends. ``secret``: what its nonces are derived from."""

    peaks: Peaks
    secret: bytes

    @property
    def position(self) -> int:
        return self.peaks.size


async def lock_log(session: AsyncSession) -> Head:
    """Take the log for this transaction: nobody else states anything until it ends."""
    return await _head(session, for_update=True)


async def head(session: AsyncSession) -> Head:
    return await _head(session, for_update=False)


async def _head(session: AsyncSession, *, for_update: bool) -> Head:
    statement = select(LogHead.position, LogHead.peaks, LogHead.secret).where(LogHead.log == _LOG)
    # The migration that makes the table also makes its row.
    row = (await session.execute(statement.with_for_update() if for_update else statement)).one()
    return Head(Peaks.from_bytes(row.position, row.peaks), row.secret)


async def current(session: AsyncSession, threepid: Threepid) -> Current | None:
    return (await currents(session, [threepid])).get(threepid)


async def currents(session: AsyncSession, threepids: Sequence[Threepid]) -> dict[Threepid, Current]:
    """What holds for those of ``threepids`` about which anything was ever stated."""
    return {
        Threepid(row.medium, row.address): Current(
            row.user_id, Precedence(row.ts, row.origin, row.origin_id), row.spelling
        )
        for row in await rows_about(session, CurrentAssociation, threepids)
    }


async def users(session: AsyncSession, threepids: Sequence[Threepid]) -> dict[Threepid, str]:
    """Those of ``threepids`` that are bound, and to whom."""
    held = await currents(session, threepids)
    return {threepid: current.user_id for threepid, current in held.items() if current.user_id is not None}


async def forget(session: AsyncSession, threepids: Sequence[Threepid]) -> None:
    """Let nothing hold for these addresses: nobody who is trusted has stated anything about them."""
    await _about(session, _FORGET_SQLITE, _FORGET_POSTGRESQL, threepids)


async def rows_about(
    session: AsyncSession, table: type[DeclarativeBase], threepids: Sequence[Threepid], *, without: str | None = None
) -> Sequence[Row[Any]]:
    """The rows of ``table`` whose ``medium`` and ``address`` are one of ``threepids``; ``without``: an ``origin``."""
    for_sqlite, for_postgresql = (
        text.format(table=table.__tablename__) for text in (_SELECT_SQLITE, _SELECT_POSTGRESQL)
    )
    if without is not None:
        for_sqlite, for_postgresql = f"{for_sqlite} WHERE held.origin <> ?", f"{for_postgresql} WHERE held.origin <> $3"
    more = () if without is None else (without,)
    return (await _about(session, for_sqlite, for_postgresql, threepids, *more)).all()


async def _about(
    session: AsyncSession, for_sqlite: str, for_postgresql: str, threepids: Sequence[Threepid], *more: str
) -> CursorResult[Any]:
    connection = await session.connection()
    if connection.dialect.name == "sqlite":
        asked = orjson.dumps([tuple(threepid) for threepid in threepids]).decode()
        return await connection.exec_driver_sql(for_sqlite, (asked, *more))
    columns = ([threepid.medium for threepid in threepids], [threepid.address for threepid in threepids])
    return await connection.exec_driver_sql(for_postgresql, (*columns, *more))


async def page_of_bound(session: AsyncSession, after: Threepid, limit: int) -> list[PlainBinding]:
    """What is bound, in the order of (medium, address), from behind ``after`` on; shorter than ``limit`` at the end."""
    connection = await session.connection()
    marks = ("?", "?", "?") if connection.dialect.name == "sqlite" else ("$1", "$2", "$3")
    rows = await connection.exec_driver_sql(_PAGE_OF_BOUND.format(*marks), (*after, limit))
    return [tuple(row) for row in rows]  # plain ones, which other processes can take


async def count_bound(session: AsyncSession) -> int:
    bound = CurrentAssociation.user_id.is_not(None)
    return await session.scalar(select(func.count()).select_from(CurrentAssociation).where(bound)) or 0


async def log_page(session: AsyncSession, *, after: int, limit: int) -> list[Logged]:
    """What stands in the log behind the position ``after``, in order."""
    row = LogEntry
    rows = await session.execute(
        select(row.position, row.medium, row.address, row.user_id, row.ts, row.not_before, row.not_after)
        .where(row.position > after)
        .order_by(row.position)
        .limit(limit)
    )
    return [
        Logged(position, Statement(Threepid(medium, address), user_id, ts, not_before, not_after))
        for position, medium, address, user_id, ts, not_before, not_after in rows
    ]


async def claims(session: AsyncSession, threepids: Sequence[Threepid], our_name: str) -> list[Claim]:
    """Everything that this server has stated about ``threepids``."""
    return [
        Claim(Threepid(row.medium, row.address), Precedence(row.ts, our_name, row.position), row.user_id)
        for row in await rows_about(session, LogEntry, threepids)
    ]


async def history(session: AsyncSession, threepid: Threepid) -> list[LogEntry]:
    """Everything that this server has stated about an address, oldest first."""
    row = LogEntry
    rows = await session.scalars(
        select(row).where(row.medium == threepid.medium, row.address == threepid.address).order_by(row.position)
    )
    return list(rows)


class Signed(NamedTuple):
    """A statement of our own, and the signature with which whoever bound it was answered."""

    statement: Statement
    key_id: str | None = None
    signature: str | None = None


async def append(session: AsyncSession, at: Head, origin: str, statements: Sequence[Signed]) -> None:
    """Add our own ``statements`` to the log behind ``at``, which ``lock_log`` answered."""
    entries = [
        (position, *said.threepid, said.user_id, said.ts, said.not_before, said.not_after, key_id, signature)
        for position, (said, key_id, signature) in enumerate(statements, start=at.position + 1)
    ]
    await insert_rows(session, LogEntry, (*_STATED, "key_id", "signature"), entries)
    await set_tree(session, *grown(at.peaks, at.secret, origin, (signed.statement for signed in statements)))


async def add_unsigned(session: AsyncSession, at: Head, origin: str, ts: int, bindings: Sequence[PlainBinding]) -> None:
    """State ``bindings`` about which nothing was known: their entries, and that they hold. To be followed, in the same
    transaction, by ``set_tree``. Millions pass here: no object is made of any."""
    not_after, entries, holding = ts + LIFETIME_MS, [], []
    for position, (medium, address, user_id, spelling) in enumerate(bindings, start=at.position + 1):
        entries.append((position, medium, address, user_id, ts, ts, not_after))
        holding.append((medium, address, user_id, ts, origin, position, spelling))
    await insert_rows(session, LogEntry, _STATED, entries)
    await insert_rows(session, CurrentAssociation, _KEY + _HELD, holding)


async def set_tree(session: AsyncSession, peaks: Peaks, completed: Sequence[Node]) -> None:
    """Let the log end where its tree, ``peaks``, does. ``completed``: the subtrees that are new in it."""
    await insert_rows(session, LogNode, ("level", "number", "hash"), completed)
    await session.execute(
        update(LogHead).where(LogHead.log == _LOG).values(position=peaks.size, peaks=peaks.to_bytes())
    )


async def put_current(session: AsyncSession, winners: Sequence[tuple[Threepid, Current]]) -> None:
    """Let each address be held as its ``Current`` says."""
    rows = [(*threepid, winner.user_id, *winner.precedence, winner.spelling) for threepid, winner in winners]
    await insert_rows(session, CurrentAssociation, _KEY + _HELD, rows, on_conflict=replacing(_KEY, _HELD))
