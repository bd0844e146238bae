"""What the server tells others about its requests, in numbers and in the log: never whose they were."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import pytest
import structlog
from prometheus_client import REGISTRY
from sqlalchemy import text

from identity_server.runtime.logging import configure_logging
from identity_server.settings import LoggingSettings
from tests.world import IdentityServer, MakeServer

V2 = "/_matrix/identity/v2"
ALICE = "@alice:hs.test"
SETTINGS: dict[str, Any] = {"compatibility": {"query_token": "all"}}


class Log:
    """Everything that is logged by a server that is told to say as much as it can."""

    def __init__(self, rendering: Literal["json", "console"]) -> None:
        configure_logging(LoggingSettings(level="debug", format=rendering))
        # Or the loggers of the modules would stay as they are now, whatever later tests configure.
        structlog.configure(**{**structlog.get_config(), "cache_logger_on_first_use": False})
        self._written = io.StringIO()
        [self._handler] = logging.getLogger().handlers
        assert isinstance(self._handler, logging.StreamHandler)
        self._handler.setStream(self._written)

    def close(self) -> None:
        logging.getLogger().removeHandler(self._handler)

    def __str__(self) -> str:
        return self._written.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in str(self).splitlines()]


@pytest.fixture(params=["json", "console"])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    root, package = logging.getLogger(), logging.getLogger("identity_server")
    levels, configuration = (root.level, package.level), structlog.get_config()
    log = Log(request.param)
    yield log
    log.close()
    root.level, package.level = levels
    structlog.configure(**configuration)


@pytest.fixture
def engine() -> str:
    return "sqlite"


def counted() -> dict[tuple[str, str, str], float]:
    """How many requests, by method, route and status."""
    [family] = [family for family in REGISTRY.collect() if family.name == "identity_server_requests"]
    return {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }


async def test_requests_are_counted_by_the_template_of_their_route(server: IdentityServer) -> None:
    before = counted()
    client = server.client
    await client.get(f"{V2}/pubkey/ed25519:0")
    await client.get(f"{V2}/pubkey/ed25519:no_such_key")
    await client.get(f"{V2}/validate/email/submitToken", params={"token": "secret-token"})
    await client.get(f"{V2}/alice@example.org")
    await client.delete(f"{V2}/pubkey/alice@example.org")
    await client.request("BREW", f"{V2}/terms")
    await client.options(f"{V2}/alice@example.org")
    await client.post(f"{V2}/account/register", content=b"x" * (1024 * 1024 + 1))
    new = {key: value - before.get(key, 0) for key, value in counted().items() if value != before.get(key, 0)}
    assert new == {
        ("GET", f"{V2}/pubkey/{{key_id}}", "200"): 1,
        ("GET", f"{V2}/pubkey/{{key_id}}", "404"): 1,
        ("GET", f"{V2}/validate/{{medium}}/submitToken", "400"): 1,
        ("-", "unrouted", "404"): 1,
        ("-", f"{V2}/pubkey/{{key_id}}", "405"): 1,
        ("-", f"{V2}/terms", "405"): 1,
        ("-", "unrouted", "200"): 1,
        ("-", "unrouted", "413"): 1,
    }


async def whole_flow(server: IdentityServer) -> list[str]:
    """Everything that a user does, and everything that goes wrong; the words that nobody else may read."""
    client = server.client
    alice = await server.bound(ALICE, "secret.alice@example.org", "client-secret-of-alice")
    token = alice["Authorization"].removeprefix("Bearer ")
    await server.told()
    phone = {
        "country": "GB",
        "phone_number": "07700900123",
        "client_secret": "client-secret-of-alice",
        "send_attempt": 1,
    }
    sid = (await client.post(f"{V2}/validate/msisdn/requestToken", json=phone, headers=alice)).json()["sid"]
    session = {"sid": sid, "client_secret": phone["client_secret"]}
    wrong = {**session, "token": "wrong-token"}
    await client.post(f"{V2}/validate/msisdn/submitToken", json=wrong, headers=alice)
    await client.get(f"{V2}/validate/msisdn/submitToken", params=wrong)
    await client.get(f"{V2}/3pid/getValidated3pid", params={**session, "access_token": token})
    invite = {
        "medium": "email",
        "address": "secret.bob@example.org",
        "room_id": "!secret-room:hs.test",
        "sender": ALICE,
    }
    await client.post(f"{V2}/store-invite", json=invite, headers=alice)
    await server.found(alice, "secret.alice@example.org", "secret.bob@example.org")
    server.outlet.failing = True
    mail = {"email": "secret.alice@example.org", "client_secret": "client-secret-of-alice", "send_attempt": 2}
    await client.post(f"{V2}/validate/email/requestToken", json=mail, headers=alice)
    await client.post(f"{V2}/account/register", json={"access_token": "secret-openid", "matrix_server_name": "hs.test"})
    await client.post(f"{V2}/3pid/bind", json={**session, "mxid": "secret.alice@example.org"}, headers=alice)
    await client.post(f"{V2}/lookup", content=b"{secret.alice@example.org", headers=alice)
    await client.get(f"{V2}/secret.alice@example.org", params={"access_token": token})
    await _break(server)
    assert (await client.post(f"{V2}/validate/msisdn/submitToken", json=wrong, headers=alice)).status_code == 500
    assert (await client.post(f"{V2}/store-invite", json=invite, headers=alice)).status_code == 500
    assert (await client.post(f"{V2}/validate/email/requestToken", json=mail, headers=alice)).status_code == 500
    sent = [word for message in server.outlet.sent for word in _secrets_in(message.context)]
    lookups = [f"{name}@example.org" for name in ("secret.alice", "secret.bob")]
    return [token, sid, *sent, *lookups, "secret", "wrong-token", "447700900123", "07700900123", "access_token="]


def _secrets_in(context: Any) -> list[str]:
    """The token, and what stands in a link's query."""
    query = [value for _, value in parse_qsl(urlsplit(context.get("link", "")).query)]
    return [value for value in (context.get("token"), *query) if value and value not in ("email", "msisdn")]


