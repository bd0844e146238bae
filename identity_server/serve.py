"""Running the applications under uvicorn: the identity server in one or more processes, its admin port beside it."""

import asyncio
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from identity_server.identity.application import (
    admin_application,
    identity_application,
    replication_application,
)
from identity_server.identity.replication.sydent.tls import CertifiedProtocol, listening_context
from identity_server.identity.signing.keyring import load_keyring
from identity_server.runtime.database import Database
from identity_server.runtime.interpreter import settle
from identity_server.runtime.logging import configure_logging
from identity_server.runtime.migrations import prepare
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import Settings, read_settings

log = structlog.get_logger(__name__)

_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


def serve_identity(settings: Settings) -> bool:
    """Serve until a signal says to stop; False if that was never begun.

    Raises ``OutOfDate``, ``BadKeyFile`` or ``OSError``.
    """
    configure_logging(settings.logging)
    # Once, here, before there are workers that would race for it.
    asyncio.run(_prepare(settings))
    load_keyring(settings.server.name, settings.signing_key_file, SystemEntropy())
    with _metrics_folder(settings.server.workers) as folder, _admin(settings, folder), replication_port(settings):
        if settings.server.workers > 1:
            log.info("listening", url=settings.public_base_url, bind=_bound(settings), workers=settings.server.workers)
            uvicorn.run("identity_server.serve:worker_application", factory=True, **_options(settings))
            return True
        server = _Announced(uvicorn.Config(identity_application(settings), **_options(settings)), settings)
        settle()
        server.run()
        return server.started


def worker_application() -> ASGIApp:
    """What each worker serves; it reads the settings as the parent did."""
    file = os.environ.get("IDENTITY_SERVER_CONFIG")
    settings = read_settings(Path(file) if file else None)
    configure_logging(settings.logging)
    application = identity_application(settings)
    settle()
    return application


class _Announced(uvicorn.Server):
    """Says where it listens, once it does."""

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            log.info("listening", url=self._settings.public_base_url, bind=_bound(self._settings))


def _bound(settings: Settings) -> str:
    return f"{settings.server.bind}:{settings.server.port}"


def _options(settings: Settings) -> dict[str, Any]:
    server = settings.server
    return {
        "host": server.bind,
        "port": server.port,
        "workers": server.workers,
        "loop": "uvloop",
        "http": "httptools",
        "ws": "none",
        "lifespan": "on",
        "access_log": False,  # its lines hold query strings
        "log_config": None,
        "server_header": False,
        "proxy_headers": True,
        "forwarded_allow_ips": list(server.trusted_proxies),
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": 10,
        "ssl_certfile": server.tls_certificate,
        "ssl_keyfile": server.tls_key,
    }


async def _prepare(settings: Settings) -> None:
    database = Database(settings.database_url)
    try:
        await prepare(database, "identity")
    finally:
        await database.close()


@contextmanager
def _metrics_folder(workers: int) -> Iterator[Path | None]:
    """Where several processes count together; None for one, which counts in memory."""
    if workers == 1:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="metrics-") as folder:
        os.environ[_MULTIPROCESS] = folder
        yield Path(folder)


@contextmanager
def _admin(settings: Settings, metrics_folder: Path | None) -> Iterator[None]:
    """The admin port, in a thread of its own: it answers whatever the workers are busy with."""
    if settings.admin.port == 0:
        yield
        return
    config = uvicorn.Config(
        admin_application(settings, metrics_folder),
        host=settings.admin.bind,
        port=settings.admin.port,
        log_config=None,
        access_log=False,
        server_header=False,
    )
    with _in_thread("admin", config):
        yield


@contextmanager
def replication_port(settings: Settings) -> Iterator[None]:
    """The port for peers that run Sydent, in a thread too. Raises ``OSError`` if it cannot be served."""
    bind, port = settings.replication.bind, settings.replication.listen_port
    if port == 0:
        yield
        return
    config = replication_config(settings, replication_application(settings))
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.create_server((bind, port), family=family) as listener, _in_thread("replication", config, [listener]):
        log.info("replication listens", bind=f"{bind}:{port}")
        yield


def replication_config(settings: Settings, app: ASGIApp) -> uvicorn.Config:
    """How ``app`` is served by mutual TLS. Raises ``OSError`` for certificates that cannot be used."""
    context = listening_context(settings.replication)
    return uvicorn.Config(
        app,
        http=CertifiedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
        ssl_context_factory=lambda _config, _default: context,
    )


@contextmanager
def _in_thread(name: str, config: uvicorn.Config, sockets: list[socket.socket] | None = None) -> Iterator[None]:
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=(sockets,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=5)
