"""The mesh, for as long as you like: `python -m tests.soak_mesh --minutes 30`."""

import argparse
import asyncio
import tempfile
from pathlib import Path
from time import monotonic, perf_counter

from tests.mesh.play import open_mesh


async def soak(minutes: float, seed: int) -> None:
    """Disturb, come to rest, check; again and again on the same servers."""
    end = monotonic() + minutes * 60
    number = 0
    with tempfile.TemporaryDirectory() as folder:
        async with open_mesh(Path(folder), seed) as mesh:
            await mesh.come_to_rest()
            print(f"seed {seed}; found elsewhere after {await mesh.seconds_until_found(9):.2f} s")  # noqa: T201 (a command)
            while monotonic() < end:
                number += 1
                await mesh.disturb(seconds=15)
                began = perf_counter()
                await mesh.come_to_rest()
                took = perf_counter() - began
                await mesh.check()
                story = mesh.story
                print(  # noqa: T201 (a command)
                    f"round {number}: {len(story.bound)} binds and {len(story.unbound)} unbinds answered, "
                    f"{story.unanswered} not; at rest after {took:.1f} s",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    asyncio.run(soak(given.minutes, given.seed))
