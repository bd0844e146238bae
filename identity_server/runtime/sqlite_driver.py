"""SQLite behind SQLAlchemy: what is brief runs where it stands, the rest in the driver's thread, in one visit.

A visit to the thread takes ten times what SQLite needs for a row. A homeserver whose statements all make one (and
as SQLAlchemy and aiosqlite come, each makes four: to open a cursor, to execute, to fetch and to close) writes half as
many events. But what waits for the disk or for another process (COMMIT, BEGIN IMMEDIATE), and what may work on
many rows, would hold up everybody else here.
"""

import asyncio
import re
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.util.concurrency import await_

# By how they begin: those that touch as many rows as they are given parameters, or rows to answer with …
_BRIEF = ("SELECT ", "INSERT ", "UPDATE ", "BEGIN DEFERRED", "SAVEPOINT ", "RELEASE ", "ROLLBACK TO ")
# … unless they read many to say little.
_READS_MANY = re.compile(r"\b(LIKE|DISTINCT|GROUP BY|count\(|sum\()")
_FEW_PARAMETERS = 100
_FEW_CHARACTERS = 16_384  # in all: an array in JSON is one parameter
_FEW_ROWS = 100
# So many brief statements one after another, and whoever else is ready has a turn: 2 to 4 ms, with what lies between.
_IN_ONE_TURN = 16


@dataclass
class _Outcome:
    """What is left of a cursor once everything has been fetched from it."""

    description: Any = None
    rowcount: int = -1
    lastrowid: int | None = None
    arraysize: int = 1

    def close(self) -> None:
        """It is closed already."""


class _Cursor(AsyncAdapt_aiosqlite_cursor):
    __slots__ = ()
    _awaitable_cursor_close = False
    _adapt_connection: "_Connection"
    _cursor: Any  # an ``_Outcome``, which is as much of a cursor as is asked for
    _soft_closed_memoized: Any

    def __init__(self, adapt_connection: Any) -> None:
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection._connection
        self._cursor = _Outcome()
        self._soft_closed_memoized = {}
        self._rows = deque()

    async def _execute_async(self, operation: Any, parameters: Any) -> None:
        connection, given = self._adapt_connection, parameters or ()
        if not (_is_brief(operation) and _are_few(given)):
            await self._visit(lambda cursor: cursor.execute(operation, given))
            return
        await connection.take_turns()
        cursor = connection.sqlite.execute(operation, given)
        rows = cursor.fetchmany(_FEW_ROWS) if cursor.description else []
        if len(rows) < _FEW_ROWS:
            self._take(cursor, rows)
        else:
            await connection.visit(lambda: self._take(cursor, rows + cursor.fetchall()))

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> None:
        await self._visit(lambda cursor: cursor.executemany(operation, seq_of_parameters))

    async def _visit(self, act: Callable[[sqlite3.Cursor], Any]) -> None:
        sqlite = self._adapt_connection.sqlite

        def visit() -> None:
            cursor = sqlite.cursor()
            act(cursor)
            self._take(cursor, cursor.fetchall() if cursor.description else ())

        await self._adapt_connection.visit(visit)

    def _take(self, cursor: sqlite3.Cursor, rows: Sequence[Any]) -> None:
        self._cursor = _Outcome(cursor.description, cursor.rowcount, cursor.lastrowid, cursor.arraysize)
        self._rows = deque(rows)
        cursor.close()


class _Connection(AsyncAdapt_aiosqlite_connection):
    """Whoever is cancelled while it is in its thread takes it with him: SQLAlchemy closes it, in the thread, after what
    it was at. So nobody is ever here and there at once."""

    __slots__ = ("_brief",)
    _cursor_cls = _Cursor

    def __init__(self, dbapi: Any, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self._brief = 0

    @property
    def sqlite(self) -> sqlite3.Connection:
        """Raises ``ValueError`` once it is closed."""
        connection: sqlite3.Connection = self._connection._conn
        return connection

    async def take_turns(self) -> None:
        """Let others go first, now and then."""
        self._brief += 1
        if self._brief % _IN_ONE_TURN == 0:
            await asyncio.sleep(0)

    async def visit(self, act: Callable[[], None]) -> None:
        """``act`` in the driver's thread."""
        await self._connection._execute(act)

    def rollback(self) -> None:
        if self._connection._connection:
            try:
                self.sqlite.rollback()
            except sqlite3.Error as error:
                self._handle_exception(error)


class SqliteDriver(AsyncAdapt_aiosqlite_dbapi):
    """The ``module`` for ``create_async_engine``."""

    def __init__(self) -> None:
        super().__init__(aiosqlite, sqlite3)

    def connect(self, *arg: Any, **kw: Any) -> AsyncAdapt_aiosqlite_connection:
        connection: Any = aiosqlite.connect(*arg, **kw)
        connection._thread.daemon = True  # as SQLAlchemy has it: it holds no process up
        return _Connection(self, await_(connection))


@lru_cache(maxsize=2_000)
def _is_brief(operation: str) -> bool:
    return operation.startswith(_BRIEF) and not _READS_MANY.search(operation)


def _are_few(parameters: Sequence[Any]) -> bool:
    return (
        len(parameters) <= _FEW_PARAMETERS
        and sum(len(value) for value in parameters if isinstance(value, str | bytes)) <= _FEW_CHARACTERS
    )
