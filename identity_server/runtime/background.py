"""Loops that run beside the requests for as long as the process serves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.leases import release_lease, take_lease

log = structlog.get_logger(__name__)

_PAUSE_AFTER_FAILURE_SECONDS = 5.0
_SHORTEST_LEASE_MS = 5_000


@asynccontextmanager
async def running(*loops: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run each of ``loops``, restarting one that fails, until the block ends."""
    tasks = [asyncio.create_task(_restarted(loop)) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _restarted(loop: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await loop()
        except Exception as error:
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
                    is_ours = await take_lease(database, work, holder, now_ms=now_ms, for_ms=for_ms)
                    held_until_ts = now_ms + for_ms if is_ours else 0
                if held_until_ts:
                    await act(now_ms)
                await asyncio.sleep((every_ms if held_until_ts else for_ms // 4) / 1000)
        finally:
            # Whoever is started next need not wait for it to run out.
            await release_lease(database, work, holder)

    loop.__qualname__ = work
    return loop
