"""The composition roots: from settings to a running application.

What a process keeps open is opened here, in order, and closed in the reverse order; what spans capabilities meets
here and in the two ``routes.py``. Whoever embeds or tests a server may hand in a part instead of the real one.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from identity_server import __version__
from identity_server.identity.delivery.outlet import Outlet, open_outlet
from identity_server.identity.invites.onbind import ONBIND, send_onbind
from identity_server.identity.invites.store_invite import INVITATION, send_invitation
from identity_server.identity.lookup.peppers import Peppers, ensure_pepper
from identity_server.identity.purge import purge
from identity_server.identity.routes import ROUTERS as IDENTITY_ROUTERS
from identity_server.identity.signing.keyring import load_keyring
from identity_server.matrix.errors import MissingParams
from identity_server.runtime import health
from identity_server.runtime.background import once_at_a_time, running
from identity_server.runtime.clock import Clock, SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.edge import Edge
from identity_server.runtime.errors import render_errors
from identity_server.runtime.federation import open_federation
from identity_server.runtime.metrics import metrics_application
from identity_server.runtime.migrations import prepare
from identity_server.runtime.rate_limits import RateLimits
from identity_server.runtime.resources import Resources
from identity_server.runtime.tasks import Tasks
from identity_server.runtime.tokens import Entropy, SystemEntropy
from identity_server.settings import Settings

_PURGE_EVERY_MS = 3_600_000

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[dict[str, Any]]]


def identity_application(
    settings: Settings, *, clock: Clock | None = None, entropy: Entropy | None = None, **parts: Any
) -> ASGIApp:
    """The identity server. ``parts`` replace what the lifespan would open under the same name."""
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            database = Database(
                settings.database_url, pool_size=settings.database.pool_size, replica_url=settings.database.replica_url
            )
            stack.push_async_callback(database.close)
            await prepare(database, "identity")
            await ensure_pepper(database, entropy, now_ms=clock.now_ms())
            keyring = load_keyring(settings.server.name, settings.signing_key_file, entropy)
            federation = await stack.enter_async_context(open_federation(settings.federation, clock))
            outlet: Outlet = (
                parts["outlet"]
                if "outlet" in parts
                else await stack.enter_async_context(open_outlet(settings, clock, entropy))
            )
            homeservers = parts.get("homeservers", federation.client)
            handlers = {
                INVITATION: partial(send_invitation, outlet=outlet),
                ONBIND: partial(send_onbind, homeservers=homeservers),
            }
            tasks = Tasks(database, clock, handlers)
            await stack.enter_async_context(
                running(
                    tasks.run_forever,
                    once_at_a_time(
                        "purge",
                        partial(purge, database, settings),
                        database=database,
                        clock=clock,
                        holder=entropy.token(16),
                        every_ms=_PURGE_EVERY_MS,
                    ),
                )
            )
            yield {
                "resources": Resources(settings, database, clock, entropy, RateLimits(settings.rate_limits)),
                "keyring": keyring,
                "outlet": outlet,
                "peppers": Peppers(database, clock),
                "homeservers": homeservers,
                "remote_keys": parts.get("remote_keys", federation.remote_keys),
                "tasks": tasks,
            }

    app = _fastapi("Identity server", lifespan, IDENTITY_ROUTERS)
    render_errors(app, missing=MissingParams)
    return Edge(app, max_body_bytes=settings.server.max_body_bytes)


def admin_application(settings: Settings, metrics_folder: Path | None) -> ASGIApp:
    """Health, readiness and metrics, for whoever operates the server."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        database = Database(settings.database_url, pool_size=1)
        clock, entropy = SystemClock(), SystemEntropy()
        try:
            yield {"resources": Resources(settings, database, clock, entropy, RateLimits(settings.rate_limits))}
        finally:
            await database.close()

    app = _fastapi("Identity server: administration", lifespan, ())
    app.mount("/metrics", metrics_application(metrics_folder))
    return app


def _fastapi(title: str, lifespan: Lifespan, routers: tuple[APIRouter, ...]) -> FastAPI:
    app = FastAPI(
        title=title,
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url="/docs",
        redoc_url=None,
    )
    for router in (*routers, health.router):
        app.include_router(router)
    return app
