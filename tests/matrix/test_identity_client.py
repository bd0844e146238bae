"""The client against a real identity server, and against servers that answer as none does."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from identity_server.identity.lookup.rotate import rotate
from identity_server.matrix.homeserver_client import Discovered, discover
from identity_server.matrix.http import Unreachable
from identity_server.matrix.identity_client import IdentityClient, NoCommonAlgorithm
from identity_server.matrix.json_api import JsonApi, Refused
from identity_server.matrix.signing import InvalidSignature
from identity_server.matrix.threepid import Threepid, lookup_hash
from identity_server.settings import LookupSettings
from tests.world import IdentityServer, MakeServer

ALICE = "@alice:hs.test"
EMAIL = Threepid("email", "strauss@example.org")
PHONE = Threepid("msisdn", "447700900001")
TERMS = {
    "policies": {"privacy": {"version": "1", "languages": {"en": {"name": "Privacy", "url": "https://is.test/p"}}}}
}


@pytest.fixture
async def alice(server: IdentityServer) -> IdentityClient:
    return await registered(server)


async def registered(server: IdentityServer, user_id: str = ALICE) -> IdentityClient:
    client = IdentityClient(JsonApi(server.client, "https://is.test/"))
    await client.register({"access_token": f"openid:{user_id}", "matrix_server_name": "hs.test"})
    return client


async def proven(client: IdentityClient, server: IdentityServer) -> tuple[str, str]:
    sid = await client.request_email_token("Strauß@Example.org", "secret")
    await client.submit_token("email", sid, "secret", server.outlet.sent[-1].context["token"])
    return sid, "secret"


async def test_an_account_is_opened_and_left(alice: IdentityClient) -> None:
    assert "v1.1" in await alice.versions()
    assert await alice.account() == ALICE
    await alice.log_out()
    assert alice.api.token is None
    with pytest.raises(Refused) as refused:
        await alice.account()
    assert (refused.value.status, refused.value.errcode) == (401, "M_UNAUTHORIZED")


async def test_terms_are_read_and_accepted(make_server: MakeServer) -> None:
    async with make_server(terms=TERMS) as server:
        client = await registered(server)
        with pytest.raises(Refused, match="M_TERMS_NOT_SIGNED"):
            await client.account()
        (policy,) = await client.terms()
        assert (policy.policy_id, policy.version, policy.texts["en"]["name"]) == ("privacy", "1", "Privacy")
        await client.accept_terms([policy.texts["en"]["url"]])
        assert await client.account() == ALICE


async def test_an_address_is_proven_bound_found_in_any_spelling_and_unbound(
    alice: IdentityClient, server: IdentityServer
) -> None:
    sid = await alice.request_email_token("Strauß@Example.org", "secret")
    with pytest.raises(Refused, match="M_SESSION_NOT_VALIDATED"):
        await alice.validated_threepid(sid, "secret")
    with pytest.raises(Refused, match="M_TOKEN_INCORRECT"):
        await alice.submit_token("email", sid, "secret", "wrong")
    await alice.submit_token("email", sid, "secret", server.outlet.sent[-1].context["token"])
    assert await alice.validated_threepid(sid, "secret") == EMAIL

    association = await alice.bind(sid, "secret", ALICE)
    await alice.verify_association(association, "is.test")
    with pytest.raises(InvalidSignature):
        await alice.verify_association({**association, "mxid": "@mallory:hs.test"}, "is.test")
    with pytest.raises(InvalidSignature):
        await alice.verify_association(association, "other.test")
    for malformed in (None, 5, [], {"is.test": 5}, {"is.test": ["ed25519:0"]}):
        with pytest.raises(InvalidSignature):
            await alice.verify_association({**association, "signatures": malformed}, "is.test")

    assert await alice.lookup([Threepid("email", "STRAUß@example.ORG"), PHONE]) == {EMAIL: ALICE}
    await alice.unbind(EMAIL, ALICE)
    assert await alice.lookup([EMAIL]) == {}


async def test_a_session_undoes_a_binding_too(alice: IdentityClient, server: IdentityServer) -> None:
    session = await proven(alice, server)
    await alice.bind(*session, ALICE)
    alice.api.token = None
    await alice.unbind(EMAIL, ALICE, session)


async def test_a_number_is_asked_for_as_it_is_dialled(alice: IdentityClient, server: IdentityServer) -> None:
    sid = await alice.request_msisdn_token("GB", "07700 900001", "secret", next_link=None)
    await alice.submit_token("msisdn", sid, "secret", server.outlet.sent[-1].context["token"])
    assert await alice.validated_threepid(sid, "secret") == PHONE


async def test_a_pepper_that_is_rotated_between_the_two_requests_is_asked_for_again(
    alice: IdentityClient, server: IdentityServer
) -> None:
    await alice.bind(*await proven(alice, server), ALICE)
    asked: list[str] = []

    async def rotate_after_hash_details(response: httpx.Response) -> None:
        asked.append(response.request.url.path.rpartition("/")[2])
        if asked == ["hash_details"]:
            no_grace = LookupSettings(grace_period=0)
            await rotate(server.database, no_grace, clock=server.clock, entropy=server.entropy)
            server.clock.advance(seconds=120)

    server.client.event_hooks["response"] = [rotate_after_hash_details]
    assert await alice.lookup([EMAIL]) == {EMAIL: ALICE}
    assert asked == ["hash_details", "lookup", "hash_details", "lookup"]


async def test_an_invitation_is_kept(alice: IdentityClient) -> None:
    stored = await alice.store_invite(EMAIL, "!room:hs.test", ALICE, {"room_name": "Garden"})
    assert {"token", "public_keys", "display_name"} <= stored.keys()
    with pytest.raises(Refused, match="M_UNRECOGNIZED"):
        await alice.store_invite(PHONE, "!room:hs.test", ALICE)


def test_the_hash_is_that_of_the_specification() -> None:
    """Identity Service API, "sha256": its example."""
    assert lookup_hash("alice@example.com", "email", "matrixrocks") == "4kenr7N9drpCJ4AfalmlGQVsOn3o2RHjkADUpXJWZUc"


# Servers that are none


class Odd:
    """Answers every request with ``answer``."""

    def __init__(self, body: bytes, status: int = 200) -> None:
        self.body = body
        self.status = status

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": self.body})


def asking(app: ASGIApp) -> JsonApi:
    transport: Any = httpx.ASGITransport(app)
    return JsonApi(httpx.AsyncClient(transport=transport), "https://odd.test")


@pytest.fixture
async def nobody() -> AsyncIterator[JsonApi]:
    async with httpx.AsyncClient(trust_env=False) as http:
        yield JsonApi(http, "http://127.0.0.1:1")


async def test_who_does_not_answer_is_unreachable(nobody: JsonApi) -> None:
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:1 cannot be reached"):
        await nobody.call("GET", "/secret?token=secret")


@pytest.mark.parametrize("app", [Odd(b"<html>"), Odd(b"[]"), Odd(b"{}", 302), Odd(b"{}")])
async def test_who_does_not_answer_as_a_matrix_server_is_unreachable(app: ASGIApp) -> None:
    with pytest.raises(Unreachable):
        await IdentityClient(asking(app)).account()


async def test_an_error_without_json_is_an_error_still() -> None:
    with pytest.raises(Refused, match=r"status 502 \(M_UNKNOWN\)"):
        await IdentityClient(asking(Odd(b"<html>", 502))).account()


async def test_the_refusal_of_a_token_with_status_200_is_one() -> None:
    with pytest.raises(Refused, match="M_TOKEN_INCORRECT"):
        await IdentityClient(asking(Odd(b'{"success": false}'))).submit_token("email", "1", "secret", "wrong")


async def test_addresses_are_not_sent_in_the_clear() -> None:
    unhashed = Odd(b'{"lookup_pepper": "x", "algorithms": ["none"]}')
    with pytest.raises(NoCommonAlgorithm):
        await IdentityClient(asking(unhashed)).lookup([EMAIL])


@pytest.mark.parametrize(
    ("app", "found"),
    [
        (Odd(b"{}", 404), None),
        (Odd(b"{}"), None),
        (Odd(b'{"m.homeserver": {"base_url": "https://hs.test/"}}'), Discovered("https://hs.test", None)),
        (
            Odd(
                b'{"m.homeserver": {"base_url": "https://hs.test"}, "m.identity_server": {"base_url": "https://is.test"}}'
            ),
            Discovered("https://hs.test", "https://is.test"),
        ),
    ],
)
async def test_what_a_domain_recommends_is_read(app: ASGIApp, found: Discovered | None) -> None:
    assert await discover(asking(app)) == found
