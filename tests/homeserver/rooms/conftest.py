"""People in rooms, as their clients see them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from httpx import AsyncClient, Response

from tests.homeserver.conftest import Register, bearing

V3 = "/_matrix/client/v3"
V1 = "/_matrix/client/v1"


@dataclass
class Person:
    """Somebody's client; what it is told is returned as it came, or parsed if it has to be a success."""

    client: AsyncClient
    login: dict[str, Any]
    _transactions: Any = field(default_factory=count)

    @property
    def user_id(self) -> str:
        return str(self.login["user_id"])

    async def ask(self, method: str, path: str, json: Any = None, **params: Any) -> Response:
        path = path if path.startswith("/_matrix") else V3 + path
        return await self.client.request(method, path, json=json, params=params or None, headers=bearing(self.login))

    async def do(self, method: str, path: str, json: Any = None, **params: Any) -> Any:
        answer = await self.ask(method, path, json, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def create_room(self, **wish: Any) -> str:
        return str((await self.do("POST", "/createRoom", wish))["room_id"])

    async def say(self, room_id: str, body: str, **content: Any) -> str:
        path = f"/rooms/{room_id}/send/m.room.message/{next(self._transactions)}"
        return str((await self.do("PUT", path, {"msgtype": "m.text", "body": body, **content}))["event_id"])

    async def join(self, room_id: str) -> None:
        await self.do("POST", f"/rooms/{room_id}/join", {})

    async def put_state(self, room_id: str, event_type: str, content: Any, state_key: str = "") -> str:
        path = f"/rooms/{room_id}/state/{event_type}/{state_key}"
        return str((await self.do("PUT", path, content))["event_id"])

    async def state(self, room_id: str, event_type: str, state_key: str = "") -> Any:
        return await self.do("GET", f"/rooms/{room_id}/state/{event_type}/{state_key}")

    async def messages(self, room_id: str, **params: Any) -> Any:
        return await self.do("GET", f"/rooms/{room_id}/messages", **{"dir": "b", **params})

    async def event(self, room_id: str, event_id: str) -> Any:
        return await self.do("GET", f"/rooms/{room_id}/event/{event_id}")


Meet = Callable[..., Awaitable[Person]]


@pytest.fixture
def meet(client: AsyncClient, register: Register) -> Meet:
    async def meet(name: str, **more: Any) -> Person:
        return Person(client, await register(name, **more))

    return meet


@pytest.fixture
async def alice(meet: Meet) -> Person:
    return await meet("alice")


@pytest.fixture
async def bob(meet: Meet) -> Person:
    return await meet("bob")


def outcome(answer: Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("errcode")


def bodies(chunk: list[dict[str, Any]]) -> list[str]:
    """What was said in a chunk of events."""
    return [event["content"]["body"] for event in chunk if event["type"] == "m.room.message"]
