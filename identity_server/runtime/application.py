"""What both servers' applications are made of."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from identity_server import __version__
from identity_server.matrix.errors import MatrixError
from identity_server.runtime import docs, health
from identity_server.runtime.edge import Edge
from identity_server.runtime.errors import render_errors
from identity_server.runtime.routing import RouteTable, all_routes
from identity_server.runtime.shortcut import Shortcut

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[dict[str, Any]]]


class _Application(FastAPI):
    @property
    def routes(self) -> list[BaseRoute]:
        """Those of the table too, from which FastAPI writes the description of the API."""
        return [route for held in super().routes for route in (held.routes if isinstance(held, RouteTable) else [held])]


def make_application(
    title: str,
    lifespan: Lifespan,
    routers: Iterable[APIRouter],
    *,
    missing: Callable[[str], MatrixError],
    max_body_bytes: int,
    larger_bodies: Mapping[str, int] | None = None,
    shortcuts: Iterable[Callable[[Request], Awaitable[Response]]] = (),
    acting: Iterable[Callable[..., object]] = (),
) -> ASGIApp:
    """Answers in the specification's form, whatever happens.

    ``missing`` as in ``render_errors``, ``larger_bodies`` as in ``Edge``, ``shortcuts``: endpoints, as in ``Shortcut``,
    ``acting``: as in ``RouteTable``.
    """
    app = _Application(
        title=title, version=__version__, lifespan=lifespan, redirect_slashes=False, docs_url=None, redoc_url=None
    )
    table = RouteTable(all_routes(*routers, health.router, docs.router), acting)
    app.router.routes.insert(0, table)
    render_errors(app, missing=missing)
    return Edge(Shortcut(app, table.routes, shortcuts), max_body_bytes=max_body_bytes, larger_bodies=larger_bodies)
