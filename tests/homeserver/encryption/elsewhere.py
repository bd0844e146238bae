"""Another homeserver: what it answers when ours asks, and what it asks ours."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from httpx import AsyncClient, Response

from identity_server.matrix.http import Unreachable
from identity_server.matrix.json_api import Refused
from identity_server.matrix.origin_auth import NO_CONTENT, authorization
from identity_server.matrix.server_keys import UnknownKey
from identity_server.matrix.signing import VerifyKey
from tests.homeserver.encryption.phones import signing_key

NAME = "other.test"
_KEY = signing_key(NAME, "1")


class OtherServer:
    """Stands for ``federation_calls`` and ``key_ring`` of ours. ``answers``: by the last parts of the path."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, str, Any]] = []

    async def get(self, server_name: str, path: str, *, timeout_ms: int | None = None) -> Any:
        return await self._answer(server_name, path, None)

    async def post(self, server_name: str, path: str, content: Any, *, timeout_ms: int | None = None) -> Any:
        return await self._answer(server_name, path, content)

    async def _answer(self, server_name: str, path: str, content: Any) -> Any:
        end = unquote(path).removeprefix("/_matrix/federation/v1/user/")
        self.asked.append((server_name, end, content))
        answer = self.answers.get(end) if server_name == NAME else None
        if answer is None:
            raise Unreachable(f"{server_name} is not there")
        if isinstance(answer, int):
            raise Refused(answer, {})
        return answer

    async def request_key(self, server_name: str, key_id: str) -> VerifyKey:
        if (server_name, key_id) != (NAME, _KEY.key_id):
            raise UnknownKey(server_name)
        return _KEY.verify_key

    def devices(self, user_id: str, stream_id: int, devices: Mapping[str, Any], **more: Any) -> None:
        """What it tells of a user's devices from now on."""
        listed = [{"device_id": device_id, **described} for device_id, described in devices.items()]
        answer = {"user_id": user_id, "stream_id": stream_id, "devices": listed, **more}
        self.answers[f"devices/{user_id}"] = answer


async def ask_as_server(client: AsyncClient, method: str, path: str, content: Any = NO_CONTENT) -> Response:
    """A signed request of the other server."""
    uri = f"/_matrix/federation/v1/user/{path}"
    header = authorization(_KEY, origin=NAME, destination="hs.test", method=method, uri=uri, content=content)
    body = None if content is NO_CONTENT else content
    return await client.request(method, uri, json=body, headers={"Authorization": header})
