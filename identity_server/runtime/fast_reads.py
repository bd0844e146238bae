"""The few statements that every request pays for, without the ORM between them and the engine.

A lookup by SQLAlchemy and aiosqlite costs four times what SQLite itself needs for 10,000 hashes, and a hundred
times for one. So these statements are SQL by hand, their parameters ``$1``, ``$2``, …, their answer one value.

On SQLite a cheap statement runs where it stands (the hop to a thread would cost twice the query), an expensive one in
a small pool of threads: one ``step()`` releases the GIL until it is through. The file is not mapped into memory: that
would save up to a third of a large lookup, but every page that was ever read would count as the process's own.
"""

import asyncio
import os
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import URL

if TYPE_CHECKING:
    import asyncpg

_CLOSE_SECONDS = 5
# Of pages, for each connection. More is slower where the table is large (by a third at 10,000,000 rows and 14 MB):
# leaves are hardly met twice, and each is then read into memory that no processor has at hand.
_CACHE_KIB = 2_000
_NICENESS = 15


class FastReads(Protocol):
    async def value(self, statement: str, *parameters: Any, expensive: bool = False) -> Any:
        """The first column of the first row, or None."""

    async def close(self) -> None: ...


class SqliteReads:
    """Read-only connections of its own: one for this thread, one for each of the pool's."""

    def __init__(self, file: str) -> None:
        self._uri = f"file:{file}?mode=ro"
        threads = min(4, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reads", initializer=_step_back)
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []

    async def value(self, statement: str, *parameters: Any, expensive: bool = False) -> Any:
        if not expensive:
            return self._value(statement, parameters)
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._value, statement, parameters)

    async def close(self) -> None:
        self._pool.shutdown()
        for connection in self._opened:
            connection.close()

    def _value(self, statement: str, parameters: tuple[Any, ...]) -> Any:
        row = self._connection().execute(statement.replace("$", "?"), parameters).fetchone()
        return row[0] if row else None

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._uri, uri=True, isolation_level=None, check_same_thread=False)
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            self._local.connection = connection
            self._opened.append(connection)
        return connection


def _step_back() -> None:
    """Let this thread wait for a processor rather than the one that answers everybody: it halves what a small request
    takes beside large lookups."""
    if sys.platform == "linux":  # elsewhere a priority is the whole process's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


class PostgresReads:
    """A pool of asyncpg connections, opened when first asked."""

    def __init__(self, url: URL, *, size: int) -> None:
        self._dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._size = size
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    async def value(self, statement: str, *parameters: Any, expensive: bool = False) -> Any:
        return await (self._pool or await self._open()).fetchval(statement, *parameters)

    async def close(self) -> None:
        if self._pool is not None:
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._pool.close()
            except TimeoutError:
                self._pool.terminate()

    async def _open(self) -> "asyncpg.Pool":
        import asyncpg  # here, for a server on SQLite does without it

        async with self._opening:
            if self._pool is None:
                # Just-in-time compilation costs more than any of these statements.
                self._pool = await asyncpg.create_pool(
                    self._dsn, min_size=0, max_size=self._size, server_settings={"jit": "off"}
                )
            return self._pool
