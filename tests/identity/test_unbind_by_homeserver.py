"""Unbinding at the word of the user's homeserver: requests signed as homeservers sign them (with signedjson, not with
our own code), keys fetched from a real TLS port."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import signedjson.key
import signedjson.sign
import trustme
import uvicorn
from httpx import Response
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.responses import Response as Answer
from starlette.routing import Route

from tests.world import IdentityServer, MakeServer

UNBIND = "/_matrix/identity/v2/3pid/unbind"
ADDRESS = "alice@example.org"
THREEPID = {"medium": "email", "address": ADDRESS}
NAMES = ["is.test", "id.is.test:8443", "other-name.test", "other-name.test:443"]


def new_key(version: str = "a_1", seed: str = "A") -> Any:
    return signedjson.key.decode_signing_key_base64("ed25519", version, seed * 43)


@dataclass
class Homeserver:
    """One that publishes its keys, unless a test has it answer otherwise."""

    clock_ms: Callable[[], int]
    name: str = ""
    keys: list[Any] = field(default_factory=lambda: [new_key()])
    asked: int = 0
    answer: Callable[[], Awaitable[Answer]] | None = None

    @property
    def alice(self) -> str:
        return f"@alice:{self.name}"

    def published(self, **changed: Any) -> dict[str, Any]:
        keys: dict[str, Any] = {
            "server_name": self.name,
            "verify_keys": {
                f"ed25519:{key.version}": {"key": signedjson.key.encode_verify_key_base64(key.verify_key)}
                for key in self.keys
            },
            "old_verify_keys": {},
            "valid_until_ts": self.clock_ms() + 86_400_000,
            **changed,
        }
        for key in self.keys:
            keys = signedjson.sign.sign_json(keys, self.name, key)
        return keys

    async def show_keys(self, _request: Request) -> Answer:
        self.asked += 1
        return await self.answer() if self.answer else JSONResponse(self.published())

    def unbinding(self, user_id: str | None = None) -> dict[str, Any]:
        return {"mxid": user_id or self.alice, "threepid": THREEPID}

    def header(
        self,
        content: Any,
        destination: str = "is.test",
        *,
        named: str = "destination_is",
        form: str = 'X-Matrix origin="{origin}",key="{key}",sig="{sig}",destination="{destination}"',
        uri: str = UNBIND,
        method: str = "POST",
        origin: str | None = None,
        key: Any = None,
    ) -> str:
        """The ``Authorization`` header as Synapse writes it."""
        key, origin = key or self.keys[0], origin or self.name
        request = {"method": method, "uri": uri, "origin": origin, named: destination, "content": content}
        signatures = signedjson.sign.sign_json(request, origin, key)["signatures"][origin]
        ((key_id, signature),) = signatures.items()
        return form.format(origin=origin, key=key_id, sig=signature, destination=destination)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def serving_tls(homeserver: Homeserver, authority: trustme.CA) -> AsyncIterator[None]:
    app = Starlette(routes=[Route("/_matrix/key/v2/server", homeserver.show_keys)])
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    config.load()
    config.ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(config.ssl)
    listener = socket.create_server(("127.0.0.1", 0))
    homeserver.name = f"localhost:{listener.getsockname()[1]}"
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve([listener]))
    yield
    server.should_exit = True
    await running


@pytest.fixture
def federation(authority: trustme.CA, tmp_path: Path) -> dict[str, Any]:
    """Settings with which the homeserver is reached and believed."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return {"ca_file": tmp_path / "ca.pem", "allowed_private_networks": ["127.0.0.0/8", "::1/128"], "timeout": "5s"}


@dataclass
class World:
    server: IdentityServer
    homeserver: Homeserver
    alice: dict[str, str]
    """The headers of the homeserver's user to whom the address is bound."""

    async def unbind(self, header: str, content: Any, uri: str = UNBIND) -> Response:
        return await self.server.client.post(uri, json=content, headers={"Authorization": header})

    async def bound(self) -> bool:
        return await self.server.found(self.alice, ADDRESS) != {}

    async def refuses(self, header: str, content: Any) -> bool:
        answer = await self.unbind(header, content)
        return (answer.status_code, answer.json()["errcode"]) == (403, "M_FORBIDDEN") and await self.bound()


