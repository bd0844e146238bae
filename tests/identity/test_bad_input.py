"""Hostile requests to every endpoint: each is answered with an error in the specification's form, and changes nothing.

The endpoints, their fields and what these may hold are read from the application's own OpenAPI, so that none is
forgotten.
"""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from sqlalchemy import select
from structlog.testing import capture_logs

from identity_server.identity.access.store import add_token
from identity_server.identity.application import identity_application
from identity_server.identity.delivery.outlet import RecordingOutlet
from identity_server.identity.tables import Table
from identity_server.runtime.database import Database
from identity_server.runtime.tokens import token_hash
from identity_server.settings import Settings
from tests.world import Homeservers, IdentityServer, MakeServer

V2 = "/_matrix/identity/v2"
ALICE = "@alice:hs.test"
PATIENCE_SECONDS = 20  # of a busy machine; a hang would be for ever

# What a well-meaning request says: as query and path parameters, as fields.
WELL_MEANT: dict[str, Any] = {
    "access_token": f"openid:{ALICE}",
    "address": "alice@example.org",
    "addresses": ["4kenr7N9drpCJ4AfalmlGQVsOn3o2RHjkADUpXJWZUc"],
    "algorithm": "sha256",
    "client_secret": "secret",
    "country": "GB",
    "email": "carol@example.org",
    "key_id": "ed25519:0",
    "language": "en",
    "matrix_server_name": "hs.test",
    "medium": "email",
    "mxid": ALICE,
    "next_link": "https://is.test/done",
    "pepper": "matrixrocks",
    "phone_number": "07700900001",
    "private_key": "A" * 43,
    "public_key": "A" * 43,
    "room_alias": "#room:hs.test",
    "room_avatar_url": "mxc://hs.test/avatar",
    "room_id": "!room:hs.test",
    "room_name": "Room",
    "room_type": "m.space",
    "send_attempt": 1,
    "sender": ALICE,
    "sender_display_name": "Alice",
    "sid": "sid",
    "threepid": {"medium": "email", "address": "alice@example.org"},
    "threepids": [["email", "alice@example.org"]],
    "token": "token",
    "user_accepts": ["https://is.test/terms"],
}
# Nothing is compared by these: what is not known to us is found nowhere.
MATCH_NOTHING = {"addresses", "user_accepts", "public_key", "key_id", "threepids"}

