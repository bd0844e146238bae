"""How often one may ask, over HTTP; and that nobody who is no robot is ever told to wait."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from httpx import Response

from identity_server.matrix.errors import LimitExceeded
from identity_server.runtime.rate_limits import RateLimits
from identity_server.settings import RateLimitSettings
from tests.world import IdentityServer, MakeServer

V2 = "/_matrix/identity/v2"
ALICE, BOB = "@alice:hs.test", "@bob:hs.test"
NONE = {name: "" for name in RateLimitSettings.model_fields if name not in ("enabled", "storage")}


@pytest.fixture
def engine() -> str:
    return "sqlite"  # nothing of this is stored


Ask = Callable[[int], Awaitable[Response]]


def asks_for_mails(server: IdentityServer, headers: dict[str, str], **changes: Any) -> Ask:
    """The ``n``-th time for the ``n``-th address, unless ``changes`` say otherwise."""

    async def ask(number: int) -> Response:
        body = {"email": f"{number}@example.org", "client_secret": f"s{number}", "send_attempt": 1, **changes}
        return await server.client.post(f"{V2}/validate/email/requestToken", json=body, headers=headers)

    return ask


def asks_for_sms(server: IdentityServer, headers: dict[str, str], prefix: str = "+44770090") -> Ask:
    async def ask(number: int) -> Response:
        phone = {"country": "GB", "phone_number": f"{prefix}{number:04}"}
        body = {**phone, "client_secret": "secret", "send_attempt": 1}
        return await server.client.post(f"{V2}/validate/msisdn/requestToken", json=body, headers=headers)

    return ask


def invites(server: IdentityServer, headers: dict[str, str], **changes: Any) -> Ask:
    async def ask(number: int) -> Response:
        body = {
            "medium": "email",
            "address": f"{number}@example.org",
            "room_id": "!r:hs.test",
            "sender": ALICE,
            **changes,
        }
        return await server.client.post(f"{V2}/store-invite", json=body, headers=headers)

    return ask


def looks_up(server: IdentityServer, headers: dict[str, str]) -> Ask:
    async def ask(_number: int) -> Response:
        details = (await server.client.get(f"{V2}/hash_details", headers=headers)).json()
        body = {"algorithm": "sha256", "pepper": details["lookup_pepper"], "addresses": []}
        return await server.client.post(f"{V2}/lookup", json=body, headers=headers)

    return ask


def registers(server: IdentityServer) -> Ask:
    async def ask(number: int) -> Response:
        body = {"access_token": f"openid:@{number}:hs.test", "matrix_server_name": "hs.test"}
        return await server.client.post(f"{V2}/account/register", json=body)

    return ask


def guesses(server: IdentityServer, headers: dict[str, str]) -> Ask:
    async def ask(_number: int) -> Response:
        body = {"sid": "sid", "client_secret": "secret", "token": "guess"}
        return await server.client.post(f"{V2}/validate/email/submitToken", json=body, headers=headers)

    return ask


def unbinds(server: IdentityServer) -> Ask:
    """With a signature: each has us ask a homeserver for its keys."""

    async def ask(_number: int) -> Response:
        forged = {"Authorization": 'X-Matrix origin="hs.test",destination="is.test",key="ed25519:0",sig="AAAA"'}
        body = {"mxid": ALICE, "threepid": {"medium": "email", "address": "a@example.org"}}
        return await server.client.post(f"{V2}/3pid/unbind", json=body, headers=forged)

    return ask


CASES: dict[str, Callable[[IdentityServer, dict[str, str]], Ask]] = {
    "request_token_per_address": lambda server, headers: asks_for_mails(server, headers, email="A@example.org"),
    "request_token_per_account": asks_for_mails,
    "request_token_per_source": asks_for_mails,
    "request_token_per_prefix": asks_for_sms,
    "submit_token_per_source": guesses,
    "store_invite_per_account": invites,
    "store_invite_per_address": lambda server, headers: invites(server, headers, address="A@example.org"),
    "lookup_per_account": looks_up,
    "lookup_per_source": looks_up,
    "unbind_per_source": lambda server, _headers: unbinds(server),
    "register_per_source": lambda server, _headers: registers(server),
}


def test_every_rate_of_the_identity_server_has_a_case() -> None:
    homeserver = {
        "login_per_user",
        "login_per_source",
        "registration_per_source",
        "onbind_per_source",
        "key_query_per_source",
        "profile_per_source",
        "user_directory_per_user",
        "upload_per_user",
    }
    peers = {"replication_per_peer"}
    assert set(CASES) == set(NONE) - homeserver - peers


@pytest.mark.parametrize("rate", CASES)
async def test_who_asks_too_often_is_told_how_long_to_wait(make_server: MakeServer, rate: str) -> None:
    async with make_server(rate_limits={**NONE, rate: "3/hour"}) as server:
        headers = await server.account(ALICE)
        ask = CASES[rate](server, headers)
        already = 1 if rate == "register_per_source" else 0
        for number in range(3 - already):
            assert (await ask(number)).status_code != 429
        sent = len(server.outlet.sent)
        answer = await ask(3)
        assert (answer.status_code, answer.json()["errcode"]) == (429, "M_LIMIT_EXCEEDED")
        assert 0 < answer.json()["retry_after_ms"] <= 2 * 3_600_000  # the window slides: what was counted fades
        assert int(answer.headers["retry-after"]) == -(-answer.json()["retry_after_ms"] // 1000)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert len(server.outlet.sent) == sent


async def test_each_address_account_and_prefix_is_counted_for_itself(make_server: MakeServer) -> None:
    names = ("request_token_per_address", "request_token_per_account", "request_token_per_prefix")
    async with make_server(rate_limits={**NONE, **dict.fromkeys(names, "2/hour")}) as server:
        alice, bob = await server.account(ALICE), await server.account(BOB)
        carol, dora = await server.account("@carol:hs.test"), await server.account("@dora:hs.test")
        by_mail = asks_for_mails(server, alice)
        assert [(await by_mail(number)).status_code for number in range(3)] == [200, 200, 429]
        assert (await asks_for_mails(server, bob)(9)).status_code == 200
        # One address, however it is written and whoever asks.
        for headers, email, status in (
            (bob, "x@example.org", 200),
            (carol, "X@Example.org", 200),
            (carol, "x@EXAMPLE.org", 429),
        ):
            assert (await asks_for_mails(server, headers, email=email)(0)).status_code == status
        assert [(await asks_for_sms(server, dora)(number)).status_code for number in (1, 2)] == [200, 200]
        others = await server.account("@erin:hs.test")
        assert (await asks_for_sms(server, others)(3)).status_code == 429
        assert (await asks_for_sms(server, others, "+4920212345")(3)).status_code == 200


@pytest.mark.parametrize("rate", ["1/second", "5/2 seconds"])
async def test_whoever_waits_as_long_as_told_may_ask_again(rate: str) -> None:
    limits = RateLimits(RateLimitSettings(**{**NONE, "lookup_per_account": rate}))

    async def ask_until_told_to_wait() -> int:
        while True:
            try:
                await limits.hit("lookup_per_account", ALICE)
            except LimitExceeded as error:
                return int(error.body["retry_after_ms"])

    await asyncio.sleep(await ask_until_told_to_wait() / 1000)
    await limits.hit("lookup_per_account", ALICE)


async def test_rates_may_be_switched_off_one_by_one_or_all_at_once() -> None:
    for settings in (RateLimitSettings(lookup_per_account=""), RateLimitSettings(enabled=False)):
        limits = RateLimits(settings)
        for _ in range(300):
            await limits.hit("lookup_per_account", ALICE)


async def test_nobody_who_is_no_robot_is_ever_told_to_wait(make_server: MakeServer) -> None:
    """With the rates as they ship: a clumsy user's whole first day in a few seconds."""
    async with make_server(rate_limits={}) as server:
        headers = {}
        for _device in range(5):
            headers = await server.account(ALICE)
        for attempt in range(1, 5):  # "send it again", four times, and the digits mistyped each time
            answer = await asks_for_mails(
                server, headers, email="a@example.org", client_secret="s", send_attempt=attempt
            )(0)
            assert answer.status_code == 200
            assert (await asks_for_sms(server, headers)(1)).status_code == 200
            assert (await guesses(server, headers)(0)).status_code != 429
        session = {"sid": answer.json()["sid"], "client_secret": "s"}
        for _ in range(2):
            body = {**session, "token": "mistyped"}
            answer = await server.client.post(f"{V2}/validate/email/submitToken", json=body, headers=headers)
            assert answer.json()["errcode"] == "M_TOKEN_INCORRECT"
        for number in range(2, 5):  # further addresses
            await server.proven(headers, f"{number}@example.org", f"secret{number}")
        for number in range(20):  # a new room, and everybody is invited
            assert (await invites(server, headers)(number)).status_code == 200
        for _page in range(30):  # a large address book, looked up in small portions
            assert (await looks_up(server, headers)(0)).status_code == 200
