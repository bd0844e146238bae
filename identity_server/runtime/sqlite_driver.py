"""SQLite behind SQLAlchemy with one hop to the driver's thread for each statement, instead of four.

As they come, SQLAlchemy and aiosqlite go to the thread to make a cursor, to execute, to fetch and to close; every hop
takes longer than SQLite itself for what an ordinary request asks. Here all four are one visit.
"""

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.util.concurrency import await_


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

    def __init__(self, adapt_connection: Any) -> None:
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection._connection
        self._cursor = _Outcome()  # type: ignore[assignment]  # as much of one as is asked for
        self._soft_closed_memoized = {}  # type: ignore[assignment]  # an immutable one, which it makes itself
        self._rows = deque()

    async def _execute_async(self, operation: Any, parameters: Any) -> Any:
        await self._visit(lambda cursor: cursor.execute(operation, () if parameters is None else parameters))

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> Any:
        await self._visit(lambda cursor: cursor.executemany(operation, seq_of_parameters))

    async def _visit(self, act: Callable[[sqlite3.Cursor], Any]) -> None:
        async with self._adapt_connection._execute_mutex:
            connection: Any = self._connection
            outcome, rows = await connection._execute(_run, connection._conn, act)
        self._cursor = outcome
        self._rows = deque(rows)


class _Connection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()
    _cursor_cls = _Cursor


class OneHop(AsyncAdapt_aiosqlite_dbapi):
    """The ``module`` for ``create_async_engine``."""

    def __init__(self) -> None:
        super().__init__(aiosqlite, sqlite3)

    def connect(self, *arg: Any, **kw: Any) -> AsyncAdapt_aiosqlite_connection:
        connection: Any = aiosqlite.connect(*arg, **kw)
        connection._thread.daemon = True  # as SQLAlchemy has it: it holds no process up
        return _Connection(self, await_(connection))


def _run(connection: sqlite3.Connection, act: Callable[[sqlite3.Cursor], Any]) -> tuple[_Outcome, Sequence[Any]]:
    cursor = connection.cursor()
    try:
        act(cursor)
        rows = cursor.fetchall() if cursor.description else ()
        return _Outcome(cursor.description, cursor.rowcount, cursor.lastrowid, cursor.arraysize), rows
    finally:
        cursor.close()
