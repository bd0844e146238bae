from tests.world import IdentityServer, MakeServer

ACCOUNT = "/_matrix/identity/v2/account"
OPENID = {"access_token": "openid:@alice:hs.test", "matrix_server_name": "hs.test"}


async def test_an_openid_token_is_exchanged_for_an_access_token(server: IdentityServer) -> None:
    answer = await server.client.post(
        f"{ACCOUNT}/register", json={**OPENID, "expires_in": 3600, "token_type": "Bearer"}
    )
    assert answer.status_code == 200
    assert answer.json()["token"] == answer.json()["access_token"]
    headers = {"Authorization": f"Bearer {answer.json()['token']}"}
    assert (await server.client.get(ACCOUNT, headers=headers)).json() == {"user_id": "@alice:hs.test"}


async def test_a_user_of_another_homeserver_than_the_one_that_vouched_cannot_register(server: IdentityServer) -> None:
    answer = await server.client.post(f"{ACCOUNT}/register", json={**OPENID, "matrix_server_name": "evil.test"})
    assert (answer.status_code, answer.json()["errcode"]) == (401, "M_UNAUTHORIZED")


async def test_only_users_of_listed_homeservers_register_where_there_is_a_list(make_server: MakeServer) -> None:
    async with make_server(federation={"homeserver_allow_list": ["other.test"]}) as server:
        answer = await server.client.post(f"{ACCOUNT}/register", json=OPENID)
    assert (answer.status_code, answer.json()["errcode"]) == (403, "M_FORBIDDEN")


async def test_a_homeserver_name_is_checked_before_anybody_is_asked(server: IdentityServer) -> None:
    for name in ("", "hs.test/path", "hs test", "http://hs.test", "hs.test:99999", "[::1"):
        answer = await server.client.post(f"{ACCOUNT}/register", json={**OPENID, "matrix_server_name": name})
        assert (answer.status_code, answer.json()["errcode"]) == (400, "M_INVALID_PARAM"), name


async def test_a_missing_field_is_named(server: IdentityServer) -> None:
    answer = await server.client.post(f"{ACCOUNT}/register", json={"matrix_server_name": "hs.test"})
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_MISSING_PARAMS")
    assert "access_token" in answer.json()["error"]


async def test_without_a_token_or_with_an_unknown_one_nobody_is_known(server: IdentityServer) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Basic abc"},
        {"Authorization": "Bearer"},
    ):
        answer = await server.client.get(ACCOUNT, headers=headers)
        assert (answer.status_code, answer.json()["errcode"]) == (401, "M_UNAUTHORIZED")


async def test_a_logged_out_token_is_worth_nothing(server: IdentityServer) -> None:
    headers = await server.account()
    answer = await server.client.post(f"{ACCOUNT}/logout", headers=headers)  # no body, no content type
    assert (answer.status_code, answer.json()) == (200, {})
    assert (await server.client.get(ACCOUNT, headers=headers)).status_code == 401
    answer = await server.client.post(f"{ACCOUNT}/logout", headers=headers)
    assert (answer.status_code, answer.json()["errcode"]) == (401, "M_UNKNOWN_TOKEN")


async def test_a_token_expires_where_that_is_configured(make_server: MakeServer) -> None:
    async with make_server(accounts={"token_lifetime": "1h"}) as server:
        headers = await server.account()
        server.clock.advance(hours=0.99)
        assert (await server.client.get(ACCOUNT, headers=headers)).status_code == 200
        server.clock.advance(hours=0.02)
        assert (await server.client.get(ACCOUNT, headers=headers)).status_code == 401


async def test_a_token_in_the_query_counts_for_hash_details_only(server: IdentityServer) -> None:
    token = (await server.account())["Authorization"].removeprefix("Bearer ")
    details = await server.client.get("/_matrix/identity/v2/hash_details", params={"access_token": token})
    account = await server.client.get(ACCOUNT, params={"access_token": token})
    assert (details.status_code, account.status_code) == (200, 401)


async def test_no_token_is_stored_in_the_clear(server: IdentityServer) -> None:
    token = (await server.account())["Authorization"].removeprefix("Bearer ")
    stored = await server.database.fast.value("SELECT token_hash FROM access_tokens")
    assert token.encode() not in stored
    assert len(stored) == 32
