"""The only place where an error becomes an HTTP answer."""

from collections.abc import Callable
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from identity_server.matrix.errors import (
    InvalidParam,
    LimitExceeded,
    ManagedByServer,
    MatrixError,
    NotJson,
    Unrecognized,
)

log = structlog.get_logger(__name__)


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def error_response(error: MatrixError) -> Response:
    headers = {}
    if isinstance(error, LimitExceeded):
        headers["Retry-After"] = str(-(-error.body["retry_after_ms"] // 1000))
    if isinstance(error, ManagedByServer):
        headers["Allow"] = "GET, HEAD, OPTIONS"
    return json_response(error.body, error.status, headers)


def answer_to(error: Exception, route: str | None) -> Response:
    """What is answered when ``error`` is raised at ``route``."""
    if isinstance(error, MatrixError):
        return error_response(error)
    if isinstance(error, ClientDisconnect):
        # Nobody hears this, but it is no failure of ours.
        return error_response(NotJson("The request ended before its body did"))
    log.error("unforeseen", route=route, exc_info=error)
    return json_response(MatrixError("Internal server error").body, 500)


def render_errors(app: FastAPI, *, missing: Callable[[str], MatrixError]) -> None:
    """Answer every failure below ``app`` with the specification's error object.

    ``missing`` is what the server's own specification calls a parameter that is not there.
    """

    @app.exception_handler(RequestValidationError)
    async def _malformed(_request: Request, error: RequestValidationError) -> Response:
        # What was sent is not repeated: it may be an address or a token.
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the request body"
        if first["type"] == "missing":
            return error_response(missing(f"{where} is missing"))
        # Of a check of our own, what it says, without Pydantic's word before it.
        what = first["msg"].removeprefix("Value error, ")
        return error_response(InvalidParam(f"{where}: {what}"))

    @app.exception_handler(HTTPException)
    async def _unrouted(_request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:
            return error_response(NotJson("The request could not be read"))
        # 404 for an unknown path, 405 for a known one with the wrong method, and the right ones in a header.
        return json_response(Unrecognized("Unrecognized request").body, error.status_code, dict(error.headers or {}))

    @app.exception_handler(MatrixError)
    @app.exception_handler(ClientDisconnect)
    @app.exception_handler(Exception)
    async def _raised(request: Request, error: Exception) -> Response:
        return answer_to(error, getattr(request.scope.get("route"), "path", None))
