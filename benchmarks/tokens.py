"""The check of an access token."""

import sqlite3
from collections.abc import AsyncIterator
from time import perf_counter

from benchmarks import data
from benchmarks.report import Row
from benchmarks.world import World
from identity_server.identity.access.store import token_holder
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.tokens import token_hash


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
