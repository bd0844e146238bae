"""Rotation without a person: when the pepper has grown old."""

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import structlog

from identity_server.identity.lookup import store
from identity_server.identity.lookup.rotate import InGrace, rotate
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import Settings

log = structlog.get_logger(__name__)


async def rotate_when_old(database: Database, settings: Settings, now_ms: int) -> None:
    """Rotate if the current pepper is older than ``lookup.rotate_pepper_after``, or a rotation was interrupted.

    In a process of its own: hashing millions of addresses would be felt by every request in this one.
    """
    async with database.reading() as session:
        live = await store.live_peppers(session)
    is_old = any(
        pepper.state == "current" and now_ms >= pepper.created_ts + settings.lookup.rotate_pepper_after
        for pepper in live
    )
    was_interrupted = any(pepper.state == "building" for pepper in live)
    if not settings.lookup.rotate_pepper_after or not (is_old or was_interrupted):
        return
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        if await asyncio.get_running_loop().run_in_executor(process, _rotate, settings):
            log.info("pepper rotated")


def _rotate(settings: Settings) -> bool:
    return asyncio.run(_rotate_here(settings))


async def _rotate_here(settings: Settings) -> bool:
    database = Database(settings.database_url)
    try:
        await rotate(database, settings.lookup, clock=SystemClock(), entropy=SystemEntropy())
    except InGrace:
        return False  # the pause between rotations is shorter than the grace; it is looked at again soon
    finally:
        await database.close()
    return True
