"""Serving the homeserver: clients by HTTP on one port, other servers by TLS on another, one application behind both."""

import asyncio
import ipaddress
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from identity_server.homeserver.application import homeserver_application, open_homeserver
from identity_server.homeserver.certificates import CA_FILE, issue_certificate, load_authority
from identity_server.matrix.identifiers import split_server_name
from identity_server.settings import Settings

log = structlog.get_logger(__name__)

_GRACE_SECONDS = 10
_LET_GO_SECONDS = 0.2
_BACKLOG = 2048


@dataclass(frozen=True)
class Listening:
    """The ports that are served, and the authority to trust if the certificate is one of our own making."""

    client_port: int
    federation_port: int
    ca_file: Path | None


async def serve_homeserver(
    settings: Settings, *, stop: asyncio.Event | None = None, ready: Callable[[Listening], None] | None = None
) -> None:
    """Serve until ``stop`` is set, or without one until SIGTERM or SIGINT; requests under way are finished.

    ``ready`` is called once both ports answer. Raises ``OSError`` for a port that cannot be had, ``BadKeyFile``,
    ``migrations.OutOfDate``, and ``ssl.SSLError`` for a certificate that cannot be used.
    """
    homeserver = settings.homeserver
    context, ca_file = federation_tls(settings)
    with ExitStack() as sockets:
        client_socket = sockets.enter_context(_listen(homeserver.bind, homeserver.port))
        federation_socket = sockets.enter_context(_listen(homeserver.bind, homeserver.federation_port))
        listening = Listening(client_socket.getsockname()[1], federation_socket.getsockname()[1], ca_file)
        async with open_homeserver(settings) as state:
            app = opened(homeserver_application(settings), state)
            servers = {
                _Server(_configuration(app, settings)): client_socket,
                _Server(_configuration(app, settings, context)): federation_socket,
            }
            async with asyncio.TaskGroup() as group, _stopping(stop) as stopped:
                for server, listener in servers.items():
                    group.create_task(_to_the_end(server, listener))
                for server in servers:
                    await server.up.wait()
                log.info(
                    "homeserver serves", client_port=listening.client_port, federation_port=listening.federation_port
                )
                if ready:
                    ready(listening)
                try:
                    await stopped.wait()
                finally:
                    state["streams"].close()  # else those who wait in /sync would be waited for
                    for server in servers:
                        server.should_exit = True


async def _to_the_end(server: "_Server", listener: socket.socket) -> None:
    """Serve; when cancelled, finish what is under way first."""
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise


def opened(app: ASGIApp, state: dict[str, Any]) -> ASGIApp:
    """``app`` as after a lifespan that yielded ``state``: two servers share what is opened once."""

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    return with_state


def federation_tls(settings: Settings) -> tuple[ssl.SSLContext, Path | None]:
    """How the federation port speaks TLS, and the authority to trust if it is one of our own."""
    homeserver = settings.homeserver
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if homeserver.tls_certificate:
        context.load_cert_chain(homeserver.tls_certificate, homeserver.tls_key)
        return context, None
    names = [split_server_name(homeserver.name).host, "localhost", "127.0.0.1", "::1"]
    if homeserver.bind and not _is_wildcard(homeserver.bind):
        names.append(homeserver.bind)
    issue_certificate(load_authority(settings.homeserver_data_dir), context, names)
    return context, settings.homeserver_data_dir / CA_FILE


class _Server(uvicorn.Server):
    """One port of several: signals are not its business, and it says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in [*self.server_state.connections]:
            if connection.transport.is_closing():
                connection.transport.abort()  # now: closed once more, asyncio's TLS forgets how to
        letting_go = asyncio.create_task(self._let_go())
        try:
            await super().shutdown(sockets)
        finally:
            letting_go.cancel()

    async def _let_go(self) -> None:
        """A peer that keeps a connection for later does not answer the end of TLS: it is not waited for."""
        closing: set[Any] = set()
        while True:
            await asyncio.sleep(_LET_GO_SECONDS)
            still = {each for each in self.server_state.connections if each.transport.is_closing()}
            for connection in still & closing:
                connection.transport.abort()
            closing = still


def _configuration(app: ASGIApp, settings: Settings, tls: ssl.SSLContext | None = None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,  # its lines would hold query strings, and so tokens
        server_header=False,
        forwarded_allow_ips=list(settings.server.trusted_proxies),
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_context_factory=(lambda _config, _default: tls) if tls else None,
    )


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off (40 ms an answer) only where the protocol is named; create_server names none.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {host}, port {port}: {error.strerror}") from error
        yield listener


@asynccontextmanager
async def _stopping(stop: asyncio.Event | None) -> AsyncIterator[asyncio.Event]:
    """``stop``, or an event that SIGTERM and SIGINT set."""
    if stop is not None:
        yield stop
        return
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
