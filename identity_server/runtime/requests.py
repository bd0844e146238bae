"""How request bodies are read: leniently as to their type, strictly as to their content.

The content type need not be given or right (API standards); forms are accepted where older drafts had them.
"""

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qsl

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.datastructures import Headers
from starlette.types import Scope

from identity_server.matrix.errors import BadJson, NotJson


class Body(BaseModel):
    """The base of every request body: no coercion, unknown fields ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _JsonRequest(Request):
    @property
    def headers(self) -> Headers:
        # Whatever the body was called, it is JSON by the time that FastAPI asks.
        return Headers(raw=[(b"content-type", b"application/json"), *super().headers.raw])


class JsonRoute(APIRoute):
    """A route whose body is a JSON object. Raises ``NotJson`` and ``BadJson``."""

    accepts_forms = False
    accepts_nothing = False
    """Whether no body at all stands for an empty object."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def read_then_handle(request: Request) -> Response:
            body = await request.body()
            content_type = request.headers.get("content-type", "").lower()
            is_form = self.accepts_forms and content_type.startswith("application/x-www-form-urlencoded")
            parsed = _JsonRequest(request.scope, request.receive)
            parsed._body = body or b"{}"
            nothing = self.accepts_nothing and not body
            parsed._json = {} if nothing else parse_form(body) if is_form else parse_object(body)
            return await handle(parsed)

        return read_then_handle


class JsonOrFormRoute(JsonRoute):
    """Also takes ``application/x-www-form-urlencoded`` (deprecated, Identity Service API)."""

    accepts_forms = True


class JsonOrNothingRoute(JsonRoute):
    """Also takes a request without a body, where nothing in it is required."""

    accepts_nothing = True


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``. Raises ``NotJson`` or ``BadJson``."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotJson("The request body is not JSON") from error
    if not isinstance(value, dict):
        raise BadJson("The request body is not a JSON object")
    return value


def parse_form(body: bytes) -> dict[str, Any]:
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=100))
    except ValueError as error:
        raise BadJson("The form could not be read") from error


def request_target(scope: Scope) -> str:
    """Path and query as they were sent, undecoded: what a signature over a request covers."""
    target: bytes = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    return target.decode("latin-1")
