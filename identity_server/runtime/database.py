"""Connections, transactions, and what the two engines spell differently.

SQLite allows one writer at a time: a pool of a single connection makes writers queue in order instead of polling
for the lock, and ``BEGIN IMMEDIATE`` makes a transaction that will write wait at its beginning instead of failing
at its end. ``synchronous=FULL``: what was answered survives a power cut.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import URL, BigInteger, Connection, Integer, Table, Text, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import PoolResetState

from identity_server.matrix.errors import MatrixError
from identity_server.runtime.fast_reads import FastReads, PostgresReads, SqliteReads
from identity_server.runtime.sqlite_driver import SqliteDriver

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

# SQLite numbers rows by itself only where the key is spelled INTEGER; there it has 64 bits too.
Integer64 = BigInteger().with_variant(Integer(), "sqlite")
# Compared byte by byte: what keys need, at half the price of a locale's rules.
Key = Text().with_variant(Text(collation="C"), "postgresql")

_Item = TypeVar("_Item")

COLUMN_TYPES = {int: Integer64, str: Text()}


def async_url(url: str) -> URL:
    """``url`` with the driver that we use: aiosqlite, or asyncpg for any spelling of PostgreSQL."""
    parsed = make_url(url)
    match parsed.get_backend_name():
        case "sqlite":
            return parsed.set(drivername="sqlite+aiosqlite")
        case "postgresql" | "postgres":
            return parsed.set(drivername="postgresql+asyncpg")
        case other:
            raise ValueError(f"{other}: the database is either sqlite:///… or postgresql://…")


class Database:
    """A pool for transactions that write, one for those that only read, and a short way for the hottest reads.

    ``lookups`` reads from the replica, where there is one; what it answers may be a moment old.
    """

    def __init__(self, url: str, *, pool_size: int = 10, replica_url: str = "") -> None:
        self.url = async_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            if self.url.database:
                _make_private(Path(self.url.database))
            self.engine = self._sqlite_engine(pool_size=1, begin="BEGIN IMMEDIATE", query_only=False)
            self._reading = self._sqlite_engine(pool_size=4, begin="BEGIN DEFERRED", query_only=True)
            self.fast: FastReads = SqliteReads(self.url.database or "")
        else:
            self.engine = create_async_engine(
                self.url, pool_size=pool_size, max_overflow=pool_size, hide_parameters=True, pool_pre_ping=True
            )
            # One snapshot for all statements of a transaction, as SQLite has it: said with its BEGIN, at no price.
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ")
            self.fast = PostgresReads(self.url, size=pool_size)
        self.lookups = PostgresReads(async_url(replica_url), size=pool_size) if replica_url else self.fast
        self._writers = async_sessionmaker(self.engine, expire_on_commit=False)
        self._readers = async_sessionmaker(self._reading, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Committed at the end; rolled back if anything is raised that does not say that its changes stand."""
        async with self._writers() as session:
            try:
                yield session
            except MatrixError as error:
                if error.changes_stand:
                    await session.commit()
                raise
            await session.commit()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session that sees one state of the database and takes no write lock."""
        async with self._readers() as session:
            yield session

    async def close(self) -> None:
        await self.lookups.close()
        await self.fast.close()
        await self.engine.dispose()
        await self._reading.dispose()

    def _sqlite_engine(self, *, pool_size: int, begin: str, query_only: bool) -> AsyncEngine:
        engine = create_async_engine(
            self.url, module=SqliteDriver(), pool_size=pool_size, max_overflow=0, pool_timeout=60, hide_parameters=True
        )

        @event.listens_for(engine.sync_engine, "connect")
        def _prepare(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # we say BEGIN ourselves, below
            cursor = connection.cursor()
            for pragma in (
                "journal_mode=WAL",
                "synchronous=FULL",
                "busy_timeout=30000",
                "foreign_keys=ON",
                "cache_size=-32000",
                f"query_only={int(query_only)}",
            ):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        @event.listens_for(engine.sync_engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        @event.listens_for(engine.sync_engine, "reset")
        def _roll_back(connection: Any, _record: Any, state: PoolResetState) -> None:
            # SQLite leaves a transaction open whose COMMIT failed (on a full disk, say); SQLAlchemy takes it for over.
            if state.asyncio_safe and connection.driver_connection.in_transaction:
                connection.rollback()

        return engine


def _make_private(file: Path) -> None:
    """What is in a database is nobody else's business. SQLite gives the files beside it the mode of the first."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not file.exists():
        file.touch(mode=0o600)


def after_commit(session: AsyncSession, act: Callable[[], None]) -> None:
    """Call ``act`` once the session's transaction is durable, and not at all if it is rolled back."""
    event.listen(session.sync_session, "after_commit", lambda _session: act(), once=True)


@asynccontextmanager
async def savepoint(session: AsyncSession) -> AsyncIterator[None]:
    """What fails inside leaves no trace in the transaction, which goes on.

    Not the session's own: that one takes its end for a commit, and calls what is to come after one.
    """
    connection = await session.connection()
    await connection.exec_driver_sql("SAVEPOINT step")
    try:
        yield
    except Exception:
        await connection.exec_driver_sql("ROLLBACK TO SAVEPOINT step")
        await connection.exec_driver_sql("RELEASE SAVEPOINT step")
        raise
    await connection.exec_driver_sql("RELEASE SAVEPOINT step")


def insert(session: AsyncSession, table: type[DeclarativeBase]) -> "sqlite.Insert | postgresql.Insert":
    """An INSERT of the engine in use, which knows ON CONFLICT."""
    return insert_of(session.get_bind().dialect.name, table)


def insert_of(engine: str, table: type[DeclarativeBase] | Table) -> "sqlite.Insert | postgresql.Insert":
    """The same by the engine's name, for statements that are made once."""
    # One of them: the other's dialect and driver would cost 6 MB and a start that is a tenth longer.
    if engine == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def in_chunks(items: Sequence[_Item], size: int = 500) -> Iterator[Sequence[_Item]]:
    """So many at a time as one statement takes as parameters."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


async def insert_missing(
    session: AsyncSession, table: type[DeclarativeBase], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Insert ``rows``, leaving alone those whose key is already there, also under concurrent writers."""
    if values := [dict(row) for row in rows]:
        await session.execute(insert(session, table).on_conflict_do_nothing(), values)
