"""Work that must run once: a row says which process does it, until when."""

from sqlalchemy import Column, MetaData, Table, Text, delete, select, update

from identity_server.runtime.database import Database, Integer64, insert_of


def leases_table(metadata: MetaData) -> Table:
    return Table(
        "leases",
        metadata,
        Column("work", Text, primary_key=True),
        Column("holder", Text, nullable=False),
        Column("until_ts", Integer64, nullable=False),
    )


_leases = leases_table(MetaData())


async def take_lease(database: Database, work: str, holder: str, *, now_ms: int, for_ms: int) -> bool:
    """Whether ``holder`` (a name drawn at start) may do ``work`` until ``now_ms + for_ms``; again to renew it."""
    values = {"work": work, "holder": holder, "until_ts": now_ms + for_ms}
    async with database.transaction() as session:
        new = insert_of("sqlite" if database.is_sqlite else "postgresql", _leases)
        await session.execute(new.values(values).on_conflict_do_nothing())
        await session.execute(
            update(_leases)
            .where(_leases.c.work == work, (_leases.c.until_ts <= now_ms) | (_leases.c.holder == holder))
            .values(holder=holder, until_ts=now_ms + for_ms)
        )
        return await session.scalar(select(_leases.c.holder).where(_leases.c.work == work)) == holder


async def is_leased(database: Database, work: str, *, now_ms: int) -> bool:
    """Whether somebody does ``work`` now."""
    async with database.reading() as session:
        is_held = (_leases.c.work == work) & (_leases.c.until_ts > now_ms)
        return await session.scalar(select(_leases.c.holder).where(is_held)) is not None


async def release_lease(database: Database, work: str, holder: str) -> None:
    """Let somebody else have it at once."""
    async with database.transaction() as session:
        await session.execute(delete(_leases).where(_leases.c.work == work, _leases.c.holder == holder))
