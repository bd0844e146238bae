"""Where the stories play: folders, databases of the sizes they ask for, both engines."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from benchmarks import data
from benchmarks.processes import new_database, postgresql

Say = Callable[[str], None]
Advance = Callable[[str, int, int, float], None]


@dataclass(frozen=True)
class Sizes:
    """``steps``: the sizes at which the cost of a lookup is compared, each ten times the one before."""

    main: int
    steps: tuple[int, ...]
    seconds: float  # of each load
    events: int  # that the homeserver starts with
    members: int  # of the room that is joined over federation
    state: int  # events of its state, members too
    received: int  # events over federation


FULL = Sizes(1_000_000, (10_000, 100_000, 1_000_000, 10_000_000), 3.0, 100_000, 5_000, 20_000, 4_000)
QUICK = Sizes(40_000, (4_000, 40_000), 0.4, 2_000, 200, 700, 300)


class Imported(NamedTuple):
    """``bytes_per_row``: of the whole file, at its end."""

    rows_per_second: float
    bytes_per_row: float


class World:
    def __init__(self, folder: Path, sizes: Sizes, say: Say, advance: Advance, stack: ExitStack) -> None:
        """``say`` what is going on; ``advance`` the bar of something that takes long: what, rows done, of how many,
        rows per second."""
        self.folder = folder
        self.sizes = sizes
        self.say = say
        self.advance = advance
        self._stack = stack
        self._postgresql: str | None = None
        self._on_postgresql: str | None = None
        self._copies = 0
        self.people = 0
        self.imported: dict[int, Imported] = {}  # by the size that was come to

    @property
    def _file(self) -> Path:
        return self.folder / "identity.db"

    @property
    def sqlite(self) -> str:
        return f"sqlite:///{self._file}"

    async def grow(self, people: int) -> None:
        """Let the SQLite database have so many, if it has fewer; each size that matters is grown to in a run of its
        own."""
        for size in sorted({*(step for step in self.sizes.steps if step < people), people}):
            if size > self.people:
                self.say(f"importing up to {size:,}")
                rows_per_second = await self.fill(self.sqlite, self.people, size)
                self.imported[size] = Imported(rows_per_second, self._file.stat().st_size / size)
                self.people = size

    async def fill(self, url: str, start: int, end: int) -> float:
        """Import the people from ``start`` to ``end``; rows per second."""
        began = perf_counter()
        await data.fill(url, start, end, lambda stage, done, of: self.watch(stage, done, of or end - start, began))
        return (end - start) / (perf_counter() - began)

    def watch(self, what: str, done: int, of: int, began: float) -> None:
        """Show how far it is with ``what``, which ``began`` then (``perf_counter``)."""
        self.advance(what, done, of, done / (perf_counter() - began))

    async def copy(self) -> str:
        """A database of the main size, to be changed at will."""
        await self.grow(self.sizes.main)
        self._copies += 1
        copy = self.folder / f"copy-{self._copies}.db"
        await asyncio.to_thread(shutil.copyfile, self._file, copy)
        return f"sqlite:///{copy}"

    async def postgresql(self) -> str:
        """A PostgreSQL database of the main size."""
        if self._on_postgresql is None:
            server = self.postgresql_server()
            self._on_postgresql = await new_database(server, "benchmark")
            self.say(f"importing {self.sizes.main:,} into PostgreSQL")
            self.imported_postgresql = await self.fill(self._on_postgresql, 0, self.sizes.main)
        return self._on_postgresql

    def postgresql_server(self) -> str:
        if self._postgresql is None:
            self._postgresql = self._stack.enter_context(postgresql(self.folder))
        return self._postgresql
