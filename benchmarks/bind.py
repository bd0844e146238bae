"""Requests that write: binding, and asking for a token by mail."""

from collections.abc import AsyncIterator

from sqlalchemy import text

from benchmarks import data
from benchmarks.limits import postgresql_commits, sqlite_commits
from benchmarks.load import Load, request, run
from benchmarks.mail_sink import sinking
from benchmarks.processes import identity_server
from benchmarks.report import Row, at_least
from benchmarks.world import World
from identity_server.identity.validation.models import ValidationSession
from identity_server.runtime.bulk import insert_rows
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.database import Database

# The first goal is for PostgreSQL; SQLite writes one transaction after the other.
_GOALS = {"PostgreSQL": 500, "SQLite": 300}
_COLUMNS = (
    "sid",
    "medium",
    "address",
    "client_secret",
    "send_attempt",
    "modified_ts",
    "validated_ts",
    "wrong_tokens",
    "superseded",
)


async def bind(world: World) -> AsyncIterator[Row]:
    """From a validated session to the 200, which is durable."""
    seconds = world.sizes.seconds
    for engine, goal in _GOALS.items():
        url = await world.postgresql() if engine == "PostgreSQL" else await world.copy()
        count = int(2_000 * seconds)
        requests = await proven_sessions(url, f"{engine}-bind".lower(), count)
        world.say(f"binding on {engine}")
        async with identity_server(world.folder / f"bind-{engine}", url) as server:
            outcome = (await run(Load(server.port, requests, 16, seconds, once=True))).checked()
        await _forget_tasks(url)
        if engine == "PostgreSQL":
            commits = await postgresql_commits(world.postgresql_server(), 16, seconds / 2)
        else:
            commits = sqlite_commits(world.folder, seconds / 2)
        yield Row(
            f"bind, 16 at once, {engine}",
            f"{outcome.per_second:,.0f}/s, p99 {outcome.p99_ms:.0f} ms; L3 {commits:,.0f}/s",
            **at_least(goal, outcome.per_second, "/s", ratio=f"{outcome.per_second / commits:.2f} of L3"),
            figures={"per_s": outcome.per_second, "p99_ms": outcome.p99_ms, "l3_per_s": commits},
        )


async def mail(world: World) -> AsyncIterator[Row]:
    """requestToken by email, with a real SMTP server in a process of its own."""
    url, seconds = await world.copy(), world.sizes.seconds
    requests = [
        request(
            "POST",
            f"{data.V2}/validate/email/requestToken",
            {"email": f"mail{number}@example.org", "client_secret": f"secret{number}", "send_attempt": 1},
            token=data.TOKEN,
        )
        for number in range(int(2_000 * seconds))
    ]
    world.say("requestToken")
    async with sinking() as sink:
        email = {"smtp_url": f"smtp://127.0.0.1:{sink.port}"}
        async with identity_server(world.folder / "mail", url, email=email) as server:
            outcome = (await run(Load(server.port, requests, 16, seconds, once=True))).checked()
        received = await sink.received()
    assert received == outcome.answered, f"{outcome.answered} answers, {received} mails"
    yield Row(
        "requestToken by email, 16 at once, SQLite",
        f"{outcome.per_second:,.0f}/s, p99 {outcome.p99_ms:.0f} ms",
        **at_least(500, outcome.per_second, "/s"),
        figures={"per_s": outcome.per_second, "p99_ms": outcome.p99_ms},
    )


async def proven_sessions(url: str, name: str, count: int) -> list[bytes]:
    """Requests to bind, each with a session of its own that has proven an address nobody has yet."""
    now_ms = SystemClock().now_ms()
    database = await data.open_database(url)
    try:
        async with database.transaction() as session:
            await insert_rows(
                session,
                ValidationSession,
                _COLUMNS,
                [
                    (f"{name}-{n}", "email", f"{name}-{n}@example.net", f"{name}-{n}", 1, now_ms, now_ms, 0, False)
                    for n in range(count)
                ],
            )
    finally:
        await database.close()
    return [
        request(
            "POST",
            f"{data.V2}/3pid/bind",
            {"sid": f"{name}-{n}", "client_secret": f"{name}-{n}", "mxid": data.READER},
            token=data.TOKEN,
        )
        for n in range(count)
    ]


async def _forget_tasks(url: str) -> None:
    database = Database(url)
    try:
        async with database.transaction() as session:
            await session.execute(text("DELETE FROM tasks"))
    finally:
        await database.close()
