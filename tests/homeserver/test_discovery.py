import pytest
from httpx import AsyncClient

from identity_server.settings import HomeserverSettings


async def test_versions_are_those_that_we_speak(client: AsyncClient) -> None:
    versions = (await client.get("/_matrix/client/versions")).json()["versions"]
    assert versions[0] == "r0.6.1"
    assert versions[-1] == "v1.19"
    assert len(versions) == 20


async def test_well_known_names_the_homeserver_and_its_identity_server(client: AsyncClient) -> None:
    answer = await client.get("/.well-known/matrix/client")
    assert answer.json() == {
        "m.homeserver": {"base_url": "http://127.0.0.1:8008"},
        "m.identity_server": {"base_url": "https://is.test"},
    }
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_well_known_tells_other_servers_the_port(client: AsyncClient) -> None:
    assert (await client.get("/.well-known/matrix/server")).json() == {"m.server": "hs.test:8448"}


class TestWithoutIdentityServer:
    @pytest.fixture
    def homeserver(self) -> HomeserverSettings:
        return HomeserverSettings(name="hs.test", public_base_url="https://hs.test/")

    async def test_well_known_names_only_the_homeserver(self, client: AsyncClient) -> None:
        answer = await client.get("/.well-known/matrix/client")
        assert answer.json() == {"m.homeserver": {"base_url": "https://hs.test"}}


async def test_the_api_describes_itself(client: AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert "/_matrix/client/v3/login" in paths
    assert "/_matrix/client/r0/login" in paths


async def test_unknown_paths_and_wrong_methods_are_unrecognized(client: AsyncClient) -> None:
    missing = await client.get("/_matrix/client/v3/nothing")
    wrong = await client.delete("/_matrix/client/v3/login")
    assert (missing.status_code, missing.json()["errcode"]) == (404, "M_UNRECOGNIZED")
    assert (wrong.status_code, wrong.json()["errcode"]) == (405, "M_UNRECOGNIZED")
    assert missing.headers["access-control-allow-origin"] == "*"


async def test_nonsense_is_the_clients_fault(client: AsyncClient) -> None:
    for body, errcode in (
        (b"{", "M_NOT_JSON"),
        (b"\xff", "M_NOT_JSON"),
        (b"[" * 5000, "M_NOT_JSON"),
        (b"[]", "M_BAD_JSON"),
        (b'{"username": 3}', "M_INVALID_PARAM"),
        (b'{"username": "a\\ud800"}', "M_NOT_JSON"),
        (b'{"auth": "x"}', "M_INVALID_PARAM"),
        (b'{"auth": {"session": "\\u0000"}, "password": "x"}', "M_INVALID_PARAM"),
        (b'{"device_id": "\\u0000"}', "M_INVALID_PARAM"),
        (b'{"device_id": ""}', "M_INVALID_PARAM"),
    ):
        answer = await client.post("/_matrix/client/v3/register", content=body)
        assert (answer.status_code, answer.json()["errcode"]) == (400, errcode), body
