"""What the tables of hashes need without a person: another pepper when it has grown old, and what a killed import owes
them. In a process of its own: hashing millions of addresses would be felt by every request in this one."""

import asyncio
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import structlog

from identity_server.identity.lookup import store
from identity_server.identity.lookup.imports import AnotherImport, importing, is_importing
from identity_server.identity.lookup.rotate import InGrace, rotate
from identity_server.identity.lookup.store import LivePepper
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.helpers import step_back
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import Settings

log = structlog.get_logger(__name__)


async def tend_hashes(database: Database, settings: Settings, now_ms: int) -> None:
    async with database.reading() as session:
        live = await store.live_peppers(session)
    was_begun = any(pepper.import_id is not None for pepper in live)
    if was_begun and not await is_importing(database, now_ms) and await _elsewhere(_finish_import, settings):
        log.info("import finished that was killed")
    if _is_rotation_due(live, settings, now_ms) and await _elsewhere(_rotate, settings):
        log.info("pepper rotated")


def _is_rotation_due(live: Sequence[LivePepper], settings: Settings, now_ms: int) -> bool:
    """Whether the current pepper is older than ``lookup.rotate_pepper_after``, or a rotation was interrupted."""
    is_old = any(
        pepper.state == "current" and now_ms >= pepper.created_ts + settings.lookup.rotate_pepper_after
        for pepper in live
    )
    was_interrupted = any(pepper.state == "building" for pepper in live)
    return bool(settings.lookup.rotate_pepper_after) and (is_old or was_interrupted)


async def _elsewhere(act: Callable[[Settings], bool], settings: Settings) -> bool:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=step_back) as process:
        return await asyncio.get_running_loop().run_in_executor(process, act, settings)


def _rotate(settings: Settings) -> bool:
    async def rotate_here() -> bool:
        database = Database(settings.database_url)
        try:
            await rotate(database, settings.lookup, clock=SystemClock(), entropy=SystemEntropy())
        except InGrace:
            return False  # the pause between rotations is shorter than the grace; it is looked at again soon
        finally:
            await database.close()
        return True

    return asyncio.run(rotate_here())


def _finish_import(settings: Settings) -> bool:
    async def finish_here() -> bool:
        database = Database(settings.database_url)
        try:
            async with importing(database, clock=SystemClock(), entropy=SystemEntropy()) as hashes:
                await hashes.finish_another()
                await hashes.put_in()
        except AnotherImport:
            return False  # it has just been begun, and does the same
        finally:
            await database.close()
        return True

    return asyncio.run(finish_here())
