"""Against a real homeserver's TLS port on loopback, one that says whatever the test wants."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from identity_server.matrix import server_keys
from identity_server.matrix.errors import BadGateway, Unauthorized
from identity_server.matrix.federation_client import FederationClient
from identity_server.matrix.http import Endpoint, Unreachable
from identity_server.matrix.server_keys import UnknownKey
from identity_server.matrix.signing import SigningKey
from identity_server.runtime.clock import FakeClock
from identity_server.runtime.federation import Federation, open_federation
from identity_server.runtime.safe_http import SafeHttp
from identity_server.settings import FederationSettings

KEY = SigningKey.from_seed("ed25519:0", b"1" * 32)
ONBIND = {"medium": "email", "address": "a@hs.test", "mxid": "@a:hs.test", "invites": []}


@dataclass
class Homeserver:
    name: str = ""
    answer: Callable[[Request], Response] = lambda _request: JSONResponse({})
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)

    def says(self, content: Any, status: int = 200) -> None:
        self.answer = lambda _request: JSONResponse(content, status)

    async def hear(self, request: Request) -> Response:
        target = request.scope["raw_path"].decode() + "?" + request.scope["query_string"].decode()
        self.asked.append((request.method, target.removesuffix("?"), await request.body()))
        return self.answer(request)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def homeserver(authority: trustme.CA) -> AsyncIterator[Homeserver]:
    heard = Homeserver()
    app = Starlette(routes=[Route("/{path:path}", heard.hear, methods=["GET", "POST", "PUT"])])
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    config.load()
    config.ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(config.ssl)
    listener = socket.create_server(("127.0.0.1", 0))
    heard.name = f"localhost:{listener.getsockname()[1]}"
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve([listener]))
    yield heard
    server.should_exit = True
    await running


@pytest.fixture
def settings(authority: trustme.CA, tmp_path: Path) -> FederationSettings:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    return FederationSettings(
        ca_file=ca_file, allowed_private_networks=(ipaddress.ip_network("127.0.0.0/8"),), timeout=3000
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def federation(
    homeserver: Homeserver, settings: FederationSettings, clock: FakeClock
) -> AsyncIterator[Federation]:
    # After the homeserver, so that it is left before it has to close.
    async with open_federation(settings, clock) as opened:
        yield opened


async def test_a_homeserver_vouches_for_its_user(federation: Federation, homeserver: Homeserver) -> None:
    homeserver.says({"sub": f"@alice:{homeserver.name}"})
    assert await federation.client.userinfo(homeserver.name, "a/ b&c") == f"@alice:{homeserver.name}"
    assert homeserver.asked == [
        ("GET", "/_matrix/federation/v1/openid/userinfo?access_token=a%2F%20b%26c", b""),
    ]


@pytest.mark.parametrize(
    "sub",
    [
        "@alice:elsewhere.test",
        "@alice:{name}.evil.test",
        "@alice:x:{name}",
        "alice:{name}",
        "@:{name}",
        "@a\0b:{name}",
        f"@{'a' * 300}:{{name}}",
        "@alice",
        "",
        None,
        5,
        ["@alice:{name}"],
    ],
)
async def test_a_homeserver_cannot_vouch_for_others_or_for_nonsense(
    federation: Federation, homeserver: Homeserver, sub: Any
) -> None:
    homeserver.says({"sub": sub.replace("{name}", homeserver.name) if isinstance(sub, str) else sub})
    with pytest.raises(Unauthorized):
        await federation.client.userinfo(homeserver.name, "token")


@pytest.mark.parametrize(
    ("content", "status"), [({"errcode": "M_UNKNOWN_TOKEN"}, 401), ([], 200), ({}, 200), ("x", 200), (None, 500)]
)
async def test_a_token_that_is_not_confirmed_is_unauthorized(
    federation: Federation, homeserver: Homeserver, content: Any, status: int
) -> None:
    homeserver.says(content, status)
    with pytest.raises(Unauthorized):
        await federation.client.userinfo(homeserver.name, "token")


@pytest.mark.parametrize("name", ["localhost:1", "10.0.0.1", "", "no name", "[::1", "a..b:80", "." * 300, "\ud800:80"])
async def test_a_homeserver_that_cannot_be_asked_vouches_for_nobody(federation: Federation, name: str) -> None:
    with pytest.raises(Unauthorized):
        await federation.client.userinfo(name, "token")


@pytest.mark.parametrize("token", ["", "ü\n", "\ud800", "x" * 100_000])
async def test_no_token_is_too_strange(federation: Federation, homeserver: Homeserver, token: str) -> None:
    homeserver.says({"errcode": "M_UNKNOWN_TOKEN"}, 401)
    with pytest.raises(Unauthorized):
        await federation.client.userinfo(homeserver.name, token)


async def test_a_binding_is_told_by_post(federation: Federation, homeserver: Homeserver) -> None:
    await federation.client.onbind(homeserver.name, ONBIND)
    ((method, target, body),) = homeserver.asked
    assert (method, target) == ("POST", "/_matrix/federation/v1/3pid/onbind")
    assert body == b'{"medium":"email","address":"a@hs.test","mxid":"@a:hs.test","invites":[]}'


@pytest.mark.parametrize("status", [404, 405])
async def test_a_binding_is_told_by_put_where_post_is_not_served(
    federation: Federation, homeserver: Homeserver, status: int
) -> None:
    homeserver.answer = lambda request: JSONResponse({}, status if request.method == "POST" else 200)
    await federation.client.onbind(homeserver.name, ONBIND)
    assert [method for method, _, _ in homeserver.asked] == ["POST", "PUT"]
    assert homeserver.asked[0][1:] == homeserver.asked[1][1:]


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_a_binding_of_which_no_note_was_taken_is_a_failure(
    federation: Federation, homeserver: Homeserver, status: int
) -> None:
    homeserver.says({}, status)
    with pytest.raises(BadGateway):
        await federation.client.onbind(homeserver.name, ONBIND)
    with pytest.raises(Unreachable):
        await federation.client.onbind("localhost:1", ONBIND)


async def test_keys_are_fetched_and_verified_and_kept(
    federation: Federation, homeserver: Homeserver, clock: FakeClock
) -> None:
    homeserver.says(server_keys.publish(homeserver.name, [KEY], now_ms=clock.now_ms()))
    for _ in range(2):
        key = await federation.remote_keys.verify_key(homeserver.name, "ed25519:0", now_ms=clock.now_ms())
        assert key == KEY.verify_key
    assert [target for _, target, _ in homeserver.asked] == ["/_matrix/key/v2/server"]


async def test_keys_that_cannot_be_had_are_unknown_and_not_asked_for_at_once_again(
    federation: Federation, homeserver: Homeserver, clock: FakeClock
) -> None:
    homeserver.says({}, 500)
    for _ in range(2):
        with pytest.raises(UnknownKey):
            await federation.remote_keys.verify_key(homeserver.name, "ed25519:0", now_ms=clock.now_ms())
    assert len(homeserver.asked) == 1
    clock.advance(seconds=60)
    homeserver.says(server_keys.publish(homeserver.name, [KEY], now_ms=clock.now_ms()))
    await federation.remote_keys.verify_key(homeserver.name, "ed25519:0", now_ms=clock.now_ms())


class Places:
    """A discovery that knows."""

    def __init__(self, *endpoints: Endpoint, after_seconds: float = 0) -> None:
        self._endpoints = endpoints
        self._after_seconds = after_seconds

    async def endpoints(self, server_name: str, *, now_ms: int) -> tuple[Endpoint, ...]:
        await asyncio.sleep(self._after_seconds)
        return self._endpoints


async def test_places_are_tried_in_order_until_one_answers(
    settings: FederationSettings, homeserver: Homeserver
) -> None:
    port = int(homeserver.name.partition(":")[2])
    dead, alive = (Endpoint("localhost", p, "localhost", "localhost") for p in (1, port))
    async with SafeHttp(settings) as http:
        client = FederationClient(http, Places(dead, alive), now_ms=lambda: 0, timeout_ms=3000)
        assert (await client.request("hs.test", "GET", "/")).status == 200
        client = FederationClient(http, Places(dead, dead), now_ms=lambda: 0, timeout_ms=3000)
        with pytest.raises(Unreachable):
            await client.request("hs.test", "GET", "/")


async def test_discovery_is_within_the_time_allowed(settings: FederationSettings) -> None:
    async with SafeHttp(settings) as http:
        client = FederationClient(http, Places(after_seconds=5), now_ms=lambda: 0, timeout_ms=100)
        with pytest.raises(Unreachable, match="in time"):
            await client.request("hs.test", "GET", "/")
