from httpx import AsyncClient

from identity_server.runtime.clock import FakeClock
from tests.homeserver.conftest import Register, bearing

USERINFO = "/_matrix/federation/v1/openid/userinfo"


async def ask(client: AsyncClient, user_id: str, headers: dict[str, str], version: str = "v3") -> dict[str, object]:
    answer = await client.post(f"/_matrix/client/{version}/user/{user_id}/openid/request_token", headers=headers)
    return {"status": answer.status_code, **answer.json()}


async def test_a_token_tells_who_asked_for_it(client: AsyncClient, register: Register) -> None:
    alice = await register("alice")
    for version in ("v3", "r0"):
        given = await ask(client, "@alice:hs.test", bearing(alice), version)
        token = given.pop("access_token")
        assert given == {
            "status": 200,
            "token_type": "Bearer",
            "matrix_server_name": "hs.test",
            "expires_in": 3600,
        }
        answer = await client.get(USERINFO, params={"access_token": str(token)})
        assert (answer.status_code, answer.json()) == (200, {"sub": "@alice:hs.test"})


async def test_a_token_lives_for_an_hour(client: AsyncClient, register: Register, clock: FakeClock) -> None:
    alice = await register("alice")
    token = str((await ask(client, "@alice:hs.test", bearing(alice)))["access_token"])
    clock.advance(seconds=3599)
    assert (await client.get(USERINFO, params={"access_token": token})).status_code == 200
    clock.advance(seconds=1)
    answer = await client.get(USERINFO, params={"access_token": token})
    assert (answer.status_code, answer.json()["errcode"]) == (401, "M_UNKNOWN_TOKEN")


async def test_one_gets_a_token_for_oneself_only(client: AsyncClient, register: Register) -> None:
    alice = await register("alice")
    assert (await ask(client, "@bob:hs.test", bearing(alice)))["errcode"] == "M_FORBIDDEN"
    assert (await ask(client, "@alice:hs.test", {}))["errcode"] == "M_MISSING_TOKEN"


async def test_an_access_token_is_no_openid_token_and_the_other_way_round(
    client: AsyncClient, register: Register
) -> None:
    alice = await register("alice")
    answer = await client.get(USERINFO, params={"access_token": alice["access_token"]})
    assert (answer.status_code, answer.json()["errcode"]) == (401, "M_UNKNOWN_TOKEN")
    given = await ask(client, "@alice:hs.test", bearing(alice))
    headers = {"Authorization": f"Bearer {given['access_token']}"}
    assert (await ask(client, "@alice:hs.test", headers))["errcode"] == "M_UNKNOWN_TOKEN"


async def test_userinfo_needs_a_token(client: AsyncClient) -> None:
    answer = await client.get(USERINFO)
    assert (answer.status_code, answer.json()["errcode"]) == (401, "M_MISSING_TOKEN")
