"""Requests to other homeservers, signed (Server-Server API, "Request Authentication")."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from identity_server.homeserver.keys import ServerKeys
from identity_server.matrix.canonical_json import NotCanonical
from identity_server.matrix.federation_client import FederationClient
from identity_server.matrix.http import Answer, Unreachable
from identity_server.matrix.json_api import Refused
from identity_server.matrix.origin_auth import NO_CONTENT, authorization
from identity_server.runtime.dependencies import opened

_MAX_BYTES = 8 * 1024 * 1024

Query = Mapping[str, str | int | Iterable[str]]


def federation_path(*parts: str, query: Query | None = None, version: str = "v1") -> str:
    """The path of an endpoint, each of ``parts`` percent-encoded."""
    path = f"/_matrix/federation/{version}/" + "/".join(quote(part, safe="") for part in parts)
    listed = {name: value if isinstance(value, (str, int)) else list(value) for name, value in (query or {}).items()}
    return f"{path}?{urlencode(listed, doseq=True)}" if listed else path


@dataclass(frozen=True)
class FederationCalls:
    """Raises ``Unreachable`` if a server does not answer, or not as a Matrix server does, and ``Refused`` if it
    answers with an error. A name that no server can have is unreachable too, and so are we ourselves."""

    client: FederationClient
    keys: ServerKeys

    async def get(
        self, server_name: str, path: str, *, timeout_ms: int | None = None, max_bytes: int = _MAX_BYTES
    ) -> dict[str, Any]:
        return await self._call("GET", server_name, path, NO_CONTENT, timeout_ms, max_bytes)

    async def put(
        self,
        server_name: str,
        path: str,
        content: Mapping[str, Any],
        *,
        timeout_ms: int | None = None,
        max_bytes: int = _MAX_BYTES,
    ) -> dict[str, Any]:
        return await self._call("PUT", server_name, path, content, timeout_ms, max_bytes)

    async def post(
        self,
        server_name: str,
        path: str,
        content: Mapping[str, Any],
        *,
        timeout_ms: int | None = None,
        max_bytes: int = _MAX_BYTES,
    ) -> dict[str, Any]:
        return await self._call("POST", server_name, path, content, timeout_ms, max_bytes)

    async def request(
        self,
        method: str,
        server_name: str,
        path: str,
        content: Any = NO_CONTENT,
        *,
        timeout_ms: int | None = None,
        max_bytes: int = _MAX_BYTES,
    ) -> Answer:
        """The answer, whatever its status. Raises ``Unreachable``."""
        if server_name == self.keys.server_name:
            raise Unreachable(f"{server_name}: that is ourselves")
        try:
            header = authorization(
                self.keys.keys[-1],
                origin=self.keys.server_name,
                destination=server_name,
                method=method,
                uri=path,
                content=content,
            )
            return await self.client.request(
                server_name,
                method,
                path,
                json=None if content is NO_CONTENT else content,
                headers={"Authorization": header},
                timeout_ms=timeout_ms,
                max_bytes=max_bytes,
            )
        except NotCanonical as error:
            raise Unreachable(f"{server_name}: what was to be sent has no canonical form") from error
        except ValueError as error:
            raise Unreachable(f"{server_name}: no server can have that name") from error

    async def _call(
        self, method: str, server_name: str, path: str, content: Any, timeout_ms: int | None, max_bytes: int
    ) -> dict[str, Any]:
        answer = await self.request(method, server_name, path, content, timeout_ms=timeout_ms, max_bytes=max_bytes)
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not 200 <= answer.status < 300:
            raise Refused(answer.status, body if isinstance(body, dict) else {})
        if not isinstance(body, dict):
            raise Unreachable(f"{server_name}: answers with what is no JSON object")
        return body


OpenFederation = Annotated[FederationCalls, opened("federation_calls")]
