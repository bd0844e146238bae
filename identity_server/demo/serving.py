"""Ports of our own on loopback, and applications that answer on them while a block of code runs."""

import asyncio
import itertools
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from identity_server.homeserver.serve import Listening, serve_homeserver
from identity_server.settings import Settings

HOST = "127.0.0.1"

# Below those that the system gives to whoever connects: such a port may be taken again before it is listened on.
_UNASKED_PORTS = range(16_000, 32_000)
_turns = itertools.count(os.getpid() * 61)

_START_SECONDS = 20
_GRACE_SECONDS = 2


class DidNotStart(Exception):
    """A server ended before it served."""


def listen(port: int = 0) -> socket.socket:
    """A listening socket; port 0 is any that is free. Raises ``OSError``."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise OSError(f"cannot listen on {HOST}, port {port}: {os.strerror(error.errno or 0)}") from error


def free_port() -> int:
    """A port that nobody listens on just now, nor soon: each call, in each process, begins at another."""
    while True:
        port = _UNASKED_PORTS[next(_turns) % len(_UNASKED_PORTS)]
        with suppress(OSError), listen(port):
            return port


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """``app`` answers on ``listener``. Raises ``DidNotStart``."""
    server = _Server(
        uvicorn.Config(
            app,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    up = asyncio.create_task(server.up.wait())
    try:
        await asyncio.wait({task, up}, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not server.started:
            raise DidNotStart(f"what should answer on port {port_of(listener)} did not start")
        yield
    finally:
        up.cancel()
        server.should_exit = True
        await task


@asynccontextmanager
async def serving_homeserver(settings: Settings) -> AsyncIterator[Listening]:
    """The bundled homeserver answers on both of its ports."""
    stop = asyncio.Event()
    up: asyncio.Future[Listening] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve_homeserver(settings, stop=stop, ready=up.set_result))
    try:
        first: set[asyncio.Future[Any]] = {task, up}
        await asyncio.wait(first, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not up.done():
            raise DidNotStart("the homeserver did not start")
        yield up.result()
    finally:
        up.cancel()
        stop.set()
        await task


class _Server(uvicorn.Server):
    """Signals are not its business, and it says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()
