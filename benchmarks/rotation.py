"""Pepper rotation while lookups and binds go on."""

import asyncio
from collections.abc import AsyncIterator
from time import perf_counter

from benchmarks import data
from benchmarks.bind import proven_sessions
from benchmarks.load import Load, run
from benchmarks.processes import identity_server, in_process
from benchmarks.report import Row, at_least, at_most
from benchmarks.world import World
from identity_server.identity.lookup.rotate import rotate
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.helpers import step_back
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import LookupSettings


async def rotation(world: World) -> AsyncIterator[Row]:
    url, size = await world.copy(), world.sizes.main
    pepper, _ = await data.pepper_and_slot(url)
    binds = await proven_sessions(url, "rotation", 5_000)
    over = world.folder / "rotated"
    async with identity_server(world.folder / "rotation", url) as server:
        requests = data.lookup_requests(100, size, pepper, different=200)
        world.say("lookups at rest")
        rest = (await run(Load(server.port, requests, 2, world.sizes.seconds, pause=0.005))).checked()
        world.say("rotating")
        lookups = asyncio.create_task(run(Load(server.port, requests, 2, 600, pause=0.005, until=str(over))))
        binding = asyncio.create_task(run(Load(server.port, binds, 1, 600, once=True, pause=0.05, until=str(over))))
        await asyncio.sleep(0.5)
        try:
            seconds = await in_process(_rotate, url)
        finally:
            over.touch()
        meanwhile, bound = (await lookups).checked(), (await binding).checked()
    per_second = size / seconds
    yield Row(
        "pepper rotation, online",
        f"{per_second:,.0f} rows/s; {bound.answered} binds meanwhile, the slowest {bound.max_ms:.0f} ms",
        **at_least(100_000, per_second, " rows/s"),
        figures={"rows_per_s": per_second, "binds": bound.answered, "slowest_bind_ms": bound.max_ms},
    )
    ratio = meanwhile.p99_ms / rest.p99_ms
    yield Row(
        "p99 of lookups of 100 hashes during the rotation, to that at rest",
        f"{meanwhile.p99_ms:.1f} ms; {rest.p99_ms:.1f} ms",
        **at_most(2, ratio, ratio=f"{ratio:.1f}"),
        figures={"meanwhile_p99_ms": meanwhile.p99_ms, "rest_p99_ms": rest.p99_ms},
    )


def _rotate(url: str) -> float:
    step_back()  # as the command does
    return asyncio.run(_timed_rotation(url))


async def _timed_rotation(url: str) -> float:
    database = Database(url)
    try:
        began = perf_counter()
        await rotate(database, LookupSettings(), clock=SystemClock(), entropy=SystemEntropy())
        return perf_counter() - began
    finally:
        await database.close()
