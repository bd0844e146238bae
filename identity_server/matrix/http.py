"""What the protocol asks of HTTP: where a server is, one request to it, and its answer.

The other end is never trusted; ``runtime/safe_http.py`` says what it is kept from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson


class Unreachable(Exception):
    """There was no complete answer, for the reason that the message gives. It holds no path and no query string."""


class TooMuch(Unreachable):
    """The answer was larger than whoever asked would take."""


@dataclass(frozen=True)
class Endpoint:
    """A place to connect to by HTTPS, and who has to be met there."""

    host: str
    """A host name to resolve, or an IP address without brackets."""
    port: int
    host_header: str
    certificate_name: str
    """The host name or IP address that the certificate must be valid for."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes

    def json(self) -> Any:
        """Raises ``ValueError`` if the body is no JSON."""
        return orjson.loads(self.body)


class Http(Protocol):
    async def request(
        self,
        method: str,
        target: Endpoint | str,
        path: str = "",
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        redirects: int = 0,
        timeout_ms: int | None = None,
        max_bytes: int = 1024 * 1024,
    ) -> Answer:
        """The answer, whatever its status. Raises ``Unreachable`` if there is none.

        ``target`` is an endpoint to ask for ``path`` (with its query), or a whole URL.
        """
