from typing import Any

from httpx import AsyncClient

from identity_server.runtime.clock import FakeClock
from tests.homeserver.conftest import Register
from tests.homeserver.test_accounts import V3, log_in, outcome, who_am_i


async def refresh(client: AsyncClient, tokens: dict[str, Any]) -> Any:
    return await client.post(f"{V3}/refresh", json={"refresh_token": tokens["refresh_token"]})


async def test_a_client_that_can_refresh_gets_tokens_that_expire(
    client: AsyncClient, register: Register, clock: FakeClock
) -> None:
    await register("alice")
    login = (await log_in(client, device_id="PHONE", refresh_token=True)).json()
    assert login["expires_in_ms"] == 3_600_000
    clock.advance(hours=1)
    expired = await who_am_i(client, login)
    assert outcome(expired) == (401, "M_UNKNOWN_TOKEN")
    assert expired.json()["soft_logout"] is True
    answer = await refresh(client, login)
    assert answer.status_code == 200
    assert set(answer.json()) == {"access_token", "refresh_token", "expires_in_ms"}
    assert (await who_am_i(client, answer.json())).json()["device_id"] == "PHONE"


async def test_who_does_not_ask_for_refreshing_keeps_a_token_for_ever(
    client: AsyncClient, register: Register, clock: FakeClock
) -> None:
    login = await register("alice")
    assert "refresh_token" not in login
    clock.advance(hours=9600)
    assert (await who_am_i(client, login)).status_code == 200


async def test_the_old_tokens_are_good_until_the_new_ones_are_used(client: AsyncClient, register: Register) -> None:
    first = await register("alice", refresh_token=True)
    second = (await refresh(client, first)).json()
    assert (await who_am_i(client, first)).status_code == 200
    again = (await refresh(client, first)).json()  # the answer got lost
    assert outcome(await who_am_i(client, second)) == (401, "M_UNKNOWN_TOKEN")
    assert outcome(await refresh(client, second)) == (401, "M_UNKNOWN_TOKEN")
    assert (await who_am_i(client, again)).status_code == 200
    assert outcome(await who_am_i(client, first)) == (401, "M_UNKNOWN_TOKEN")
    assert outcome(await refresh(client, first)) == (401, "M_UNKNOWN_TOKEN")
    assert (await who_am_i(client, again)).status_code == 200


async def test_using_the_new_refresh_token_revokes_the_old_one_too(client: AsyncClient, register: Register) -> None:
    first = await register("alice", refresh_token=True)
    second = (await refresh(client, first)).json()
    third = (await refresh(client, second)).json()
    assert outcome(await refresh(client, first)) == (401, "M_UNKNOWN_TOKEN")
    assert (await who_am_i(client, third)).status_code == 200


async def test_logging_out_ends_the_refresh_token(client: AsyncClient, register: Register) -> None:
    login = await register("alice", refresh_token=True)
    await client.post(f"{V3}/logout", headers={"Authorization": f"Bearer {login['access_token']}"})
    assert outcome(await refresh(client, login)) == (401, "M_UNKNOWN_TOKEN")
    assert outcome(await client.post(f"{V3}/refresh", json={})) == (400, "M_MISSING_PARAM")
