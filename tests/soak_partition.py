"""Homeservers that lose each other, again and again: python -m tests.soak_partition --runs 200 --seed 1"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import structlog

from tests.homeserver.federation.partition import open_partition


async def play(seed: int) -> str | None:
    """What was wrong."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_partition(Path(folder), seed) as partition:
            await partition.gather()
            await partition.disturb()
            try:
                await partition.come_to_rest()
            except TimeoutError:
                return await partition.difference()
    return None


async def soak(runs: int, seed: int) -> int:
    failed = 0
    for number in range(seed, seed + runs):
        wrong = await play(number)
        failed += wrong is not None
        print(f"seed {number}: {'the same everywhere' if wrong is None else wrong}", flush=True)  # noqa: T201 (a command)
    print(f"{runs} runs, {failed} of them ended with servers that disagree")  # noqa: T201 (a command)
    return failed


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sys.exit(asyncio.run(soak(given.runs, given.seed)) > 0)
