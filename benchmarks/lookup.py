"""Lookups: what they cost, how many there are in a second, how they grow, and what they do to others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks import data
from benchmarks.limits import cost, http, postgresql_lookup_ms, sqlite_lookup_us
from benchmarks.load import Load, request, run
from benchmarks.processes import held_back, identity_server
from benchmarks.report import Row, at_least, at_most
from benchmarks.world import World

_SHARE = 0.25
_GROWING = ((1, 16, 5_000), (1_000, 1, 200))
"""How many hashes, on how many connections, in how many different requests."""


async def lookup(world: World) -> AsyncIterator[Row]:
    """CPU beside the limits; hashes per second; one hash beside FastAPI."""
    size, seconds = world.sizes.main, world.sizes.seconds
    await world.grow(size)
    pepper, slot = await data.pepper_and_slot(world.sqlite)
    world.say("FastAPI's own request")
    fastapi_us, fastapi_per_second = await http(world, "fastapi")
    async with identity_server(world.folder / "lookup", world.sqlite) as server:
        for hashes in (1_000, 10_000):
            world.say(f"lookup of {hashes:,} hashes")
            bare_us = sqlite_lookup_us(_file(world.sqlite), slot, pepper, size, hashes, seconds / 4)
            requests = data.lookup_requests(hashes, size, pepper)
            ours_us, _ = await cost(server, requests, seconds, connections=1)
            _, per_second = await cost(server, requests, seconds)
            ratio = ours_us / (bare_us + fastapi_us)
            yield Row(
                f"lookup of {hashes:,} hashes: CPU to L2 and a FastAPI request",
                f"{ours_us / 1e3:.2f} ms; L2 {bare_us / 1e3:.2f} ms, FastAPI {fastapi_us / 1e3:.2f} ms",
                **at_most(1.5, ratio),
                figures={"ours_cpu_us": ours_us, "l2_cpu_us": bare_us, "fastapi_cpu_us": fastapi_us},
            )
            yield Row(
                f"lookup of {hashes:,} hashes, 16 connections",
                f"{per_second * hashes:,.0f} hashes/s ({per_second:,.0f} requests/s)",
                **at_least(1_000_000, per_second * hashes, " hashes/s"),
                figures={"hashes_per_s": per_second * hashes},
            )
        world.say("lookup of one hash")
        ours_us, per_second = await cost(server, data.lookup_requests(1, size, pepper, different=1000), seconds)
        yield Row(
            "lookup of 1 hash, 16 connections, to FastAPI's prepared Response",
            f"{per_second:,.0f}/s, {ours_us:.0f} µs of CPU; FastAPI {fastapi_per_second:,.0f}/s, {fastapi_us:.0f} µs",
            **at_least(0.5, per_second / fastapi_per_second, written="≥ 0.50"),
            figures={"per_s": per_second, "fastapi_per_s": fastapi_per_second, "cpu_us": ours_us},
        )


async def latency(world: World) -> AsyncIterator[Row]:
    """A small request beside large ones."""
    size, seconds = world.sizes.main, world.sizes.seconds
    await world.grow(size)
    pepper, _ = await data.pepper_and_slot(world.sqlite)
    async with identity_server(world.folder / "latency", world.sqlite) as server:
        details = [request("GET", f"{data.V2}/hash_details", token=data.TOKEN)]
        small = Load(server.port, details, connections=1, seconds=seconds, pause=0.002)
        large = Load(server.port, data.lookup_requests(10_000, size, pepper), connections=4, seconds=seconds + 1)
        world.say("hash_details alone")
        alone = (await run(small)).checked()
        world.say("hash_details beside lookups")
        streaming = asyncio.create_task(run(large))
        await asyncio.sleep(0.7)
        beside = (await run(small)).checked()
        lookups = (await streaming).checked()
    ratio = beside.p99_ms / alone.p99_ms
    yield Row(
        "p99 of hash_details while 4 connections stream lookups of 10,000",
        f"{beside.p99_ms:.1f} ms; alone {alone.p99_ms:.1f} ms; {lookups.per_second:.0f} lookups/s beside",
        **at_most(3, ratio, ratio=f"{ratio:.1f}"),
        figures={"beside_p99_ms": beside.p99_ms, "alone_p99_ms": alone.p99_ms, "lookups_per_s": lookups.per_second},
    )


async def workers(world: World) -> AsyncIterator[Row]:
    """Two workers beside one, on PostgreSQL; and what a lookup there costs beside bare asyncpg."""
    size, seconds = world.sizes.main, world.sizes.seconds
    url = await world.postgresql()
    pepper, slot = await data.pepper_and_slot(url)
    one_hash = data.lookup_requests(1, size, pepper, different=1000)
    per_second, cpu_us = {}, {}
    for workers_ in (1, 2):
        world.say(f"{workers_} workers on PostgreSQL")
        section = {"workers": workers_}
        async with identity_server(world.folder / f"workers-{workers_}", url, server=section) as server:
            await asyncio.sleep(2 * (workers_ - 1))  # for the worker that was not the first to answer
            cpu_us[workers_], per_second[workers_] = await cost(server, one_hash, seconds, connections=32)
            if workers_ == 1:
                thousand = data.lookup_requests(1_000, size, pepper)
                ours = (await run(Load(server.port, thousand, connections=1, seconds=seconds))).checked()
    bare_ms = await postgresql_lookup_ms(url, slot, pepper, size, 1_000, seconds / 2)
    yield Row(
        "lookup of 1,000 hashes on PostgreSQL, one connection: time to bare asyncpg",
        f"{ours.p50_ms:.1f} ms; L2 {bare_ms:.1f} ms",
        f"{ours.p50_ms / bare_ms:.2f}",
        figures={"ours_ms": ours.p50_ms, "l2_ms": bare_ms},
    )
    ratio = per_second[2] / per_second[1]
    yield Row(
        "lookup with 2 workers on PostgreSQL to 1 worker",
        f"{per_second[2]:,.0f}/s; one {per_second[1]:,.0f}/s at {cpu_us[1]:.0f} µs of CPU each",
        **at_least(1.7, ratio),
        figures={"two_per_s": per_second[2], "one_per_s": per_second[1], "cpu_us": cpu_us[1]},
    )
    one, both = await _held_per_second(world, url, one_hash)
    yield Row(
        f"the same, two servers, each held to {_SHARE:.0%} of a core: with room for PostgreSQL and the load",
        f"{both:,.0f}/s; one {one:,.0f}/s",
        **at_least(1.7, both / one),
        figures={"two_per_s": both, "one_per_s": one},
    )


async def _held_per_second(world: World, url: str, requests: list[bytes]) -> tuple[float, float]:
    """Of one server, and of two on the same database, on ports of their own, none of which may run all the time."""
    world.say("servers that are held back")
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(identity_server(world.folder / f"held-{number}", url)) for number in (1, 2)
        ]
        sums = []
        for some in (servers[:1], servers):
            loads = [Load(server.port, requests, connections=32, seconds=world.sizes.seconds * 2) for server in some]
            async with held_back(some, _SHARE):
                outcomes = await asyncio.gather(*map(run, loads))
            sums.append(sum(outcome.checked().per_second for outcome in outcomes))
    one, both = sums
    return one, both


async def growth(world: World) -> AsyncIterator[Row]:
    """The same lookups at each size; the last is only grown to here, after all else."""
    costs: dict[tuple[int, int], float] = {}
    for size in world.sizes.steps:
        url = await _at(world, size)
        pepper, _ = await data.pepper_and_slot(url)
        async with identity_server(world.folder / f"growth-{size}", url) as server:
            world.say(f"lookup among {size:,}")
            for hashes, connections, different in _GROWING:
                requests = data.lookup_requests(hashes, size, pepper, different=different)
                costs[hashes, size], _ = await cost(server, requests, world.sizes.seconds, connections)
    for hashes, connections, _ in _GROWING:
        for smaller, larger in zip(world.sizes.steps, world.sizes.steps[1:], strict=False):
            more, less = costs[hashes, larger], costs[hashes, smaller]
            yield Row(
                f"lookup of {hashes:,} among {larger:,} to {smaller:,}, {connections} connections: CPU",
                f"{more / 1e3:.2f} ms; {less / 1e3:.2f} ms",
                **at_most(1.3, more / less),
                figures={"larger_cpu_us": more, "smaller_cpu_us": less},
            )


async def _at(world: World, size: int) -> str:
    """A database of just this size: the growing one if it is not past it, else one made for the purpose."""
    if world.people <= size:
        await world.grow(size)
        return world.sqlite
    url = f"sqlite:///{world.folder / f'of-{size}.db'}"
    world.say(f"importing {size:,}")
    await data.fill(url, 0, size)
    return url


def _file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))
