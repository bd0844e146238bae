from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

import orjson
from sqlalchemy import delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.lookup.models import SLOTS, Pepper
from identity_server.runtime.bulk import insert_rows, replacing

_REMOVE_SQLITE = "DELETE FROM lookup_{slot} WHERE hash IN (SELECT value FROM json_each(?))"
_REMOVE_POSTGRESQL = "DELETE FROM lookup_{slot} WHERE hash = ANY($1::text[])"

State = Literal["building", "current", "retiring"]


class LivePepper(NamedTuple):
    pepper: str
    slot: int
    state: str
    created_ts: int
    accepted_until_ts: int | None
    import_id: str | None

    @property
    def is_complete(self) -> bool:
        """Whether nobody is filling its table any more."""
        return self.state != "building" and self.import_id is None


async def live_peppers(session: AsyncSession) -> list[LivePepper]:
    """All there are, at most two; some may be past their grace."""
    rows = await session.execute(
        select(Pepper.pepper, Pepper.slot, Pepper.state, Pepper.created_ts, Pepper.accepted_until_ts, Pepper.import_id)
    )
    return [LivePepper(*row) for row in rows]


async def add_pepper(session: AsyncSession, pepper: LivePepper) -> None:
    session.add(Pepper(**pepper._asdict()))
    await session.flush()


async def set_state(session: AsyncSession, pepper: str, state: State, accepted_until_ts: int | None) -> None:
    await session.execute(
        update(Pepper).where(Pepper.pepper == pepper).values(state=state, accepted_until_ts=accepted_until_ts)
    )


async def set_import(session: AsyncSession, pepper: str, import_id: str | None) -> None:
    await session.execute(update(Pepper).where(Pepper.pepper == pepper).values(import_id=import_id))


async def is_filled_by(session: AsyncSession, filling: LivePepper) -> bool:
    """Whether the table of ``filling`` is still being filled, and by its import if it has one: true until the end of
    the transaction."""
    by_whom = or_(Pepper.state == "building", Pepper.import_id == filling.import_id)
    found = await session.scalar(
        select(Pepper.slot).where(Pepper.pepper == filling.pepper, by_whom).with_for_update(read=True)
    )
    return found is not None


async def remove_pepper(session: AsyncSession, pepper: LivePepper) -> None:
    """With all of its hashes; first itself, so that nobody fills its table any more."""
    await session.execute(delete(Pepper).where(Pepper.pepper == pepper.pepper))
    await session.execute(delete(SLOTS[pepper.slot]))


async def put_hashes(session: AsyncSession, slot: int, rows: Iterable[tuple[str, str | None]]) -> None:
    """Let each hash lead to its user ID, or to nobody."""
    await insert_rows(
        session, SLOTS[slot], ("hash", "user_id"), list(rows), on_conflict=replacing(["hash"], ["user_id"])
    )


async def add_hashes(session: AsyncSession, slot: int, rows: Iterable[tuple[str, str]]) -> None:
    """Add ``(hash, user ID)`` rows, leaving alone those that are there."""
    await insert_rows(session, SLOTS[slot], ("hash", "user_id"), list(rows), on_conflict="ON CONFLICT DO NOTHING")


async def remove_hashes(session: AsyncSession, slot: int, hashes: Collection[str]) -> None:
    connection = await session.connection()
    sorted_hashes = sorted(hashes)
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql(_REMOVE_SQLITE.format(slot=slot), (orjson.dumps(sorted_hashes).decode(),))
    else:
        await connection.exec_driver_sql(_REMOVE_POSTGRESQL.format(slot=slot), (sorted_hashes,))


async def remove_unbound(session: AsyncSession, slot: int) -> None:
    table = SLOTS[slot]
    await session.execute(delete(table).where(table.user_id.is_(None)))
