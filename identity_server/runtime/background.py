"""Loops that run beside the requests for as long as the process serves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog

from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.leases import release_lease, take_lease

log = structlog.get_logger(__name__)

_PAUSE_AFTER_FAILURE_SECONDS = 5.0
_SHORTEST_LEASE_MS = 5_000
_RELEASE_SECONDS = 2
_PATIENCE_SECONDS = 10

_T = TypeVar("_T")


@asynccontextmanager
async def running(*loops: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run each of ``loops``, restarting one that fails, until the block ends."""
    stopping = asyncio.Event()
    tasks = [asyncio.create_task(_restarted(loop, stopping)) for loop in loops]
    try:
        yield
    finally:
        stopping.set()
        # Again and again: a library that is cancelled at an unlucky moment may make another error of it.
        while tasks and (pending := [task for task in tasks if not task.done()]):
            for task in pending:
                task.cancel()
            await asyncio.wait(pending, timeout=_PATIENCE_SECONDS + 5)


async def to_its_end(work: Awaitable[_T]) -> _T:
    """Like ``await work``, but when cancelled, finish it first: a database driver that is cancelled in the middle of a
    statement loses its connection."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=_PATIENCE_SECONDS)
        raise


async def _restarted(loop: Callable[[], Awaitable[None]], stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        try:
            await loop()
        except Exception as error:
            if stopping.is_set():
                return
            log.error("background loop failed", loop=getattr(loop, "__qualname__", "?"), exc_info=error)
        await asyncio.sleep(_PAUSE_AFTER_FAILURE_SECONDS)


def once_at_a_time(
    work: str, act: Callable[[int], Awaitable[None]], *, database: Database, clock: Clock, holder: str, every_ms: int
) -> Callable[[], Awaitable[None]]:
    """A loop that calls ``act(now_ms)`` every ``every_ms``, in one of all the processes on this database."""

    for_ms = max(every_ms * 2, _SHORTEST_LEASE_MS)

    async def loop() -> None:
        held_until_ts = 0
        try:
            while True:
                now_ms = clock.now_ms()
                # Renewed in good time, but not at every turn: it costs a write.
                if held_until_ts - now_ms < for_ms // 2:
                    taking = take_lease(database, work, holder, now_ms=now_ms, for_ms=for_ms)
                    is_ours = await to_its_end(taking)
                    held_until_ts = now_ms + for_ms if is_ours else 0
                if held_until_ts:
                    await to_its_end(act(now_ms))
                await asyncio.sleep((every_ms if held_until_ts else for_ms // 4) / 1000)
        finally:
            # Whoever is started next need not wait for it to run out.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await release_lease(database, work, holder)

    loop.__qualname__ = work
    return loop
