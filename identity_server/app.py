"""The composition roots: from settings to a running application.

What a process keeps open is opened here, in order, and closed in the reverse order; what spans capabilities meets
here and in the two ``routes.py``. Whoever embeds or tests a server may hand in a part instead of the real one.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from identity_server import __version__
from identity_server.identity.routes import ROUTERS as IDENTITY_ROUTERS
from identity_server.identity.signing.keyring import load_keyring
from identity_server.matrix.errors import MissingParams
from identity_server.runtime import health
from identity_server.runtime.clock import Clock, SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.edge import Edge
from identity_server.runtime.errors import render_errors
from identity_server.runtime.migrations import prepare
from identity_server.runtime.rate_limits import RateLimits
from identity_server.runtime.resources import Resources
from identity_server.runtime.tokens import Entropy, SystemEntropy
from identity_server.settings import Settings

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[dict[str, Any]]]


def identity_application(
    settings: Settings, *, clock: Clock | None = None, entropy: Entropy | None = None, **parts: Any
) -> ASGIApp:
    """The identity server. ``parts`` replace what the lifespan would open under the same name."""
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            database = Database(settings.database_url, pool_size=settings.database.pool_size)
            stack.push_async_callback(database.close)
            await prepare(database, "identity")
            state = {
                "resources": Resources(settings, database, clock, entropy, RateLimits(settings.rate_limits)),
                "keyring": load_keyring(settings.server.name, settings.server.data_dir / "signing.key", entropy),
                **parts,
            }
            yield state

    app = _fastapi("Identity server", lifespan, IDENTITY_ROUTERS)
    render_errors(app, missing=MissingParams)
    return Edge(app, max_body_bytes=settings.server.max_body_bytes)


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
