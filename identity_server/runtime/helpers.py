"""Work that needs no database, and most of a processor: in a thread, or in a process of its own."""

import asyncio
import gc
import multiprocessing
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Protocol, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


_NICENESS = 19


def step_back() -> None:
    """Let everything that serves go before this process: also large lookups, which step back themselves."""
    os.nice(_NICENESS)


class Run(Protocol):
    """Calls ``act`` elsewhere; what goes there and comes back may have to be pickled. ``asyncio.to_thread`` is one."""

    def __call__(self, act: Callable[..., _Result], /, *arguments: Any) -> Awaitable[_Result]: ...


class Helper:
    """A thread, until it is worth a process: to start one takes as long as 10,000 rows."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Helper":
        return self

    def __exit__(self, *_error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def grow(self) -> None:
        """From now on, a process."""
        if self._pool is None:
            spawning = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._processes, spawning, initializer=gc.disable)

    def run(self, act: Callable[..., _Result], /, *arguments: Any) -> asyncio.Future[_Result]:
        return asyncio.get_running_loop().run_in_executor(self._pool, act, *arguments)


async def one_ahead(run: Run, act: Callable[[_Item], _Result], items: Iterable[_Item]) -> AsyncGenerator[_Result]:
    """``act`` of each of ``items``, in their order; the next is at work while one is looked at."""
    coming: asyncio.Future[_Result] | None = None
    try:
        for item in items:
            due, coming = coming, asyncio.ensure_future(run(act, item))
            if due is not None:
                yield await due
        if coming is not None:
            yield await coming
    finally:
        if coming is not None:
            await asyncio.wait([coming])
