from typing import NamedTuple

from sqlalchemy import func, select, tuple_, update
from sqlalchemy import insert as sql_insert
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations.merge import Precedence
from identity_server.identity.associations.models import CurrentAssociation, LogEntry, LogHead
from identity_server.identity.associations.statement import Statement
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.database import insert

_LOG = "associations"
_IN_ONE_STATEMENT = 500


class Current(NamedTuple):
    """What holds for an address; ``user_id`` is None after a tombstone."""

    user_id: str | None
    precedence: Precedence
    spelling: str | None


class Bound(NamedTuple):
    threepid: Threepid
    user_id: str
    spelling: str | None


async def lock_log(session: AsyncSession) -> int:
    """Take the log for this transaction: nobody else states anything until it ends. The last position."""
    position = await session.scalar(select(LogHead.position).where(LogHead.log == _LOG).with_for_update())
    assert position is not None, "the migration that makes the table also makes its row"
    return position


async def current(session: AsyncSession, threepid: Threepid) -> Current | None:
    row = (
        await session.execute(
            select(
                CurrentAssociation.user_id,
                CurrentAssociation.ts,
                CurrentAssociation.origin,
                CurrentAssociation.origin_id,
                CurrentAssociation.spelling,
            ).where(CurrentAssociation.medium == threepid.medium, CurrentAssociation.address == threepid.address)
        )
    ).first()
    return Current(row.user_id, Precedence(row.ts, row.origin, row.origin_id), row.spelling) if row else None


async def page_of_bound(session: AsyncSession, after: Threepid, limit: int) -> list[Bound]:
    """What is bound, in the order of (medium, address), from behind ``after`` on; shorter than ``limit`` at the end."""
    row = CurrentAssociation
    rows = await session.execute(
        select(row.medium, row.address, row.user_id, row.spelling)
        .where(tuple_(row.medium, row.address) > after, row.user_id.is_not(None))
        .order_by(row.medium, row.address)
        .limit(limit)
    )
    return [
        Bound(Threepid(medium, address), user_id, spelling) for medium, address, user_id, spelling in rows if user_id
    ]


async def count_bound(session: AsyncSession) -> int:
    bound = CurrentAssociation.user_id.is_not(None)
    return await session.scalar(select(func.count()).select_from(CurrentAssociation).where(bound)) or 0


async def known(session: AsyncSession, threepids: list[Threepid]) -> set[Threepid]:
    """Those of ``threepids`` about which anything was ever stated."""
    row = CurrentAssociation
    found: set[Threepid] = set()
    for start in range(0, len(threepids), _IN_ONE_STATEMENT):
        some = threepids[start : start + _IN_ONE_STATEMENT]
        rows = await session.execute(select(row.medium, row.address).where(tuple_(row.medium, row.address).in_(some)))
        found.update(Threepid(*found_row) for found_row in rows)
    return found


async def append_bulk(session: AsyncSession, origin: str, statements: list[tuple[Statement, str | None]]) -> None:
    """State much at once about addresses of which nothing is known; each with the spelling to store."""
    position = await lock_log(session)
    numbered = list(enumerate(statements, start=position + 1))
    await session.execute(
        sql_insert(LogEntry),
        [
            {
                "position": number,
                "medium": statement.threepid.medium,
                "address": statement.threepid.address,
                "user_id": statement.user_id,
                "ts": statement.ts,
                "not_before": statement.not_before,
                "not_after": statement.not_after,
            }
            for number, (statement, _) in numbered
        ],
    )
    await session.execute(
        sql_insert(CurrentAssociation),
        [
            {
                "medium": statement.threepid.medium,
                "address": statement.threepid.address,
                "user_id": statement.user_id,
                "ts": statement.ts,
                "origin": origin,
                "origin_id": number,
                "spelling": spelling,
            }
            for number, (statement, spelling) in numbered
        ],
    )
    await session.execute(update(LogHead).where(LogHead.log == _LOG).values(position=position + len(statements)))


async def history(session: AsyncSession, threepid: Threepid) -> list[LogEntry]:
    """Everything that this server has stated about an address, oldest first."""
    row = LogEntry
    rows = await session.scalars(
        select(row).where(row.medium == threepid.medium, row.address == threepid.address).order_by(row.position)
    )
    return list(rows)


async def append(session: AsyncSession, position: int, statement: Statement, *, key_id: str, signature: str) -> None:
    """Add our own ``statement`` to the log at ``position``, the one after what ``lock_log`` answered."""
    await session.execute(
        insert(session, LogEntry).values(
            position=position,
            medium=statement.threepid.medium,
            address=statement.threepid.address,
            user_id=statement.user_id,
            ts=statement.ts,
            not_before=statement.not_before,
            not_after=statement.not_after,
            key_id=key_id,
            signature=signature,
        )
    )
    await session.execute(update(LogHead).where(LogHead.log == _LOG).values(position=position))


async def put_current(session: AsyncSession, threepid: Threepid, now_current: Current) -> None:
    """Let ``now_current`` be what holds for ``threepid``."""
    values = {
        "user_id": now_current.user_id,
        "ts": now_current.precedence.ts,
        "origin": now_current.precedence.origin,
        "origin_id": now_current.precedence.origin_id,
        "spelling": now_current.spelling,
    }
    await session.execute(
        insert(session, CurrentAssociation)
        .values(medium=threepid.medium, address=threepid.address, **values)
        .on_conflict_do_update(index_elements=["medium", "address"], set_=values)
    )
