"""A way between two servers on which anything may happen: a TCP proxy that refuses, slows, cuts and sends twice."""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import Literal

HOST = "127.0.0.1"

Fate = Literal["fine", "refused", "slow", "cut", "twice"]
_FATES: tuple[Fate, ...] = ("fine", "refused", "slow", "cut", "twice")


@dataclass
class Way:
    """To the port ``to`` of another server. While it is ``faulty`` each connection has a fate of its own."""

    to: int
    chance: random.Random
    faulty: bool = False
    met: dict[Fate, int] = field(default_factory=lambda: dict.fromkeys(_FATES, 0))
    _server: asyncio.Server | None = None
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self) -> int:
        """The port to connect to."""
        self._server = await asyncio.start_server(self._take, HOST, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self.drop()

    async def calm(self) -> None:
        """No faults from now on; connections that have one end."""
        self.faulty = False
        await self.drop()

    async def drop(self) -> None:
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._carry(reader, writer)
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fate = self.chance.choice(_FATES) if self.faulty else "fine"
        self.met[fate] += 1
        if fate == "refused":
            return
        there_reader, there_writer = await asyncio.open_connection(HOST, self.to)
        asked = bytearray()
        # Kept alive, a connection would keep its fate: in a faulty network none grows old.
        lifetime = self.chance.uniform(0.3, 2) if self.faulty else None
        left = self.chance.randrange(4_000) if fate == "cut" else None
        try:
            async with asyncio.timeout(lifetime):
                one = asyncio.create_task(self._pour(reader, there_writer, fate, left, asked))
                other = asyncio.create_task(self._pour(there_reader, writer, fate, left, None))
                try:
                    await asyncio.wait({one, other}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    one.cancel()
                    other.cancel()
                    await asyncio.gather(one, other, return_exceptions=True)
        except TimeoutError:
            pass
        finally:
            there_writer.transport.abort()
        if fate == "twice":
            await self._send_again(bytes(asked))

    async def _pour(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        fate: Fate,
        left: int | None,
        copy: bytearray | None,
    ) -> None:
        """Until either side ends, or ``left`` bytes have passed."""
        while chunk := await reader.read(65_536):
            if fate == "slow":
                await asyncio.sleep(self.chance.uniform(0.05, 0.4))
            if left is not None:
                chunk = chunk[:left]
                left -= len(chunk)
            if copy is not None:
                copy += chunk
            writer.write(chunk)
            await writer.drain()
            if left == 0:
                return

    async def _send_again(self, asked: bytes) -> None:
        """All that was asked on a connection, once more and late; what is answered goes nowhere."""
        await asyncio.sleep(self.chance.uniform(0, 1))
        reader, writer = await asyncio.open_connection(HOST, self.to)
        try:
            writer.write(asked)
            async with asyncio.timeout(2):
                while await reader.read(65_536):
                    pass
        except TimeoutError:
            pass
        finally:
            writer.transport.abort()