NESTED = 100_000
NO_OBJECTS = {
    "nothing": b"",
    "a blank": b" ",
    "null": b"null",
    "an array": b"[]",
    "an array of objects": b"[{}]",
    "a number": b"1",
    "a string": b'"{}"',
    "true": b"true",
    "half an object": b'{"sid":',
    "two objects": b"{}{}",
    "Python": b"{'sid': 'a'}",
    "no number": b'{"sid": NaN}',
    "a trailing comma": b'{"sid": "a",}',
    "a number without end": b'{"send_attempt": 1' + b"0" * 5000 + b"e}",
    "invalid UTF-8": b'{"sid": "\xff\xfe"}',
    "UTF-16": '{"sid": "a"}'.encode("utf-16"),
    "an overlong NUL": b'{"sid": "\xc0\x80"}',
    "an encoded surrogate": b'{"sid": "\xed\xa0\x80"}',
    "a lone surrogate": b'{"sid": "\\ud800"}',
    "surrogates in the wrong order": b'{"sid": "\\udc00\\ud800"}',
    "a raw NUL": b'{"sid": "\0"}',
    "a raw NUL alone": b"\0",
    "deep arrays": b"[" * NESTED + b"]" * NESTED,
    "deep arrays that never close": b"[" * NESTED,
    "deep objects": b'{"a":' * NESTED + b"1" + b"}" * NESTED,
    "a deep unknown field": b'{"a":' + b"[" * NESTED + b"]" * NESTED + b"}",
    "something compressed": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00C\xbf\xa6\xa3\x02\x00\x00\x00",
}
WRONG: tuple[Any, ...] = (None, True, 0, -1, 1.5, 2**53, 2**64, 10**400, 1e300, "", "x", [], [None], [[]], {}, {"a": 1})
TYPES = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    parameters: dict[str, str]  # name: where
    fields: dict[str, Any] | None  # name: schema; None: takes no JSON
    required: frozenset[str]
    by_token: bool

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    def ask(
        self, body: Any = None, content: bytes | None = None, changed: dict[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        """The arguments of a request, well-meant but for what is given."""
        values = WELL_MEANT | (changed or {})
        path = self.path
        for name in (name for name, where in self.parameters.items() if where == "path"):
            path = path.replace(f"{{{name}}}", values[name])
        query = {name: values[name] for name, where in self.parameters.items() if where == "query" and name in values}
        if content is None and self.fields is not None:
            content = json.dumps(self.well_meant if body is None else body).encode()
        return {"method": self.method, "url": path, "params": query, "content": content, **options}

    @property
    def well_meant(self) -> dict[str, Any]:
        return {name: WELL_MEANT[name] for name in self.fields or {}}


def operations(openapi: dict[str, Any]) -> list[Operation]:
    def resolved(schema: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in schema:
            found: dict[str, Any] = openapi["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            return found
        return schema

    found = []
    for path, methods in openapi["paths"].items():
        for method, described in methods.items():
            content = described.get("requestBody", {}).get("content", {})
            schema = resolved(content["application/json"]["schema"]) if "application/json" in content else None
            found.append(
                Operation(
                    method.upper(),
                    path,
                    {parameter["name"]: parameter["in"] for parameter in described.get("parameters", [])},
                    {name: resolved(field) for name, field in schema["properties"].items()} if schema else None,
                    frozenset(schema.get("required", ())) if schema else frozenset(),
                    by_token=path.startswith(V2),
                )
            )
    return found


def allows(schema: dict[str, Any], value: Any) -> bool:
    """Whether a value of this type may stand here; of which form, the endpoint knows better."""
    options = schema.get("anyOf", [schema])
    kinds = {TYPES[type(value)]} | ({"number"} if type(value) is int else set())
    return any(option.get("type") in kinds for option in options)


class Attacked:
    """A server that knows Alice, whose address is bound, and what was in its database before."""

    def __init__(self, world: IdentityServer, alice: dict[str, str], operations: list[Operation]) -> None:
        self.world = world
        self.alice = alice
        self.operations = operations
        self.before: dict[str, Any] = {}

    async def send(self, **request: Any) -> httpx.Response:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.world.client.request(**{"headers": self.alice, **request})

    async def refuses(self, what: str, **request: Any) -> httpx.Response:
        answer = await self.send(**request)
        assert 400 <= answer.status_code < 500, f"{what}: {answer.status_code} {answer.text[:200]}"
        is_error(answer, what)
        return answer

    async def survives(self, what: str, **request: Any) -> None:
        """Either it is refused, or it asked for nothing that changes anything."""
        answer = await self.send(**request)
        assert answer.status_code < 500, f"{what}: {answer.status_code} {answer.text[:200]}"
        if answer.status_code >= 400:
            is_error(answer, what)


def is_error(answer: httpx.Response, what: str) -> None:
    """The specification's form; a page for those who come from a link."""
    assert answer.headers["access-control-allow-origin"] == "*", what
    if answer.headers["content-type"].startswith("text/html"):
        assert "submitToken" in what or "confirm" in what, what
        return
    assert answer.headers["content-type"] == "application/json", what
    body = answer.json()
    assert body["errcode"].startswith("M_"), what
    assert body["error"], what


async def contents(database: Database) -> dict[str, list[Any]]:
    """Every row of every table, but for who has taken which background work."""
    async with database.reading() as session:
        return {
            table.name: sorted(map(repr, await session.execute(select(table))))
            for table in Table.metadata.sorted_tables
            if table.name != "leases"
        }


@pytest.fixture
async def attacked(make_server: MakeServer) -> AsyncIterator[Attacked]:
    async with make_server(compatibility={"v1_api": "all", "query_token": "all"}) as world:
        alice = await world.bound(ALICE)
        await world.told()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await contents(world.database))["tasks"]:
                await asyncio.sleep(0.02)
        server = Attacked(world, alice, operations((await world.client.get("/openapi.json")).json()))
        before, sent = await contents(world.database), len(world.outlet.sent)
        yield server
        assert await contents(world.database) == before
        assert len(world.outlet.sent) == sent


def with_body(attacked: Attacked) -> list[Operation]:
    found = [operation for operation in attacked.operations if operation.fields is not None]
    assert len(found) > 15
    return found


async def test_what_is_no_json_object_is_refused(attacked: Attacked) -> None:
    for operation in with_body(attacked):
        for what, content in NO_OBJECTS.items():
            answer = await attacked.refuses(f"{operation.name}: {what}", **operation.ask(content=content))
            assert answer.json()["errcode"] in ("M_NOT_JSON", "M_BAD_JSON")


async def test_a_field_that_is_missing_or_of_the_wrong_type_is_refused(attacked: Attacked) -> None:
    for operation in with_body(attacked):
        assert operation.fields is not None
        for name, schema in operation.fields.items():
            without = {other: value for other, value in operation.well_meant.items() if other != name}
            if name in operation.required:
                answer = await attacked.refuses(f"{operation.name} without {name}", **operation.ask(without))
                assert answer.json()["errcode"] == "M_MISSING_PARAMS"
            for value in WRONG:
                is_as_good_as_missing = value is None and name not in operation.required
                if not allows(schema, value) and not is_as_good_as_missing:
                    what = f"{operation.name}, {name}: {str(value)[:20]!r}"
                    answer = await attacked.refuses(what, **operation.ask({**without, name: value}))
                    # Nested objects may lack something, too; and no number that we read is as large as some of these.
                    assert answer.json()["errcode"] in ("M_INVALID_PARAM", "M_MISSING_PARAMS", "M_NOT_JSON")


STRINGS = {
    "a NUL": "a\0b",
    "a NUL only": "\0",
    "long": "a" * 100_000,
    "a long word of others": "\N{PILE OF POO}" * 10_000,
    "control characters": "a\r\nBcc: b@c.d\x1b\x7f",
    "no characters": "\uffff\ufffe\u202e\ufeff",
    "SQL": "'; DROP TABLE invites; --",
}


async def test_no_string_upsets_the_server(attacked: Attacked) -> None:
    for operation in with_body(attacked):
        assert operation.fields is not None
        for name, schema in operation.fields.items():
            for kind, value in STRINGS.items():
                what = f"{operation.name}, {name}: {kind}"
                for nested in nested_in(WELL_MEANT[name], schema, value):
                    request = operation.ask({**operation.well_meant, **UNKNOWN, name: nested})
                    is_allowed = "NUL" not in kind or name in MATCH_NOTHING
                    await (attacked.survives if is_allowed else attacked.refuses)(what, **request)


# What lets a well-meant request end in nothing, so that only what is tested could change anything.
UNKNOWN = {
    "access_token": "unknown",
    "email": "nobody",
    "pepper": "unknown",
    "phone_number": "1",
    "sender": "@bob:hs.test",
    "sid": "unknown",
}


def nested_in(well_meant: Any, schema: dict[str, Any], value: str) -> list[Any]:
    """``value`` in place of each string that stands in ``well_meant``."""
    match well_meant:
        case dict():
            return [{**well_meant, name: value} for name in well_meant]
        case list():
            return [[nested] for nested in nested_in(well_meant[0], schema, value)]
        case _:
            return [value]


async def test_numbers_and_keys_are_taken_as_json_means_them(attacked: Attacked) -> None:
    for operation in with_body(attacked):
        many = {f"unknown {number}": number for number in range(10_000)}
        await attacked.refuses(f"{operation.name}: unknown fields only", **operation.ask(many))
        await attacked.survives(
            f"{operation.name}: unknown fields", **operation.ask(operation.well_meant | UNKNOWN | many)
        )
    [operation] = [
        operation for operation in attacked.operations if operation.path == f"{V2}/validate/email/requestToken"
    ]
    for number in ("1e400", "-1e400", "1.0", "1e2", "9" * 400, str(2**53), "-0.5", "01", "0x1", "Infinity"):
        content = f'{{"email": "a@b.c", "client_secret": "s", "send_attempt": {number}}}'.encode()
        await attacked.refuses(f"send_attempt: {number}", **operation.ask(content=content))
    twice = b'{"email": "a@b.c", "client_secret": "s", "send_attempt": 1, "send_attempt": "x"}'
    await attacked.refuses("a key twice", **operation.ask(content=twice))


async def test_no_parameter_upsets_the_server(attacked: Attacked) -> None:
    kinds = {**STRINGS, "nothing": "", "a percent sign": "%", "encoded": "%zz%ff%00"}
    for operation in attacked.operations:
        for name, where in operation.parameters.items():
            for kind, value in kinds.items():
                if where == "path":
                    value = quote(value[:1000] or " ", safe="")
                what = f"{operation.name}, {name}: {kind}"
                request = operation.ask(changed={**UNKNOWN, name: value[:5000]})
                is_page = operation.method == "GET" and operation.path.endswith("/submitToken") and where == "query"
                is_allowed = "NUL" not in kind or name in MATCH_NOTHING or is_page
                await (attacked.survives if is_allowed else attacked.refuses)(what, **request)


async def test_a_body_that_is_too_large_is_refused_whether_or_not_it_says_so(attacked: Attacked) -> None:
    size = attacked.world.settings.server.max_body_bytes + 1

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 65_536):
            yield b" " * min(65_536, size - start)

    for operation in attacked.operations:
        answer = await attacked.refuses(f"{operation.name}: large", **operation.ask(content=b" " * size))
        assert (answer.status_code, answer.json()["errcode"]) == (413, "M_TOO_LARGE")
        if operation.fields is not None or "confirm" in operation.path:
            request = operation.ask(content=b"") | {"content": in_pieces()}
            answer = await attacked.refuses(f"{operation.name}: large, in pieces", **request)
            assert (answer.status_code, answer.json()["errcode"]) == (413, "M_TOO_LARGE")


async def test_no_form_and_no_content_type_upsets_the_server(attacked: Attacked) -> None:
    kinds = (
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=utf-16",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "application/json; charset=klingon",
        "text/xml",
        "\xff",
        "a" * 100_000,
    )
    forms = (b"", b"sid", b"sid=%zz&client_secret=%00", b"sid=%ff", b"\xff=\xfe", b"&" * 1000, b"a=b&" * 1000)
    forms += (b"sid=%00&client_secret=%00&token=%00&email=%00&send_attempt=1&mxid=%00", b"--x\r\n\r\n\r\n--x--")
    takes_forms = [o for o in attacked.operations if o.fields is not None or "confirm" in o.path]
    for operation in takes_forms:
        for kind in kinds:
            headers = {**attacked.alice, "Content-Type": kind.encode("latin-1")}
            for form in forms:
                what = f"{operation.name}: {kind[:40]!r} {form[:20]!r}"
                await attacked.refuses(what, **operation.ask(content=form), headers=headers)


async def test_no_header_upsets_the_server(attacked: Attacked) -> None:
    values = (
        "",
        " ",
        "\xff",
        "\0",
        "a" * 100_000,
        "Bearer",
        "Bearer ",
        "Bearer \xff",
        "Bearer \0",
        "Bearer " + "a" * 100_000,
    )
    values += ("X-Matrix", "X-Matrix ,,,", 'X-Matrix origin="', "X-Matrix " + "a=" * 50_000, "Basic =", "Digest a")
    values += ('X-Matrix origin="hs.test\0",destination="is.test",key="ed25519:\0",sig="\0"',)
    for operation in attacked.operations:
        if operation.by_token and operation.path != f"{V2}/account/logout":
            for value in values:
                headers = {"Authorization": value.encode("latin-1"), "Accept-Language": value.encode("latin-1")}
                request = operation.ask(operation.well_meant | UNKNOWN, changed=UNKNOWN)
                await attacked.survives(f"{operation.name}: {value[:30]!r}", **request, headers=headers)


# Over real sockets, for what a client library would not send


@contextmanager
def listening(tmp_path: Path) -> Iterator[str]:
    """An identity server in a thread, which knows the token "known"; its URL."""
    settings = Settings(
        server={
            "name": "is.test",
            "public_base_url": "https://is.test",
            "data_dir": tmp_path,
            "max_body_bytes": 100_000,
        },
        rate_limits={"enabled": False},
        compatibility={"v1_api": "all"},
    )
    app = identity_application(settings, outlet=RecordingOutlet(), homeservers=Homeservers())
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, http="httptools", ws="none", timeout_graceful_shutdown=1)
    )
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(transport=httpx.HTTPTransport(retries=3)) as client:
            assert client.get(f"{url}{V2}", timeout=PATIENCE_SECONDS).status_code == 200
        asyncio.run(_let_in(settings))
        yield url
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
        listener.close()


