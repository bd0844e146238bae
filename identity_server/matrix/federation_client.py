"""What we ask of homeservers (Server-Server API)."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from pydantic import TypeAdapter

from identity_server.matrix import server_keys
from identity_server.matrix.discovery import Discovery
from identity_server.matrix.errors import BadGateway, Unauthorized
from identity_server.matrix.http import Answer, Http, Unreachable
from identity_server.matrix.identifiers import UserID, domain_of

_USER_ID: TypeAdapter[str] = TypeAdapter(UserID)
_USERINFO = "/_matrix/federation/v1/openid/userinfo"
_ONBIND = "/_matrix/federation/v1/3pid/onbind"
# What an honest server sends is far smaller, and strangers can have us ask for these.
_MAX_BYTES = 64 * 1024


class FederationClient:
    """Requests to homeservers by their names; each ends within ``timeout_ms``, discovery included."""

    def __init__(self, http: Http, discovery: Discovery, *, now_ms: Callable[[], int], timeout_ms: int) -> None:
        self._http = http
        self._discovery = discovery
        self._now_ms = now_ms
        self._timeout_ms = timeout_ms

    async def userinfo(self, server_name: str, openid_token: str) -> str:
        """The user ID that ``server_name`` vouches for ("OpenID").

        Raises ``Unauthorized`` if it vouches for nobody, for nobody of its own, or could not be asked.
        """
        try:
            path = f"{_USERINFO}?access_token={quote(openid_token, safe='')}"
            answer = await self.request(server_name, "GET", path, max_bytes=_MAX_BYTES)
            user_id = answer.json()["sub"] if answer.status == 200 else None
        except (Unreachable, ValueError, KeyError, TypeError) as error:
            raise Unauthorized("The homeserver could not confirm the token") from error
        if not _belongs(user_id, server_name):
            raise Unauthorized("The homeserver does not know the token")
        return str(user_id)

    async def server_keys(self, server_name: str) -> Any:
        """The JSON that ``server_name`` serves, unchecked. Raises ``Unreachable``, ``BadGateway``, ``ValueError``."""
        answer = await self.request(server_name, "GET", server_keys.PATH, max_bytes=_MAX_BYTES)
        if answer.status != 200:
            raise BadGateway(f"{server_name} answered with status {answer.status}")
        return answer.json()

    async def onbind(self, server_name: str, body: Mapping[str, Any]) -> None:
        """Tells ``server_name`` of a binding of one of its users ("Third-party invites").

        Raises ``Unreachable`` or ``BadGateway`` unless it took note, ``ValueError`` for what is no server name.
        """
        # The specification says PUT; Synapse serves POST only.
        answer = await self.request(server_name, "POST", _ONBIND, json=body, max_bytes=_MAX_BYTES)
        if answer.status in (404, 405):
            answer = await self.request(server_name, "PUT", _ONBIND, json=body, max_bytes=_MAX_BYTES)
        if not 200 <= answer.status < 300:
            raise BadGateway(f"{server_name} answered with status {answer.status}")

    async def request(
        self,
        server_name: str,
        method: str,
        path: str,
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_ms: int | None = None,
        max_bytes: int = 1024 * 1024,
    ) -> Answer:
        """The answer of ``server_name``, whatever its status. Raises ``Unreachable``, or ``ValueError`` for no name.

        ``path`` is percent-encoded and has its query; it is sent as it is, so a signature over it holds.
        ``timeout_ms``: instead of what holds for every request.
        """
        try:
            async with asyncio.timeout((self._timeout_ms if timeout_ms is None else timeout_ms) / 1000):
                failure = Unreachable(f"{server_name}: nowhere to be found")
                for endpoint in await self._discovery.endpoints(server_name, now_ms=self._now_ms()):
                    try:
                        return await self._http.request(
                            method,
                            endpoint,
                            path,
                            json=json,
                            headers=headers,
                            timeout_ms=timeout_ms,
                            max_bytes=max_bytes,
                        )
                    except Unreachable as error:
                        failure = error
                raise failure
        except TimeoutError as error:
            raise Unreachable(f"{server_name}: no complete answer in time") from error


def _belongs(user_id: Any, server_name: str) -> bool:
    try:
        return domain_of(_USER_ID.validate_python(user_id)) == server_name
    except ValueError:
        return False
