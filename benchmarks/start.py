"""Import, start, and what a process holds in memory; the check of an access token."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter

from benchmarks import data
from benchmarks.limits import cost
from benchmarks.processes import identity_server
from benchmarks.report import Row
from benchmarks.world import World
from identity_server.identity.access.store import token_holder
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.tokens import token_hash


async def bulk(world: World) -> AsyncIterator[Row]:
    """`bindings import`, without the reading of its lines."""
    await world.grow(world.sizes.main)
    for size, per_second in world.imported.items():
        if size in (world.sizes.main, world.sizes.steps[-1]):
            file = Path(world.sqlite.removeprefix("sqlite:///"))
            yield Row(
                f"import up to {size:,}",
                f"{per_second:,.0f} rows/s; {file.stat().st_size / size:.0f} bytes a row",
                f"{per_second / 50_000:.2f} of the goal",
                "≥ 50,000 rows/s",
                per_second >= 50_000,
                {"rows_per_s": per_second, "bytes_per_row": file.stat().st_size / size},
            )
    await world.postgresql()
    per_second = world.imported_postgresql
    yield Row(
        f"import of {world.sizes.main:,} into PostgreSQL",
        f"{per_second:,.0f} rows/s",
        f"{per_second / 50_000:.2f} of the goal",
        "≥ 50,000 rows/s",
        per_second >= 50_000,
        {"rows_per_s": per_second},
    )


async def tokens(world: World) -> AsyncIterator[Row]:
    """What every request pays first."""
    await world.grow(world.sizes.steps[0])
    database, clock, hashed = Database(world.sqlite), SystemClock(), token_hash(data.TOKEN)
    try:
        assert await token_holder(database.fast, hashed, now_ms=clock.now_ms()) == data.READER
        began, turns = perf_counter(), 5_000
        for _ in range(turns):
            await token_holder(database.fast, hashed, now_ms=clock.now_ms())
        each_us = (perf_counter() - began) / turns * 1e6
    finally:
        await database.close()
    connection = sqlite3.connect(world.sqlite.removeprefix("sqlite:///"))
    statement = "SELECT user_id FROM access_tokens WHERE token_hash = ? AND (expires_ts IS NULL OR expires_ts > ?)"
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", (hashed, 0))]
    connection.close()
    is_one_search = len(plan) == 1 and plan[0].startswith("SEARCH access_tokens USING")
    yield Row(
        "token check",
        f"{each_us:.1f} µs; {plan[0]}",
        f"{len(plan)} query",
        "one indexed query",
        is_one_search,
        {"us": each_us},
    )


async def start(world: World) -> AsyncIterator[Row]:
    """With the largest table: the first answer, and the memory after lookups all over it."""
    sizes = world.sizes.steps
    rss, seconds = {}, {}
    small = f"sqlite:///{world.folder / 'small.db'}"
    await data.fill(small, 0, sizes[0])
    await world.grow(sizes[-1])
    for size, url in ((sizes[0], small), (sizes[-1], world.sqlite)):
        world.say(f"starting with {size:,}")
        pepper, _ = await data.pepper_and_slot(url)
        async with identity_server(world.folder / f"start-{size}", url) as server:
            seconds[size] = server.started_seconds
            await cost(server, data.lookup_requests(1_000, size, pepper, different=500), world.sizes.seconds)
            rss[size] = server.rss_mib()
    largest = sizes[-1]
    yield Row(
        f"start with {largest:,} associations, to the first answer",
        f"{seconds[largest]:.2f} s; with {sizes[0]:,} {seconds[sizes[0]]:.2f} s",
        f"{seconds[largest] / seconds[sizes[0]]:.2f}",
        "≤ 1.5 s",
        seconds[largest] <= 1.5,
        {"seconds": seconds[largest], "small_seconds": seconds[sizes[0]]},
    )
    yield Row(
        f"RSS after lookups among {largest:,}",
        f"{rss[largest]:.0f} MiB; among {sizes[0]:,} {rss[sizes[0]]:.0f} MiB",
        f"{rss[largest] / rss[sizes[0]]:.2f}",
        "≤ 150 MiB, flat",
        rss[largest] <= 150,
        {"mib": rss[largest], "small_mib": rss[sizes[0]]},
    )
