"""Start, and what a process holds in memory."""

from collections.abc import AsyncIterator

from benchmarks import data
from benchmarks.limits import cost
from benchmarks.processes import identity_server
from benchmarks.report import Row, at_most
from benchmarks.world import World


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
        **at_most(1.5, seconds[largest], " s", ratio=f"{seconds[largest] / seconds[sizes[0]]:.2f}"),
        figures={"seconds": seconds[largest], "small_seconds": seconds[sizes[0]]},
    )
    yield Row(
        f"RSS after lookups among {largest:,}",
        f"{rss[largest]:.0f} MiB; among {sizes[0]:,} {rss[sizes[0]]:.0f} MiB",
        **at_most(150, rss[largest], " MiB, flat", ratio=f"{rss[largest] / rss[sizes[0]]:.2f}"),
        figures={"mib": rss[largest], "small_mib": rss[sizes[0]]},
    )