async def _break(server: IdentityServer) -> None:
    """Errors of the database, which may quote what was to be stored."""
    async with server.database.transaction() as session:
        for statement in (
            "DROP TABLE validation_tokens",
            "CREATE TRIGGER refuse BEFORE INSERT ON invites BEGIN SELECT raise(ABORT, 'secret.bob@example.org'); END",
        ):
            await session.execute(text(statement))


async def test_no_address_no_token_and_no_query_is_ever_logged(make_server: MakeServer, log: Log) -> None:
    async with make_server(**SETTINGS) as server:
        secrets = await whole_flow(server)
    logged = str(log)
    assert f"{V2}/validate/{{medium}}/submitToken" in logged
    assert len(logged.splitlines()) > 15
    for secret in secrets:
        assert secret not in logged, _around(secret, logged)


def _around(secret: str, logged: str) -> str:
    found = re.search(f".{{0,200}}{re.escape(secret)}.{{0,50}}", logged)
    return found[0] if found else ""


@pytest.mark.parametrize("log", ["json"], indirect=True)
async def test_what_goes_wrong_is_logged_with_its_kind_and_place(make_server: MakeServer, log: Log) -> None:
    async with make_server(**SETTINGS) as server:
        await whole_flow(server)
    unforeseen = [line for line in log.lines if line["event"] == "unforeseen"]
    assert len(unforeseen) == 3
    for line in unforeseen:
        assert line["route"].startswith(V2)
        assert line["level"] == "error"
        assert "sqlite3.OperationalError" in line["exception"] or "sqlite3.IntegrityError" in line["exception"]
        assert "identity_server/identity/" in line["exception"]
