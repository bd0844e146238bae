import base64
import hashlib
import hmac
from typing import Any

import pytest
from httpx import AsyncClient

from identity_server.runtime.clock import FakeClock
from identity_server.settings import HomeserverSettings
from tests.homeserver.conftest import Register, bearing
from tests.homeserver.test_accounts import V3, outcome


@pytest.fixture
def engine() -> str:
    return "sqlite"


async def test_capabilities_name_the_room_versions(client: AsyncClient, register: Register) -> None:
    assert outcome(await client.get(f"{V3}/capabilities")) == (401, "M_MISSING_TOKEN")
    login = await register()
    told = (await client.get(f"{V3}/capabilities", headers=bearing(login))).json()["capabilities"]
    assert told["m.room_versions"] == {
        "default": "12",
        "available": {str(version): "stable" for version in range(6, 13)},
    }
    assert told["m.change_password"] == {"enabled": True}
    assert told["m.get_login_token"] == {"enabled": True}


async def test_there_are_no_bridges_and_no_turn_servers(client: AsyncClient, register: Register) -> None:
    login = await register()
    for path, expected in (
        ("voip/turnServer", (200, {})),
        ("thirdparty/protocols", (200, {})),
        ("thirdparty/user", (200, [])),
        ("thirdparty/location", (200, [])),
    ):
        answer = await client.get(f"{V3}/{path}", headers=bearing(login))
        assert (answer.status_code, answer.json()) == expected, path
    for kind in ("protocol", "user", "location"):
        answer = await client.get(f"{V3}/thirdparty/{kind}/irc", headers=bearing(login))
        assert outcome(answer) == (404, "M_NOT_FOUND")
    assert outcome(await client.get("/_matrix/client/v1/auth_metadata")) == (404, "M_UNRECOGNIZED")


class TestWithAnotherDefaultRoomVersion:
    @pytest.fixture
    def homeserver(self) -> HomeserverSettings:
        return HomeserverSettings(name="hs.test", registration=True, default_room_version="11")

    async def test_it_is_told_and_rooms_are_made_in_it(self, client: AsyncClient, register: Register) -> None:
        me = bearing(await register())
        told = (await client.get(f"{V3}/capabilities", headers=me)).json()["capabilities"]
        assert told["m.room_versions"]["default"] == "11"
        room = (await client.post(f"{V3}/createRoom", headers=me, json={})).json()["room_id"]
        creation = await client.get(f"{V3}/rooms/{room}/state/m.room.create", headers=me)
        assert creation.json()["room_version"] == "11"


class TestWithTurnServers:
    @pytest.fixture
    def homeserver(self) -> HomeserverSettings:
        return HomeserverSettings(
            name="hs.test", registration=True, turn_uris=("turn:turn.test",), turn_secret="shared", turn_lifetime=60_000
        )

    async def test_credentials_are_made_for_the_user(
        self, client: AsyncClient, register: Register, clock: FakeClock
    ) -> None:
        login = await register()
        told: dict[str, Any] = (await client.get(f"{V3}/voip/turnServer", headers=bearing(login))).json()
        username = f"{clock.now_ms() // 1000 + 60}:@alice:hs.test"
        password = base64.b64encode(hmac.new(b"shared", username.encode(), hashlib.sha1).digest()).decode()
        assert told == {"username": username, "password": password, "uris": ["turn:turn.test"], "ttl": 60}
