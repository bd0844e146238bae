"""The network between servers, as far as a test may spoil it: each server stands behind a port that can be cut."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from identity_server.demo.serving import HOST, free_port, listen, port_of

Result = TypeVar("Result")


class Background:
    """An event loop in a thread, for what outlives a test's own loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=60)

    def close(self) -> None:
        self.run(_end_of_tasks())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=10)
        self.loop.close()


async def _end_of_tasks() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Link:
    """``port`` leads to ``target``, until it is cut."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._listener = listen()
        self.port = port_of(self._listener)
        self.target = free_port()
        self._is_cut = False
        self._open: set[asyncio.StreamWriter] = set()
        self._server = background.run(asyncio.start_server(self._relay, sock=self._listener))

    def cut(self) -> None:
        """Whoever is connected is cut off, and whoever connects is turned away."""
        self._background.run(self._set(is_cut=True))

    def heal(self) -> None:
        self._background.run(self._set(is_cut=False))

    @contextmanager
    def down(self) -> Iterator[None]:
        self.cut()
        try:
            yield
        finally:
            self.heal()

    def close(self) -> None:
        self._background.run(self._close())

    async def _close(self) -> None:
        self._server.close()
        await self._set(is_cut=True)

    async def _set(self, *, is_cut: bool) -> None:
        self._is_cut = is_cut
        if is_cut:
            for writer in self._open:
                writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            onward_reader, onward = await asyncio.open_connection(HOST, self.target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, onward}
        self._open |= ends
        try:
            await asyncio.gather(_pump(reader, onward), _pump(onward_reader, writer))
        finally:
            self._open -= ends
            for end in ends:
                end.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
        writer.write_eof()
