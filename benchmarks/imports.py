"""`bindings import`, on both engines."""

from collections.abc import AsyncIterator

from benchmarks.report import Row, at_least
from benchmarks.world import World

_GOAL = 50_000


async def bulk(world: World) -> AsyncIterator[Row]:
    """`bindings import`, without the reading of its lines."""
    await world.grow(world.sizes.main)
    for size, done in world.imported.items():
        if size in (world.sizes.main, world.sizes.steps[-1]):
            yield Row(
                f"import up to {size:,}",
                f"{done.rows_per_second:,.0f} rows/s; {done.bytes_per_row:.0f} bytes a row",
                **at_least(_GOAL, done.rows_per_second, " rows/s"),
                figures={"rows_per_s": done.rows_per_second, "bytes_per_row": done.bytes_per_row},
            )
    await world.postgresql()
    per_second = world.imported_postgresql
    yield Row(
        f"import of {world.sizes.main:,} into PostgreSQL",
        f"{per_second:,.0f} rows/s",
        **at_least(_GOAL, per_second, " rows/s"),
        figures={"rows_per_s": per_second},
    )
