"""One side of a conversation in the specification's JSON: a server's base URL, perhaps a token, and its answers."""

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlencode

import httpx

from identity_server.matrix.http import Http, Unreachable


class Refused(Exception):
    """The server answered with an error ("Standard error response"); ``body`` is what it said, if that was JSON."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status = status
        self.body = body
        self.errcode = str(body.get("errcode", "M_UNKNOWN"))
        self.message = str(body.get("error") or f"the server answered with status {status}")
        super().__init__(f"{self.message} ({self.errcode})")


class Api(Protocol):
    """What a conversation is had through."""

    base_url: str
    token: str | None

    async def call(
        self,
        method: str,
        path: str,
        json: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The JSON object that a request is answered with. Raises ``Refused`` and ``Unreachable``."""


class JsonApi:
    """Requests to the server at ``base_url`` over ``http``, whose time-outs hold; ``token`` is sent once it is set."""

    def __init__(self, http: httpx.AsyncClient, base_url: str, token: str | None = None) -> None:
        self._http = http
        self.base_url = base_url.rstrip("/")
        self.token = token

    async def call(
        self,
        method: str,
        path: str,
        json: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The JSON object that a request is answered with.

        Raises ``Refused`` for an error, ``Unreachable`` if there is no answer, or none that a Matrix server gives.
        """
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = self.base_url + path
        try:
            answer = await self._http.request(method, url, json=json, params=params, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"{self.base_url} cannot be reached: {_reason(error)}") from error
        body = _object(answer)
        if answer.status_code >= 400:
            raise Refused(answer.status_code, body or {})
        if body is None or not answer.is_success:
            raise Unreachable(f"{self.base_url} does not answer as a Matrix server (status {answer.status_code})")
        return body


class GuardedApi:
    """The same over the protocol's ``Http``, for servers that strangers name."""

    def __init__(self, http: Http, base_url: str, token: str | None = None) -> None:
        self._http = http
        self.base_url = base_url.rstrip("/")
        self.token = token

    async def call(
        self,
        method: str,
        path: str,
        json: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """As ``JsonApi.call``; ``headers`` are sent as well."""
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = f"{self.base_url}{path}?{urlencode(params)}" if params else self.base_url + path
        answer = await self._http.request(method, url, json=json, headers={**sent, **(headers or {})})
        try:
            parsed = answer.json()
        except ValueError:
            parsed = None
        body: dict[str, Any] | None = parsed if isinstance(parsed, dict) else None
        if answer.status >= 400:
            raise Refused(answer.status, body or {})
        if body is None or not 200 <= answer.status < 300:
            raise Unreachable(f"{self.base_url} does not answer as a Matrix server (status {answer.status})")
        return body


def text_of(answer: Mapping[str, Any], name: str) -> str:
    """The string that ``answer`` has to hold under ``name``. Raises ``Unreachable``: nobody Matrix-like answered."""
    value = answer.get(name)
    if not isinstance(value, str):
        raise Unreachable(f"the server's answer lacks {name}")
    return value


def _object(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _reason(error: Exception) -> str:
    match error:
        case httpx.TimeoutException():
            return "no answer in time"
        case httpx.UnsupportedProtocol() | httpx.InvalidURL():
            return "not an HTTP URL"
        case _:
            return str(error) or type(error).__name__
