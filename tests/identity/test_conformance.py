"""Answer by answer against the specification's own description of the API (`data/api/identity/*.yaml`).

Each story drives one operation to every answer that the description documents; the answers are then held to its
schemas. Skipped where the specification does not lie beside the checkout.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import yaml
from httpx import Response
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from sqlalchemy import text
from structlog.testing import capture_logs

from identity_server.identity.routes import routers
from identity_server.matrix.errors import DestinationRejected
from identity_server.runtime.routing import all_routes
from tests.world import IdentityServer, MakeServer, hashed

V2 = "/_matrix/identity/v2"
ALICE, BOB = "@alice:hs.test", "@bob:hs.test"
POLICY = "https://is.test/terms-1-en"
SETTINGS: dict[str, Any] = {
    "terms": {
        "policies": {
            "terms": {
                "version": "1",
                "languages": {
                    "en": {"name": "Terms", "url": POLICY},
                    "fr": {"name": "Conditions", "url": "https://is.test/terms-1-fr"},
                },
            }
        }
    },
    "validation": {"confirm_links": False},
}

SPECIFICATION = Path(__file__).resolve().parents[3] / "shared/matrix-spec/data/api/identity"
here_only = pytest.mark.skipif(
    not SPECIFICATION.is_dir(), reason="the specification does not lie beside this checkout (../shared/matrix-spec)"
)

# Documented, and yet never given.
NEVER = {
    # For servers that do not support unbinding.
    ("POST /v2/3pid/unbind", "501", None),
    # Who follows a link from a mail bears no token, so nobody knows whose terms to look at.
    ("GET /v2/validate/email/submitToken", "403", "M_TERMS_NOT_SIGNED"),
    ("GET /v2/validate/msisdn/submitToken", "403", "M_TERMS_NOT_SIGNED"),
    # Whoever does not accept the terms may still leave.
    ("POST /v2/account/logout", "403", "M_TERMS_NOT_SIGNED"),
}


class Operation:
    """One method on one path, and where its description stands."""

    def __init__(self, file: Path, path: str, method: str, described: dict[str, Any], base_path: str) -> None:
        self._pointer = f"{file.as_uri()}#/paths/{_escaped(path)}/{method}/responses"
        self._responses = described["responses"]
        self.requires_token = bool(described.get("security"))
        self.method = method.upper()
        self.path = (base_path + path).replace("keyId", "key_id")
        self.name = f"{self.method} {self.path.removeprefix('/_matrix/identity')}"

    @property
    def documented(self) -> set[tuple[str, str | None]]:
        """Every status with every error code that its description names."""
        answers: set[tuple[str, str | None]] = set()
        for status, response in self._responses.items():
            answers.update((status, code) for code in re.findall(r"M_[A-Z_]+", str(response)) or [None])
        return answers

    def check(self, answer: Response) -> tuple[str, str | None]:
        """Hold the answer to the schema of its status; the documented answer that it is, as far as it is one."""
        status = str(answer.status_code)
        if status not in self._responses and f"{status[0]}XX" in self._responses:
            status = f"{status[0]}XX"
        is_json = answer.headers["content-type"].startswith("application/json")
        if is_json and answer.json().keys() >= {"errcode"}:
            assert isinstance(answer.json()["error"], str)
        content = self._responses.get(status, {}).get("content")
        if content is not None:
            assert answer.headers["content-type"] == "application/json"
            schema = {"$ref": f"{self._pointer}/{status}/content/application~1json/schema"}
            Draft202012Validator(schema, registry=registry()).validate(answer.json())
        return status, answer.json().get("errcode") if is_json else None


def _escaped(path: str) -> str:
    return quote(path.replace("~", "~0").replace("/", "~1"), safe="~")


@cache
def registry() -> Registry[Any]:
    def retrieve(uri: str) -> Resource[Any]:
        contents = yaml.safe_load(Path(urlsplit(uri).path).read_text())
        return Resource.from_contents(contents, default_specification=DRAFT202012)

    return Registry(retrieve=retrieve)


def operations() -> list[Operation]:
    found = []
    for file in sorted(SPECIFICATION.glob("*.yaml")):
        described = yaml.safe_load(file.read_text())
        base_path = described["servers"][0]["variables"]["basePath"]["default"]
        for path, methods in described["paths"].items():
            found += [Operation(file, path, method, operation, base_path) for method, operation in methods.items()]
    return found


Answers = AsyncIterator[Response]
Story = Callable[["Server"], Answers]
STORIES: dict[str, Story] = {}


def answers(operation: str) -> Callable[[Story], Story]:
    def remember(story: Story) -> Story:
        STORIES[operation] = story
        return story

    return remember


class Server:
    """The identity server, spoken to by Alice, who has accepted its terms, and by Bob, who has not."""

    def __init__(self, world: IdentityServer, alice: dict[str, str], bob: dict[str, str]) -> None:
        self.world = world
        self.alice, self.bob = alice, bob
        self._secrets = (f"secret-{number}" for number in count())

    async def get(self, path: str, headers: dict[str, str] | None = None, **params: Any) -> Response:
        return await self.world.client.get(V2 + path, params=params, headers=headers)

    async def post(self, path: str, headers: dict[str, str] | None = None, **body: Any) -> Response:
        return await self.world.client.post(V2 + path, json=body, headers=headers)

    async def ask(self, medium: str = "email", **changes: Any) -> Response:
        address = (
            {"email": "alice@example.org"} if medium == "email" else {"country": "GB", "phone_number": "07700900001"}
        )
        body = {**address, "client_secret": next(self._secrets), "send_attempt": 1, **changes}
        return await self.post(f"/validate/{medium}/requestToken", self.alice, **body)

    async def begun(self, medium: str = "email", **changes: Any) -> dict[str, str]:
        """Session and token, as they stand in the message."""
        secret = next(self._secrets)
        answer = await self.ask(medium, client_secret=secret, **changes)
        token = self.world.outlet.sent[-1].context["token"]
        return {"sid": answer.json()["sid"], "client_secret": secret, "token": token}

    async def proven(self) -> dict[str, str]:
        return await self.world.proven(self.alice, client_secret=next(self._secrets))

    async def bound(self) -> None:
        await self.post("/3pid/bind", self.alice, **await self.proven(), mxid=ALICE)


@pytest.fixture
def engine() -> str:
    return "sqlite"  # the answers do not depend on it; what is stored is tested elsewhere, on both


@pytest.fixture
async def server(make_server: MakeServer) -> AsyncIterator[Server]:
    async with make_server(**SETTINGS) as world:
        alice, bob = await world.account(ALICE), await world.account(BOB)
        await world.client.post(f"{V2}/terms", json={"user_accepts": [POLICY]}, headers=alice)
        yield Server(world, alice, bob)


@here_only
@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.name)
async def test_every_documented_answer_is_given_as_it_is_documented(server: Server, operation: Operation) -> None:
    given = set()
    async for answer in STORIES[operation.name](server):
        given.add(operation.check(answer))
        _check_headers(answer)
    never = {(status, code) for name, status, code in NEVER if name == operation.name}
    # A status that is described without a code is given with one of our own.
    statuses = {(status, None) for status, _ in given}
    assert operation.documented - never <= given | statuses
    assert not never & given


@here_only
async def test_whatever_needs_a_token_says_so(server: Server) -> None:
    for operation in operations():
        if not operation.requires_token or operation.name.startswith("GET /v2/validate/"):
            continue  # the link in a message bears none
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}):
            body = {"json": BODIES.get(operation.name, {})} if operation.method == "POST" else {}
            params = {"sid": "a", "client_secret": "b"}
            answer = await server.world.client.request(
                operation.method, operation.path, headers=headers, params=params, **body
            )
            assert answer.status_code == 401, operation.name
            expected = "M_UNKNOWN_TOKEN" if "logout" in operation.path and "wrong" in str(headers) else "M_UNAUTHORIZED"
            assert answer.json()["errcode"] == expected, operation.name
            _check_headers(answer)


BODIES: dict[str, Any] = {
    "POST /v2/3pid/unbind": {"mxid": ALICE, "threepid": {"medium": "email", "address": "alice@example.org"}}
}


def _check_headers(answer: Response) -> None:
    """ "Web browser clients"."""
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE, OPTIONS"
    allowed = "Origin, X-Requested-With, Content-Type, Accept, Authorization"
    assert answer.headers["access-control-allow-headers"] == allowed


# Answers to any request


async def test_browsers_may_ask_from_anywhere_whatever_the_answer(server: Server) -> None:
    await _break_the_database(server)
    client = server.world.client
    broken = {"params": {"sid": "a", "client_secret": "b"}, "headers": server.alice}
    for status, answer in (
        (404, await client.get("/")),
        (404, await client.get(f"{V2}/nothing")),
        (404, await client.post("/_matrix/identity/v3/lookup")),
        (404, await client.get(f"{V2}/terms/")),
        (405, await client.delete(f"{V2}/lookup")),
        (405, await client.put(f"{V2}/terms", json={})),
        (405, await client.post(f"{V2}/hash_details", json={})),
        (400, await client.post(f"{V2}/account/register", content=b"no json")),
        (413, await client.post(f"{V2}/account/register", content=b"x" * (1024 * 1024 + 1))),
        (500, await _quietly(client.get(f"{V2}/3pid/getValidated3pid", **broken))),
    ):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/json"
        assert answer.json().keys() >= {"errcode", "error"}
        if status in (404, 405):
            assert answer.json()["errcode"] == "M_UNRECOGNIZED"
        _check_headers(answer)


async def _quietly(answer: Awaitable[Response]) -> Response:
    with capture_logs():  # or what broke is drawn for a terminal, which takes seconds
        return await answer


async def _break_the_database(server: Server) -> None:
    async with server.world.database.transaction() as session:
        await session.execute(text("DROP TABLE validation_sessions"))


async def test_a_preflight_is_answered_on_every_path_and_does_nothing(server: Server) -> None:
    routes = all_routes(*routers(server.world.settings))
    paths = {route.path for route in routes} | {"/", f"{V2}/nothing"}
    preflight = {
        "Origin": "https://app.test",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    for path in paths:
        answer = await server.world.client.options(path, headers=preflight)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        _check_headers(answer)


# The stories


@answers("GET /versions")
async def versions(server: Server) -> Answers:
    answer = await server.world.client.get("/_matrix/identity/versions")
    assert {f"v1.{minor}" for minor in range(1, 20)} <= set(answer.json()["versions"])
    yield answer


@answers("GET /v2")
async def ping(server: Server) -> Answers:
    answer = await server.get("")
    assert answer.json() == {}
    yield answer


@answers("POST /v2/account/register")
async def register(server: Server) -> Answers:
    body = {"access_token": f"openid:{ALICE}", "matrix_server_name": "hs.test", "token_type": "Bearer", "expires_in": 9}
    yield await server.post("/account/register", **body)


@answers("GET /v2/account")
async def account(server: Server) -> Answers:
    answer = await server.get("/account", server.alice)
    assert answer.json() == {"user_id": ALICE}
    yield answer
    yield await server.get("/account", server.bob)


@answers("POST /v2/account/logout")
async def log_out(server: Server) -> Answers:
    yield await server.world.client.post(f"{V2}/account/logout", headers=server.alice)  # "for historical reasons"
    yield await server.post("/account/logout", server.alice)
    yield await server.post("/account/logout", server.bob)


@answers("GET /v2/terms")
async def terms(server: Server) -> Answers:
    answer = await server.get("/terms")
    assert answer.json()["policies"]["terms"]["en"]["url"] == POLICY
    yield answer


@answers("POST /v2/terms")
async def agree(server: Server) -> Answers:
    yield await server.post("/terms", server.bob, user_accepts=[POLICY])


@answers("GET /v2/pubkey/{key_id}")
async def public_key(server: Server) -> Answers:
    yield await server.get("/pubkey/ed25519:0")
    yield await server.get("/pubkey/ed25519:1")


@answers("GET /v2/pubkey/isvalid")
async def is_valid(server: Server) -> Answers:
    key = (await server.get("/pubkey/ed25519:0")).json()["public_key"]
    for public_key, valid in ((key, True), (key.replace("+", "-").replace("/", "_"), True), ("A" * 43, False)):
        answer = await server.get("/pubkey/isvalid", public_key=public_key)
        assert answer.json() == {"valid": valid}
        yield answer


@answers("GET /v2/pubkey/ephemeral/isvalid")
async def is_ephemeral_valid(server: Server) -> Answers:
    _, ephemeral = (await server.post("/store-invite", server.alice, **INVITE)).json()["public_keys"]
    for public_key, valid in ((ephemeral["public_key"], True), ("A" * 43, False)):
        answer = await server.world.client.get(ephemeral["key_validity_url"], params={"public_key": public_key})
        assert answer.json() == {"valid": valid}
        yield answer


@answers("GET /v2/hash_details")
async def hash_details(server: Server) -> Answers:
    answer = await server.get("/hash_details", server.alice)
    assert "sha256" in answer.json()["algorithms"]
    yield answer


@answers("POST /v2/lookup")
async def look_up(server: Server) -> Answers:
    await server.bound()
    pepper = (await server.get("/hash_details", server.alice)).json()["lookup_pepper"]
    body = {"algorithm": "sha256", "pepper": pepper, "addresses": [hashed("alice@example.org", "email", pepper)]}
    answer = await server.post("/lookup", server.alice, **body)
    assert answer.json()["mappings"] == {body["addresses"][0]: ALICE}
    yield answer
    answer = await server.post("/lookup", server.alice, **{**body, "pepper": "stale"})
    assert (answer.json()["algorithm"], answer.json()["lookup_pepper"]) == ("sha256", pepper)
    yield answer
    yield await server.post("/lookup", server.alice, **{**body, "algorithm": "md5"})


@answers("POST /v2/validate/email/requestToken")
async def request_email_token(server: Server) -> Answers:
    yield await server.ask()
    yield await server.ask(email="not an address")
    server.world.outlet.failing = True
    yield await server.ask()
    body = {"email": "bob@example.org", "client_secret": "bob", "send_attempt": 1}
    yield await server.post("/validate/email/requestToken", server.bob, **body)


@answers("POST /v2/validate/msisdn/requestToken")
async def request_msisdn_token(server: Server) -> Answers:
    yield await server.ask("msisdn")
    yield await server.ask("msisdn", phone_number="12")
    server.world.outlet.failing = True
    yield await server.ask("msisdn")

    async def reject(*_: Any) -> None:
        raise DestinationRejected("No SMS are sent to this number")

    server.world.outlet.send_sms = reject  # type: ignore[method-assign]  # a gateway's refusal
    yield await server.ask("msisdn")
    body = {"country": "GB", "phone_number": "07700900002", "client_secret": "bob", "send_attempt": 1}
    yield await server.post("/validate/msisdn/requestToken", server.bob, **body)


async def submit_token(server: Server, medium: str) -> Answers:
    path = f"/validate/{medium}/submitToken"
    session = await server.begun(medium)
    yield await server.post(path, server.alice, **{**session, "token": "wrong"})
    yield await server.post(path, server.alice, **{**session, "client_secret": "not allowed"})
    yield await server.post(path, server.bob, **session)
    yield await server.post(path, server.alice, **session)
    late = await server.begun(medium)
    server.world.clock.advance(hours=24)
    yield await server.post(path, server.alice, **late)


@answers("POST /v2/validate/email/submitToken")
async def submit_email_token(server: Server) -> Answers:
    async for answer in submit_token(server, "email"):
        yield answer


@answers("POST /v2/validate/msisdn/submitToken")
async def submit_msisdn_token(server: Server) -> Answers:
    async for answer in submit_token(server, "msisdn"):
        yield answer


async def open_link(server: Server, medium: str) -> Answers:
    path = f"/validate/{medium}/submitToken"
    yield await server.get(path, **await server.begun(medium))
    followed = await server.get(path, **await server.begun(medium, next_link="https://is.test/done?a=b"))
    assert followed.headers["location"] == "https://is.test/done?a=b"
    yield followed
    yield await server.get(path, **{**await server.begun(medium), "token": "wrong"})


@answers("GET /v2/validate/email/submitToken")
async def open_email_link(server: Server) -> Answers:
    async for answer in open_link(server, "email"):
        yield answer


@answers("GET /v2/validate/msisdn/submitToken")
async def open_msisdn_link(server: Server) -> Answers:
    async for answer in open_link(server, "msisdn"):
        yield answer


@answers("GET /v2/3pid/getValidated3pid")
async def get_validated(server: Server) -> Answers:
    path = "/3pid/getValidated3pid"
    session = await server.proven()
    yield await server.get(path, server.alice, **session)
    yield await server.get(path, server.alice, **{**session, "client_secret": "other"})
    yield await server.get(path, server.bob, **session)
    begun = await server.begun()
    yield await server.get(path, server.alice, sid=begun["sid"], client_secret=begun["client_secret"])
    server.world.clock.advance(hours=24)
    yield await server.get(path, server.alice, **session)


@answers("POST /v2/3pid/bind")
async def bind(server: Server) -> Answers:
    session = await server.proven()
    yield await server.post("/3pid/bind", server.alice, **session, mxid=ALICE)
    yield await server.post("/3pid/bind", server.bob, **session, mxid=BOB)
    yield await server.post("/3pid/bind", server.alice, **{**session, "sid": "other"}, mxid=ALICE)
    yield await server.post("/3pid/bind", server.alice, **await server.begun(), mxid=ALICE)
    server.world.clock.advance(hours=24)
    yield await server.post("/3pid/bind", server.alice, **session, mxid=ALICE)


@answers("POST /v2/3pid/unbind")
async def unbind(server: Server) -> Answers:
    await server.bound()
    body = {"mxid": ALICE, "threepid": {"medium": "email", "address": "alice@example.org"}}
    forged = {"Authorization": 'X-Matrix origin="hs.test",destination="is.test",key="ed25519:0",sig="AAAA"'}
    yield await server.post("/3pid/unbind", forged, **body)
    yield await server.post("/3pid/unbind", server.bob, **body)
    yield await server.post("/3pid/unbind", **body, sid="other", client_secret="other")
    begun = await server.begun()
    yield await server.post("/3pid/unbind", **body, sid=begun["sid"], client_secret=begun["client_secret"])
    yield await server.post("/3pid/unbind", server.alice, **body)


INVITE = {"medium": "email", "address": "carol@example.org", "room_id": "!room:hs.test", "sender": ALICE}


@answers("POST /v2/store-invite")
async def store_invite(server: Server) -> Answers:
    answer = await server.post("/store-invite", server.alice, **INVITE)
    assert re.fullmatch(r"[0-9a-zA-Z.=_-]{1,255}", answer.json()["token"])
    assert answer.json()["display_name"] == "c...@e..."
    yield answer
    await server.bound()
    answer = await server.post("/store-invite", server.alice, **{**INVITE, "address": "alice@example.org"})
    assert answer.json()["mxid"] == ALICE
    yield answer
    yield await server.post("/store-invite", server.alice, **{**INVITE, "medium": "pigeon"})
    yield await server.post("/store-invite", server.bob, **{**INVITE, "sender": BOB})


@answers("POST /v2/sign-ed25519")
async def sign(server: Server) -> Answers:
    token = (await server.post("/store-invite", server.alice, **INVITE)).json()["token"]
    async with asyncio.timeout(10):
        while not server.world.outlet.sent:
            await asyncio.sleep(0.01)
    fragment = urlsplit(server.world.outlet.sent[-1].context["link"]).fragment
    [sign_url] = parse_qs(urlsplit(fragment).query)["signurl"]
    body = {"mxid": ALICE, "token": token, "private_key": parse_qs(urlsplit(sign_url).query)["private_key"][0]}
    yield await server.post("/sign-ed25519", server.alice, **body)
    yield await server.post("/sign-ed25519", server.bob, **body)
    yield await server.post("/sign-ed25519", server.alice, **{**body, "token": "unknown"})
