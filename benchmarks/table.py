"""Tells the stories that were asked for, in their order, and prints the table."""

import argparse
import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.bind import bind, mail
from benchmarks.homeserver import restart, sends
from benchmarks.homeserver_federation import federation
from benchmarks.imports import bulk
from benchmarks.limits import limits
from benchmarks.lookup import growth, latency, lookup, workers
from benchmarks.replication import replication
from benchmarks.report import Row, print_table, write_json
from benchmarks.rotation import rotation
from benchmarks.start import start
from benchmarks.tokens import tokens
from benchmarks.world import FULL, QUICK, World

# In this order: the table grows to its largest at the end.
STORIES: dict[str, Callable[[World], AsyncIterator[Row]]] = {
    "limits": limits,
    "tokens": tokens,
    "lookup": lookup,
    "latency": latency,
    "workers": workers,
    "bind": bind,
    "mail": mail,
    "rotation": rotation,
    "replication": replication,
    "growth": growth,
    "start": start,
    "import": bulk,
    "sends": sends,
    "federation": federation,
    "restart": restart,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(STORIES)}; all unless given")
    parser.add_argument("--quick", action="store_true", help="smaller tables and shorter runs: under two minutes")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where to write the figures; else benchmarks/results/"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(STORIES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(STORIES)}")
    chosen = {name: story for name, story in STORIES.items() if not arguments.names or name in arguments.names}
    console, load_average, began = Console(), os.getloadavg()[0], perf_counter()
    if load_average > 1:
        console.print(f"[yellow]The machine is busy (load average {load_average:.1f}): expect poor figures.[/yellow]")
    rows: list[Row] = []
    failed = True
    try:
        failed = asyncio.run(_measure(chosen, rows, quick=arguments.quick, console=console))
    except KeyboardInterrupt:
        console.print("Interrupted; this is what was measured until then.")
    print_table(rows, console)
    file = write_json(rows, arguments.json, seconds=perf_counter() - began, load_average=load_average)
    console.print(f"{perf_counter() - began:.0f} s; written to {file}", highlight=False)
    return 1 if failed else 0


async def _measure(
    chosen: dict[str, Callable[[World], AsyncIterator[Row]]], rows: list[Row], *, quick: bool, console: Console
) -> bool:
    """Add what all stories measure to ``rows``; whether one has failed, which says so, and the others go on."""
    failed = False
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        bar = stack.enter_context(Progress(*columns, console=console, transient=True))
        task, long_work = bar.add_task("", total=len(chosen)), bar.add_task("", visible=False)
        name = ""

        def say(what: str) -> None:
            bar.update(task, description=f"{name}: {what}")
            bar.update(long_work, visible=False)

        def advance(what: str, done: int, of: int, per_second: float) -> None:
            description = f"{what}, {per_second:,.0f} rows/s"
            bar.update(long_work, description=description, completed=done, total=of, visible=True)

        world = World(folder, QUICK if quick else FULL, say, advance, stack)
        for name, story in chosen.items():
            try:
                async for row in story(world):
                    rows.append(row)  # noqa: PERF401 (what was measured before a failure stays)
            except Exception as error:
                console.print_exception()
                rows.append(Row(name, f"failed: {type(error).__name__}", reached=False))
                failed = True
            bar.advance(task)
    return failed
