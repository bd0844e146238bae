from typing import NamedTuple

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations.merge import Precedence
from identity_server.identity.associations.models import CurrentAssociation, LogEntry, LogHead
from identity_server.identity.associations.statement import Statement
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.database import insert

_LOG = "associations"


class Current(NamedTuple):
    """What holds for an address; ``user_id`` is None after a tombstone."""

    user_id: str | None
    precedence: Precedence
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