async def _let_in(settings: Settings) -> None:
    database = Database(settings.database_url)
    async with database.transaction() as session:
        await add_token(session, token_hash("known"), ALICE, now_ms=0, expires_ts=None)
    await database.close()


def exchange(url: str, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to raw bytes."""
    address = httpx.URL(url)
    assert address.port is not None
    with socket.create_connection((address.host, address.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


def test_no_path_and_no_query_upsets_the_server(tmp_path: Path) -> None:
    token = b"Authorization: Bearer known\r\nHost: is.test\r\nConnection: close\r\n\r\n"
    prefix = b"/_matrix/identity/v2"
    paths = [
        b"/pubkey/" + tail
        for tail in (b"%00", b"%ff", b"%zz", b"%", b"%c0%80", b"a" * 10_000, b"..%2f..%2f", b"ed25519%3A9")
    ]
    paths += [b"/validate/" + medium + b"/submitToken" for medium in (b"%00", b"EMAIL", b"%ff", b"pigeon")]
    paths += [b"//", b"/..", b"/%2e%2e/", b"/%00", b"/terms;a=b", b"/hash_details%00", b"/hash%ffdetails"]
    paths += [
        b"/3pid/getValidated3pid?" + query
        for query in (
            b"",
            b"sid",
            b"sid=%zz&client_secret=%zz",
            b"sid=%00&client_secret=%00",
            b"sid=%ff&client_secret=%ff",
        )
    ]
    paths += [
        b"/3pid/getValidated3pid?sid=" + b"a" * 30_000 + b"&client_secret=a",
        b"/3pid/getValidated3pid?" + b"&" * 30_000,
    ]
    with listening(tmp_path) as url:
        for path in paths:
            status, body = exchange(url, b"GET " + prefix + path + b" HTTP/1.1\r\n" + token)
            assert status in (400, 404, 405), (path, status)
            assert set(json.loads(body)) >= {"errcode", "error"}, path


def test_a_body_is_cut_off_while_it_still_arrives(tmp_path: Path) -> None:
    head = b"POST /_matrix/identity/v2/account/register HTTP/1.1\r\nHost: is.test\r\nConnection: close\r\n"
    piece = b"%x\r\n%b\r\n" % (60_000, b" " * 60_000)
    with listening(tmp_path) as url:
        status, body = exchange(url, head + b"Content-Length: 999999999999\r\n\r\n")
        assert (status, json.loads(body)["errcode"]) == (413, "M_TOO_LARGE")
        # It never ends, and is answered all the same.
        status, body = exchange(url, head + b"Transfer-Encoding: chunked\r\n\r\n" + piece * 2)
        assert (status, json.loads(body)["errcode"]) == (413, "M_TOO_LARGE")
        for broken in (
            b"Content-Length: -1\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"Content-Length: a\r\n\r\n",
        ):
            assert exchange(url, head + broken)[0] == 400


def test_whoever_hangs_up_in_the_middle_is_no_failure_of_ours(tmp_path: Path) -> None:
    head = b"POST /_matrix/identity/v2/account/register HTTP/1.1\r\nHost: is.test\r\nContent-Length: 9\r\n\r\n"
    with capture_logs() as logged, listening(tmp_path) as url:
        address = httpx.URL(url)
        with socket.create_connection((address.host, address.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(head + b"{")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (answers := [line for line in logged if str(line.get("route")).endswith("/register")]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert [(line["log_level"], line["event"]) for line in answers] == [("debug", "request")]


def test_nothing_that_the_description_of_the_api_allows_upsets_the_server(tmp_path: Path) -> None:
    with listening(tmp_path) as url:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        for result in schema.get_all_operations():
            operation = result.ok()
            if operation.path.endswith("/logout"):
                continue  # or nobody would be let in any more

            @hypothesis_settings(
                max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
            )
            @given(case=operation.as_strategy())
            def holds(case: Any) -> None:
                answer = case.call(headers={"Authorization": "Bearer known"}, timeout=PATIENCE_SECONDS)
                assert answer.status_code < 500, answer.text
                if answer.status_code >= 400 and "html" not in answer.headers["content-type"][0]:
                    assert set(answer.json()) >= {"errcode", "error"}

            holds()
