"""A homeserver with nothing left to chance, on both engines, and clients for it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from httpx import ASGITransport, AsyncClient

from identity_server.homeserver.accounts.passwords import Passwords
from identity_server.homeserver.application import homeserver_application, open_homeserver
from identity_server.homeserver.serve import opened
from identity_server.runtime.clock import FakeClock
from identity_server.runtime.migrations import Schema
from identity_server.runtime.tokens import FakeEntropy, SystemEntropy
from identity_server.settings import HomeserverSettings, ServerSettings, Settings

Register = Callable[..., Awaitable[dict[str, Any]]]

# As Argon2 as the real ones, at a hundredth of the price.
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


@pytest.fixture
def schema() -> Schema | None:
    return "homeserver"


@pytest.fixture
def homeserver() -> HomeserverSettings:
    """Tests that need another homeserver override this."""
    return HomeserverSettings(name="hs.test", registration=True, identity_servers=("https://is.test/",))


@pytest.fixture
def settings(homeserver: HomeserverSettings, database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        server=ServerSettings(data_dir=tmp_path),
        homeserver=homeserver.model_copy(update={"database_url": database_url}),
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def state(settings: Settings, clock: FakeClock) -> AsyncIterator[dict[str, Any]]:
    passwords = Passwords(SystemEntropy(), CHEAP)
    async with open_homeserver(settings, clock=clock, entropy=FakeEntropy(), passwords=passwords) as state:
        yield state


@pytest.fixture
async def client(settings: Settings, state: dict[str, Any]) -> AsyncIterator[AsyncClient]:
    transport = ASGITransport(opened(homeserver_application(settings), state))
    async with AsyncClient(transport=transport, base_url="http://hs.test") as client:
        yield client


@pytest.fixture
def register(client: AsyncClient) -> Register:
    """Registers a user as a client does, through the interactive round."""

    async def register(username: str = "alice", **more: Any) -> dict[str, Any]:
        wish = {"username": username, "password": "correct horse", **more}
        first = await client.post("/_matrix/client/v3/register", json=wish)
        assert first.status_code == 401, first.text
        auth = {"type": "m.login.dummy", "session": first.json()["session"]}
        second = await client.post("/_matrix/client/v3/register", json={**wish, "auth": auth})
        assert second.status_code == 200, second.text
        answer: dict[str, Any] = second.json()
        return answer

    return register


def bearing(login: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {login['access_token']}"}
