"""What somebody does in rooms (Client-Server API); every method raises ``Refused`` or ``Unreachable``."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from identity_server.matrix.json_api import JsonApi, text_of
from identity_server.matrix.threepid import Threepid

_V3 = "/_matrix/client/v3"
_POLL_MS = 5000


class RoomsClient:
    """Speaks to one homeserver for whoever ``api.token`` belongs to."""

    def __init__(self, api: JsonApi) -> None:
        self.api = api
        self._since: str | None = None
        self._sent = 0

    async def create(self, name: str) -> str:
        """The ID of a room that one has to be invited to."""
        return text_of(
            await self.api.call("POST", f"{_V3}/createRoom", {"preset": "private_chat", "name": name}), "room_id"
        )

    async def invite_threepid(self, room_id: str, threepid: Threepid, id_server: str, id_access_token: str) -> None:
        body = {**threepid._asdict(), "id_server": id_server, "id_access_token": id_access_token}
        await self.api.call("POST", f"{_V3}/rooms/{_quoted(room_id)}/invite", body)

    async def join(self, room_id: str) -> None:
        await self.api.call("POST", f"{_V3}/rooms/{_quoted(room_id)}/join", {})

    async def say(self, room_id: str, body: str) -> str:
        """The ID of the message."""
        self._sent += 1
        path = f"{_V3}/rooms/{_quoted(room_id)}/send/m.room.message/{self._sent}"
        return text_of(await self.api.call("PUT", path, {"msgtype": "m.text", "body": body}), "event_id")

    async def sync_until(self, happened: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any]:
        """The first answer of ``/sync``, since the last that was asked for here, in which it has happened."""
        while True:
            params = {"timeout": str(_POLL_MS), **({"since": self._since} if self._since else {})}
            answer = await self.api.call("GET", f"{_V3}/sync", params=params)
            self._since = text_of(answer, "next_batch")
            if happened(answer):
                return answer


def _quoted(part: str) -> str:
    return quote(part, safe="!:")
