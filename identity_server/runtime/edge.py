"""What surrounds every answer: CORS, a cap on bodies, a count and a line in the log.

Plain ASGI, around the application and not inside it, so that errors and unknown paths pass through it as well.
"""

import asyncio
from collections.abc import Mapping
from functools import cache
from time import perf_counter

import structlog
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from identity_server.matrix.errors import MatrixError, TooLarge
from identity_server.runtime.errors import error_response, json_response
from identity_server.runtime.metrics import REQUEST_SECONDS, REQUESTS

log = structlog.get_logger(__name__)

# As recommended in "Web browser clients".
_CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST, PUT, DELETE, OPTIONS"),
    (b"access-control-allow-headers", b"Origin, X-Requested-With, Content-Type, Accept, Authorization"),
]
_BODY_SECONDS = 60


class SlowBody(MatrixError):
    status = 408
    errcode = "M_UNKNOWN"


class Edge:
    def __init__(self, app: ASGIApp, *, max_body_bytes: int, larger_bodies: Mapping[str, int] | None = None) -> None:
        """``larger_bodies``: other limits, by the beginning of the paths that they hold for."""
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._larger_bodies = larger_bodies or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = perf_counter(), 500

        async def send_with_cors(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *_CORS]}
            await send(message)

        max_bytes = self._limit(scope)
        try:
            if scope["method"] == "OPTIONS":
                await json_response({})(scope, receive, send_with_cors)
            elif _declared_length(scope) > max_bytes:
                await error_response(TooLarge("The request body is too large"))(scope, receive, send_with_cors)
            else:
                await self._app(scope, _capped(receive, max_bytes), send_with_cors)
        finally:
            _observe(scope, status, perf_counter() - started)

    def _limit(self, scope: Scope) -> int:
        for prefix, max_bytes in self._larger_bodies.items():
            if scope["path"].startswith(prefix):
                return max_bytes
        return self._max_body_bytes


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _capped(receive: Receive, max_bytes: int) -> Receive:
    """``receive``, failing when a body without a declared length grows too large or arrives too slowly."""
    received, complete = 0, False

    async def receive_capped() -> Message:
        nonlocal received, complete
        if complete:  # what still comes is the disconnection, which may take as long as it likes
            return await receive()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                message = await receive()
        except TimeoutError as error:
            raise SlowBody("The request body did not arrive in time") from error
        received += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if received > max_bytes:
            raise TooLarge("The request body is too large")
        return message

    return receive_capped


def route_template(scope: Scope) -> str:
    """Such as "/_matrix/identity/v2/pubkey/{key_id}"; "unrouted" for an unknown path."""
    return getattr(scope.get("route"), "path", "unrouted")


@cache  # of routes, methods and statuses there are few
def _metrics(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(method, route, status), REQUEST_SECONDS.labels(route)


def _observe(scope: Scope, status: int, seconds: float) -> None:
    # The route's template, never the path itself: that may hold anything. Nor a method that we do not serve.
    route = route_template(scope)
    method = scope["method"] if status != 405 and route != "unrouted" else "-"
    count, duration = _metrics(method, route, status)
    count.inc()
    duration.observe(seconds)
    log.debug("request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))
