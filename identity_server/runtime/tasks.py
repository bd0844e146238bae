"""Side effects that must survive: rows, written in the transaction that causes them, run after it, retried.

A task runs at least once. One that fails is tried again after a growing pause, capped at an hour, until it is a
week old; one whose handler raises ``GiveUp`` is not.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import structlog
from sqlalchemy import Column, Integer, MetaData, Table, Text, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.runtime.background import to_its_end
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database, Integer64, after_commit
from identity_server.runtime.metrics import TASKS
from identity_server.runtime.together import Together

log = structlog.get_logger(__name__)

Payload = Mapping[str, Any]
Handler = Callable[[Payload], Awaitable[None]]

_FIRST_PAUSE_MS = 2_000
_LONGEST_PAUSE_MS = 3_600_000
_LIFETIME_MS = 7 * 86_400_000
_LEASE_MS = 120_000
_POLL_SECONDS = 1.0
_AT_ONCE = 20


class GiveUp(Exception):
    """The task can never succeed."""


def tasks_table(metadata: MetaData) -> Table:
    """The table of durable tasks; each server has one of its own."""
    return Table(
        "tasks",
        metadata,
        Column("task_id", Integer64, primary_key=True, autoincrement=True),
        Column("kind", Text, nullable=False),
        Column("payload", Text, nullable=False),
        Column("created_ts", Integer64, nullable=False),
        Column("due_ts", Integer64, nullable=False, index=True),
        Column("attempts", Integer, nullable=False),
        Column("last_error", Text),
    )


_tasks = tasks_table(MetaData())
_ENQUEUE = insert(_tasks)


class _Again(NamedTuple):
    due_ts: int
    error: str


class _Ran(NamedTuple):
    """``again``: when, and why, if the task is not over."""

    task_id: int
    again: _Again | None


class Tasks:
    """Runs what is due, here and in every other worker on the same database, each task in one of them."""

    def __init__(self, database: Database, clock: Clock, handlers: Mapping[str, Handler]) -> None:
        self._database = database
        self._clock = clock
        self._handlers = handlers
        self._wake = asyncio.Event()
        self._conclude = Together(database, _conclude)

    async def enqueue(self, session: AsyncSession, kind: str, *payloads: Payload, now_ms: int) -> None:
        """Have each of ``payloads`` handled as soon as the session's transaction is committed."""
        if not payloads:
            return
        common = {"kind": kind, "created_ts": now_ms, "due_ts": now_ms, "attempts": 0}
        await session.execute(_ENQUEUE, [{"payload": orjson.dumps(each).decode(), **common} for each in payloads])
        after_commit(session, self._wake.set)

    async def run_forever(self) -> None:
        while True:
            self._wake.clear()
            while await to_its_end(self.run_due()):
                pass
            # Other workers' tasks, and those whose pause is over, are found by looking.
            # (Not wait_for: in Python 3.11 it forgets that it was cancelled if it is woken at the same moment.)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._wake.wait()

    async def run_due(self) -> int:
        """Run the tasks that are due now, side by side; how many there were."""
        claimed = await self._claim()
        await asyncio.gather(*(self._run(*task) for task in claimed))
        return len(claimed)

    async def _claim(self) -> list[tuple[int, str, str, int, int]]:
        now_ms = self._clock.now_ms()
        due = select(_tasks.c.task_id).where(_tasks.c.due_ts <= now_ms).order_by(_tasks.c.due_ts).limit(_AT_ONCE)
        async with self._database.reading() as session:
            if await session.scalar(due.limit(1)) is None:
                return []  # the common case takes no write lock
        async with self._database.transaction() as session:
            rows = await session.execute(
                update(_tasks)
                .where(_tasks.c.task_id.in_(due.with_for_update(skip_locked=True).scalar_subquery()))
                .values(due_ts=now_ms + _LEASE_MS, attempts=_tasks.c.attempts + 1)
                .returning(_tasks.c.task_id, _tasks.c.kind, _tasks.c.payload, _tasks.c.attempts, _tasks.c.created_ts)
            )
            return [tuple(row) for row in rows]

    async def _run(self, task_id: int, kind: str, payload: str, attempts: int, created_ts: int) -> None:
        failure: Exception | None = None
        outcome = "done"
        try:
            await self._handlers[kind](orjson.loads(payload))
        except Exception as error:
            too_old = self._clock.now_ms() - created_ts > _LIFETIME_MS
            failure, outcome = error, "given up" if too_old or isinstance(error, GiveUp) else "failed"
        TASKS.labels(kind, outcome).inc()
        if failure is not None:
            why = type(failure.__cause__ or failure).__name__  # what it says may hold an address
            log.warning("task", kind=kind, outcome=outcome, attempts=attempts, error=why)
        if outcome == "failed":
            pause_ms = min(_FIRST_PAUSE_MS * 2 ** (attempts - 1), _LONGEST_PAUSE_MS)
            again = _Again(self._clock.now_ms() + pause_ms, type(failure).__name__)
        else:
            again = None
        await self._conclude(_Ran(task_id, again))


async def _conclude(session: AsyncSession, ran: Sequence[_Ran]) -> list[None]:
    """Let go of the tasks that are over, and put off those that are to be tried again."""
    over = [each.task_id for each in ran if each.again is None]
    await session.execute(delete(_tasks).where(_tasks.c.task_id.in_(over)))
    for task_id, again in ran:
        if again is not None:
            this = update(_tasks).where(_tasks.c.task_id == task_id)
            await session.execute(this.values(due_ts=again.due_ts, last_error=again.error))
    return [None] * len(ran)