@asynccontextmanager
async def open_world(
    make_server: MakeServer, authority: trustme.CA, federation: dict[str, Any], data_dir: Path
) -> AsyncIterator[World]:
    own = {
        "name": "is.test",
        "public_base_url": "https://id.is.test:8443",
        "aliases": NAMES[2:],
        "data_dir": data_dir,
    }
    homeserver = Homeserver(lambda: 0)
    # The homeserver around the identity server, so that it is left before it has to close.
    async with serving_tls(homeserver, authority), make_server(server=own, federation=federation) as server:
        homeserver.clock_ms = server.clock.now_ms
        yield World(server, homeserver, await server.bound(homeserver.alice, ADDRESS))


@pytest.fixture
async def world(
    make_server: MakeServer, authority: trustme.CA, federation: dict[str, Any], tmp_path: Path
) -> AsyncIterator[World]:
    async with open_world(make_server, authority, federation, tmp_path) as world:
        yield world


# What is believed


@pytest.mark.parametrize("named", ["destination_is", "destination"])
@pytest.mark.parametrize("destination", NAMES)
async def test_the_users_homeserver_unbinds_by_whichever_of_our_names_it_knows(
    world: World, named: str, destination: str
) -> None:
    content = world.homeserver.unbinding()
    answer = await world.unbind(world.homeserver.header(content, destination, named=named), content)
    assert (answer.status_code, answer.json()) == (200, {})
    assert not await world.bound()


@pytest.mark.parametrize(
    "form",
    [
        'X-Matrix origin="{origin}", key="{key}", sig="{sig}", destination="{destination}"',
        'x-matrix destination="{destination}" ,\tsig="{sig}", key="{key}",origin="{origin}"',
        'X-Matrix origin={origin},key={key},sig="{sig}",destination={destination}',
        'X-Matrix origin="{origin}",key="{key}",sig="{sig}"',
        'X-Matrix Origin="{origin}",KEY="{key}",signature="{sig}",destination="{destination}",new="x"',
    ],
)
async def test_the_header_is_read_however_it_is_written(world: World, form: str) -> None:
    content = world.homeserver.unbinding()
    answer = await world.unbind(world.homeserver.header(content, form=form), content)
    assert answer.status_code == 200, answer.text
    assert not await world.bound()


async def test_the_signature_covers_the_path_and_query_as_they_were_sent(world: World) -> None:
    content, uri = world.homeserver.unbinding(), f"{UNBIND}?a=%2Fb%20c&d"
    assert await world.refuses(world.homeserver.header(content, uri=uri), content)
    assert (await world.unbind(world.homeserver.header(content, uri=uri), content, uri)).status_code == 200


async def test_a_homeserver_is_asked_for_its_keys_once(world: World) -> None:
    for _ in range(3):
        content = world.homeserver.unbinding()
        assert (await world.unbind(world.homeserver.header(content), content)).status_code == 200
    assert world.homeserver.asked == 1


async def test_a_homeserver_may_change_its_key(world: World) -> None:
    content = world.homeserver.unbinding()
    world.homeserver.keys = [new_key("a_2", "B")]
    asks_for_keys = world.homeserver.header({}, key=new_key())
    assert await world.refuses(asks_for_keys, content)  # its keys are known from here on
    world.homeserver.keys = [new_key("a_3", "C")]
    assert await world.refuses(world.homeserver.header(content), content)  # and are not asked for at every call
    world.server.clock.advance(seconds=60)
    assert (await world.unbind(world.homeserver.header(content), content)).status_code == 200
    assert world.homeserver.asked == 2


async def test_what_belongs_to_somebody_else_stays(world: World) -> None:
    content = world.homeserver.unbinding(f"@carol:{world.homeserver.name}")
    assert (await world.unbind(world.homeserver.header(content), content)).status_code == 200
    assert await world.bound()


# What is not


WRONG: list[dict[str, Any]] = [
    {"key": new_key("a_1", "B")},
    {"uri": "/_matrix/identity/v2/3pid/bind"},
    {"method": "PUT"},
    {"named": "recipient"},
    {"form": 'X-Matrix origin="{origin}",key="{key}",sig="AAAA",destination="{destination}"'},
    {"form": 'X-Matrix origin="{origin}",key="{key}",sig="",destination="{destination}"'},
    {"form": 'X-Matrix origin="{origin}",key="ed25519:other",sig="{sig}",destination="{destination}"'},
    {"form": 'X-Matrix origin="{origin}",key="rsa:a_1",sig="{sig}",destination="{destination}"'},
    {"form": 'X-Matrix origin="{origin}",key="{key}",sig="{sig}",destination="other-name.test"'},
    {"form": 'X-Matrix key="{key}",sig="{sig}",destination="{destination}"'},
    {"form": 'X-Matrix origin="{origin}",origin="evil.test",key="{key}",sig="{sig}"'},
    {"form": 'X-Matrix origin="not a name",key="{key}",sig="{sig}",destination="{destination}"'},
    {"form": "X-Matrix"},
    {"form": "X-Matrix ,,,"},
]


