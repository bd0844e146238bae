"""No request, and nothing that runs beside requests, reads a large table from end to end."""

import json
import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, text

from identity_server.identity.purge import purge
from identity_server.identity.tables import Table
from identity_server.identity.transfer.bulk import import_bindings
from identity_server.identity.transfer.lines import write_line
from tests.world import IdentityServer, MakeServer, hashed

V2 = "/_matrix/identity/v2"
REPLICATION = "/_matrix/identity/io.identity_server/replication"
ALICE, BOB = "@alice:hs.test", "@bob:hs.test"

# What grows with the number of users; the other tables have a row or a few.
LARGE = {
    "access_tokens",
    "association_log",
    "associations",
    "invites",
    "log_nodes",
    "lookup_0",
    "lookup_1",
    "peer_statements",
    "tasks",
    "terms_acceptances",
    "validation_sessions",
    "validation_tokens",
}


class Statements:
    """Everything that the engine is asked, with the parameters of the first time."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[Any, ...]] = {}

    def watch(self, server: IdentityServer) -> None:
        database = server.database
        for engine in {database.engine.sync_engine, database._reading.sync_engine}:
            event.listen(engine, "before_cursor_execute", self._executed)
        fast = database.fast.value

        async def value(statement: str, *parameters: Any, expensive: bool = False) -> Any:
            self.seen.setdefault(statement, parameters)
            return await fast(statement, *parameters, expensive=expensive)

        database.fast.value = value  # type: ignore[method-assign]  # overheard, and passed on

    def _executed(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", statement):
            self.seen.setdefault(statement, parameters[0] if isinstance(parameters, list) else tuple(parameters))


@pytest.fixture
async def server(make_server: MakeServer) -> AsyncIterator[IdentityServer]:
    async with make_server(
        lookup={"algorithms": ["sha256", "none"]},
        sms={"routes": [{"url": "json://localhost"}]},
        terms={"policies": {}},
        accounts={"token_lifetime": 86_400_000},
    ) as opened:
        yield opened


async def everything(server: IdentityServer) -> None:
    """Every request that reads or writes the database, and the work beside them."""
    alice, bob, client = await server.account(ALICE), await server.account(BOB), server.client

    async def ask(method: str, path: str, expected: int = 200, headers: Any = alice, **arguments: Any) -> Any:
        answer = await client.request(method, path, headers=headers, **arguments)
        assert answer.status_code == expected, (path, answer.text)
        return answer.json() if "json" in answer.headers["content-type"] else None

    wish = {"medium": "email", "address": "bob@example.org", "room_id": "!room:hs.test", "sender": ALICE}
    invitation = await ask("POST", f"{V2}/store-invite", json=wish)
    await ask(
        "GET", f"{V2}/pubkey/ephemeral/isvalid", params={"public_key": invitation["public_keys"][1]["public_key"]}
    )
    revoked = await ask("POST", f"{V2}/store-invite", json={**wish, "address": "nobody@example.org"})
    revocation = {"token": revoked["token"]}
    await ask("POST", "/_matrix/identity/io.identity_server/revoke-invite", json=revocation)
    signature = {"mxid": BOB, "token": invitation["token"], "private_key": "A" * 43}
    await client.post(f"{V2}/sign-ed25519", json=signature, headers=bob)
    phone = {"country": "GB", "phone_number": "07700900001", "client_secret": "phone", "send_attempt": 1}
    await ask("POST", f"{V2}/validate/msisdn/requestToken", json=phone)

    session = await server.proven(bob, "bob@example.org")
    again = {"email": "bob@example.org", "client_secret": "secret", "send_attempt": 2}
    await ask("POST", f"{V2}/validate/email/requestToken", json=again, headers=bob)
    await ask("POST", f"{V2}/validate/email/submitToken", 400, json={**session, "token": "wrong"})
    link = server.outlet.sent[-1].context["link"].removeprefix("https://is.test")
    await client.get(link)
    await ask("GET", f"{V2}/3pid/getValidated3pid", headers=bob, params=session)
    await ask("POST", f"{V2}/3pid/bind", headers=bob, json={**session, "mxid": BOB})
    other = await server.proven(alice, "Alice@example.org")
    await ask("POST", f"{V2}/3pid/bind", json={**other, "mxid": ALICE})
    await server.told()

    assert set(await server.found(alice, "bob@example.org", "alice@example.org")) == {
        "bob@example.org",
        "alice@example.org",
    }
    details = await ask("GET", f"{V2}/hash_details")
    many = [hashed(f"{number}@example.org", "email", details["lookup_pepper"]) for number in range(200)]
    for algorithm, addresses in (("sha256", many), ("none", ["alice@example.org email"])):
        body = {"algorithm": algorithm, "pepper": details["lookup_pepper"], "addresses": addresses}
        await ask("POST", f"{V2}/lookup", json=body)
    people = (write_line(("email", f"{number}@example.org", ALICE, None)) for number in range(600))
    await import_bindings(server.database, people, server_name="is.test", clock=server.clock, entropy=server.entropy)
    await ask("GET", f"{REPLICATION}/head")
    await ask("GET", f"{REPLICATION}/proof/inclusion", params={"position": 1, "tree_size": 600})
    await ask("GET", f"{REPLICATION}/proof/consistency", params={"first": 1, "second": 600})

    unbinding = {"mxid": BOB, "threepid": {"medium": "email", "address": "bob@example.org"}}
    await ask("POST", f"{V2}/3pid/unbind", headers=bob, json={**unbinding, **session})
    await ask("POST", f"{V2}/3pid/unbind", headers=bob, json=unbinding)
    await ask("GET", f"{V2}/account")
    await ask("POST", f"{V2}/account/logout")
    await server.state["tasks"].run_due()
    await purge(server.database, server.settings, server.clock.now_ms())


async def test_every_statement_finds_what_it_needs_by_an_index(server: IdentityServer, engine: str) -> None:
    statements = Statements()
    statements.watch(server)
    await everything(server)
    asked = " ".join(statements.seen)
    assert {table for table in LARGE if table not in asked} <= {"lookup_1", "terms_acceptances"}
    await fill(server)
    if engine == "sqlite":
        plans = sqlite_scans(server.database.url.database or "", statements.seen)
    else:
        dsn = server.database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        plans = await postgresql_scans(dsn, statements.seen)
    scans = {statement: found for statement, found in plans.items() if found}
    assert not scans, "\n".join(f"{', '.join(sorted(found))}: {statement}" for statement, found in scans.items())


async def test_a_scan_would_be_noticed(server: IdentityServer, engine: str) -> None:
    scanning = {
        "SELECT user_id FROM access_tokens WHERE created_ts > 5": (),
        "UPDATE associations SET ts = 5 WHERE user_id = 'x'": (),
        "SELECT hash FROM lookup_0 ORDER BY hash": (),
    }
    await fill(server)
    if engine == "sqlite":
        plans = sqlite_scans(server.database.url.database or "", scanning)
    else:
        dsn = server.database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        plans = await postgresql_scans(dsn, scanning)
    assert list(plans.values()) == [{"access_tokens"}, {"associations"}, {"lookup_0"}]


async def fill(server: IdentityServer) -> None:
    """So many rows in each large table that an index is worth its while, none of them over yet; and statistics."""
    values: dict[type, Callable[[int], Any]] = {
        int: lambda number: 1_800_000_000_000 + number,
        str: lambda number: f"text {number}",
        bytes: lambda number: number.to_bytes(32),
        bool: lambda _number: False,
    }
    async with server.database.transaction() as session:
        for name in sorted(LARGE):
            table = Table.metadata.tables[name]
            columns = {column.name: values[column.type.python_type] for column in table.columns}
            rows = [{name: value(number) for name, value in columns.items()} for number in range(2_000)]
            if name == "tasks":
                rows = [{**row, "attempts": 1} for row in rows]
            await session.execute(table.insert(), rows)
        await session.execute(text("ANALYZE"))


def sqlite_scans(file: str, statements: dict[str, tuple[Any, ...]]) -> dict[str, set[str]]:
    """Which large tables each of ``statements`` scans."""
    connection = sqlite3.connect(file)
    try:
        return {
            statement: {
                found[1]
                for (_, _, _, step) in connection.execute(
                    f"EXPLAIN QUERY PLAN {statement.replace('$', '?')}", parameters
                )
                # "held": what the joins in associations/store.py call `associations`.
                if (found := re.match(r"SCAN (\w+)", step)) and found[1] in LARGE | {"held"}
            }
            for statement, parameters in statements.items()
        }
    finally:
        connection.close()


async def postgresql_scans(dsn: str, statements: dict[str, tuple[Any, ...]]) -> dict[str, set[str]]:
    """The same."""
    connection = await asyncpg.connect(dsn)
    try:
        scans = {}
        for statement, parameters in statements.items():
            plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters)
            scans[statement] = set(_scans(json.loads(plan)[0]["Plan"]))
        return scans
    finally:
        await connection.close()


def _scans(node: dict[str, Any]) -> list[str]:
    is_whole = node["Node Type"] == "Seq Scan" or (
        node["Node Type"] in ("Index Scan", "Index Only Scan", "Bitmap Index Scan") and "Index Cond" not in node
    )
    here = [node["Relation Name"]] if is_whole and node.get("Relation Name") in LARGE else []
    return here + [found for child in node.get("Plans", ()) for found in _scans(child)]
