from collections.abc import AsyncIterator

import pytest

from tests.world import IdentityServer, MakeServer

TERMS = "/_matrix/identity/v2/terms"
POLICIES = {
    "privacy": {
        "version": "1.2",
        "languages": {
            "en": {"name": "Privacy", "url": "https://is.test/privacy-1.2-en"},
            "fr": {"name": "Vie privée", "url": "https://is.test/privacy-1.2-fr"},
        },
    },
    "tos": {"version": "2.0", "languages": {"en": {"name": "Terms", "url": "https://is.test/tos-2.0-en"}}},
}


@pytest.fixture
async def with_terms(make_server: MakeServer) -> AsyncIterator[IdentityServer]:
    async with make_server(terms={"policies": POLICIES}) as server:
        yield server


async def test_terms_are_offered_without_a_token(with_terms: IdentityServer) -> None:
    policies = (await with_terms.client.get(TERMS)).json()["policies"]
    assert policies["privacy"]["version"] == "1.2"
    assert policies["privacy"]["fr"] == {"name": "Vie privée", "url": "https://is.test/privacy-1.2-fr"}


async def test_without_policies_there_is_nothing_to_accept(server: IdentityServer) -> None:
    assert (await server.client.get(TERMS)).json() == {"policies": {}}


async def test_acceptance_adds_up_over_calls_and_any_language_counts(with_terms: IdentityServer) -> None:
    client, headers = with_terms.client, await with_terms.account()

    async def errcode() -> str | None:
        return (await client.get("/_matrix/identity/v2/hash_details", headers=headers)).json().get("errcode")

    assert await errcode() == "M_TERMS_NOT_SIGNED"
    await client.post(TERMS, json={"user_accepts": ["https://is.test/privacy-1.2-fr"]}, headers=headers)
    assert await errcode() == "M_TERMS_NOT_SIGNED"
    answer = await client.post(TERMS, json={"user_accepts": ["https://is.test/tos-2.0-en"]}, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {})
    assert await errcode() is None


async def test_almost_everything_waits_for_the_terms(with_terms: IdentityServer) -> None:
    client, headers = with_terms.client, await with_terms.account()
    for method, path, body in (
        ("GET", "/account", None),
        ("GET", "/hash_details", None),
        ("POST", "/lookup", {"algorithm": "sha256", "pepper": "x", "addresses": []}),
        ("POST", "/validate/email/requestToken", {"client_secret": "a", "email": "a@b.c", "send_attempt": 1}),
        ("POST", "/3pid/bind", {"sid": "a", "client_secret": "b", "mxid": "@alice:hs.test"}),
        ("GET", "/3pid/getValidated3pid?sid=a&client_secret=b", None),
        ("POST", "/sign-ed25519", {"mxid": "@alice:hs.test", "token": "a", "private_key": "b"}),
    ):
        answer = await client.request(method, f"/_matrix/identity/v2{path}", json=body, headers=headers)
        assert (answer.status_code, answer.json()["errcode"]) == (403, "M_TERMS_NOT_SIGNED"), path


async def test_one_may_log_out_without_accepting(with_terms: IdentityServer) -> None:
    answer = await with_terms.client.post("/_matrix/identity/v2/account/logout", headers=await with_terms.account())
    assert answer.status_code == 200


async def test_accepting_needs_a_token(with_terms: IdentityServer) -> None:
    answer = await with_terms.client.post(TERMS, json={"user_accepts": []})
    assert (answer.status_code, answer.json()["errcode"]) == (401, "M_UNAUTHORIZED")


async def test_a_number_is_no_list_of_addresses(with_terms: IdentityServer) -> None:
    answer = await with_terms.client.post(TERMS, json={"user_accepts": 3}, headers=await with_terms.account())
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_INVALID_PARAM")