async def test_a_wrong_signature_or_header_is_refused(world: World) -> None:
    content = world.homeserver.unbinding()
    for changed in WRONG:
        assert await world.refuses(world.homeserver.header(content, **changed), content), changed


async def test_a_signature_over_another_content_is_refused(world: World) -> None:
    signed = {**world.homeserver.unbinding(), "threepid": {**THREEPID, "address": "carol@example.org"}}
    assert await world.refuses(world.homeserver.header(signed), world.homeserver.unbinding())


async def test_another_homeserver_than_the_users_is_refused(world: World) -> None:
    name, port = world.homeserver.name, world.homeserver.name.partition(":")[2]
    for domain in ("hs.test", "localhost", f"x.{name}", f"LOCALHOST:{port}"):
        content = world.homeserver.unbinding(f"@alice:{domain}")
        assert await world.refuses(world.homeserver.header(content), content), domain


@pytest.mark.parametrize("named", ["destination_is", "destination"])
async def test_what_was_meant_for_another_server_is_refused(world: World, named: str) -> None:
    content = world.homeserver.unbinding()
    for destination in ("evil.test", "IS.TEST", "is.test:443", "id.is.test"):
        assert await world.refuses(world.homeserver.header(content, destination, named=named), content), destination
    assert world.homeserver.asked == 0


async def test_no_signature_makes_up_for_a_malformed_request(world: World) -> None:
    for content in ({"mxid": world.homeserver.alice}, {**world.homeserver.unbinding(), "mxid": 5}):
        answer = await world.unbind(world.homeserver.header(content), content)
        assert answer.status_code == 400
    assert await world.bound()


# Homeservers whose keys cannot be had


@pytest.mark.parametrize("published", ["error", "nonsense", "a list", "another server's", "unsigned", "expired"])
async def test_keys_that_prove_nothing_are_not_believed(world: World, published: str) -> None:
    homeserver = world.homeserver
    answers: dict[str, Answer] = {
        "error": JSONResponse(homeserver.published(), 500),
        "nonsense": PlainTextResponse("<html>"),
        "a list": JSONResponse([]),
        "another server's": JSONResponse(homeserver.published(server_name="evil.test")),
        "unsigned": JSONResponse({**homeserver.published(), "signatures": {}}),
        "expired": JSONResponse(homeserver.published(valid_until_ts=world.server.clock.now_ms() - 1)),
    }

    async def answer() -> Answer:
        return answers[published]

    homeserver.answer = answer
    content = homeserver.unbinding()
    assert await world.refuses(homeserver.header(content), content)
    assert homeserver.asked == 1


async def test_a_homeserver_that_does_not_answer_is_not_believed(world: World) -> None:
    content = world.homeserver.unbinding()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        origin = f"localhost:{closed.getsockname()[1]}"
    assert await world.refuses(world.homeserver.header(content, origin=origin), content)


@pytest.mark.parametrize("missing", ["ca_file", "allowed_private_networks"])
async def test_a_homeserver_that_may_not_be_reached_or_trusted_is_not_asked(
    make_server: MakeServer, authority: trustme.CA, federation: dict[str, Any], tmp_path: Path, missing: str
) -> None:
    del federation[missing]
    async with open_world(make_server, authority, federation, tmp_path) as world:
        content = world.homeserver.unbinding()
        assert await world.refuses(world.homeserver.header(content), content)
        assert world.homeserver.asked == 0


async def test_while_a_homeserver_takes_its_time_others_are_served(world: World) -> None:
    """No transaction is open while its keys are waited for: strangers name the server, and it may be a slow one."""
    asked, answered = asyncio.Event(), asyncio.Event()

    async def answer() -> Answer:
        asked.set()
        await answered.wait()
        return JSONResponse(world.homeserver.published())

    world.homeserver.answer = answer
    content = world.homeserver.unbinding()
    waiting = asyncio.create_task(world.unbind(world.homeserver.header(content), content))
    async with asyncio.timeout(4):
        await asked.wait()
        await world.server.bound("@bob:hs.test", "bob@example.org")
    assert not waiting.done()
    answered.set()
    assert (await waiting).status_code == 200
