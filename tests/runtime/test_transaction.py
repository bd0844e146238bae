"""A transaction is there before the answer leaves, or there was none."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import APIRouter
from httpx import ASGITransport, AsyncClient
from sqlalchemy import text
from structlog.testing import capture_logs

from identity_server.matrix.errors import InvalidParam, MissingParams, TokenIncorrect
from identity_server.runtime.application import make_application
from identity_server.runtime.database import Database, after_commit
from identity_server.runtime.dependencies import Transaction

# A row in `parts` needs one in `wholes` of the same name, and whether it has one is looked at on commit only.
TABLES = (
    "CREATE TABLE wholes (name VARCHAR(20) PRIMARY KEY)",
    "CREATE TABLE parts (name VARCHAR(20) REFERENCES wholes (name) DEFERRABLE INITIALLY DEFERRED)",
)


@pytest.fixture
def schema() -> None:
    """The tables are these tests' own."""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    async with database.transaction() as session:
        for table in TABLES:
            await session.execute(text(table))
    yield database
    await database.close()


async def rows(database: Database) -> tuple[int, int]:
    """How many wholes and parts there are."""
    async with database.reading() as session:
        return (
            await session.scalar(text("SELECT count(*) FROM wholes")) or 0,
            await session.scalar(text("SELECT count(*) FROM parts")) or 0,
        )


WHOLE, PART = text("INSERT INTO wholes VALUES ('a')"), text("INSERT INTO parts VALUES ('a')")


async def test_what_is_written_is_there_when_the_block_ends(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(PART)
        await session.execute(WHOLE)
    assert await rows(database) == (1, 1)


async def test_any_error_takes_everything_back(database: Database) -> None:
    async def write_and_raise(error: BaseException) -> None:
        async with database.transaction() as session:
            await session.execute(WHOLE)
            raise error

    for error in (InvalidParam("no"), RuntimeError(), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            await write_and_raise(error)
    assert await rows(database) == (0, 0)


async def test_an_error_that_says_so_keeps_what_was_written(database: Database) -> None:
    with suppress(TokenIncorrect):
        async with database.transaction() as session:
            await session.execute(WHOLE)
            raise TokenIncorrect("no")
    assert await rows(database) == (1, 0)


async def test_what_waits_for_the_commit_happens_after_it_or_not_at_all(database: Database) -> None:
    happened: list[str] = []
    with suppress(InvalidParam):
        async with database.transaction() as session:
            await session.execute(WHOLE)
            after_commit(session, lambda: happened.append("rolled back"))
            raise InvalidParam("no")
    async with database.transaction() as session:
        await session.execute(WHOLE)
        after_commit(session, lambda: happened.append("committed"))
        assert happened == []
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM wholes"))
    assert happened == ["committed"]


@pytest.mark.parametrize("engine", ["sqlite"])  # on PostgreSQL readers and writers share a pool
async def test_a_reading_session_writes_nothing(database: Database) -> None:
    with pytest.raises(Exception, match="readonly"):
        async with database.reading() as session:
            await session.execute(WHOLE)


async def test_writers_queue_and_readers_do_not_wait_for_them(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(WHOLE)
        assert await rows(database) == (0, 0)
    assert await rows(database) == (1, 0)


# The same, through an endpoint


router = APIRouter()


@router.post("/part")
async def put_part(session: Transaction) -> dict[str, Any]:
    """Fails on commit, unless the whole is there."""
    await session.execute(PART)
    return {}


@router.post("/whole")
async def put_whole(session: Transaction, then: str = "") -> dict[str, Any]:
    await session.execute(WHOLE)
    match then:
        case "stands":
            raise TokenIncorrect("no")
        case "falls":
            raise InvalidParam("no")
        case "breaks":
            raise RuntimeError("broken")
    return {}


@pytest.fixture
async def post(database: Database) -> AsyncIterator[Callable[[str], Awaitable[int]]]:
    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[dict[str, Any]]:
        yield {}

    app = make_application("Test", lifespan, [router], missing=MissingParams, max_body_bytes=1000)

    async def opened(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"resources": SimpleNamespace(database=database)}
        await app(scope, receive, send)

    async with AsyncClient(transport=ASGITransport(opened, raise_app_exceptions=False), base_url="http://t") as client:

        async def post(path: str) -> int:
            answer = await client.post(path)
            if answer.status_code != 200:
                assert answer.json().keys() >= {"errcode", "error"}
            return answer.status_code

        with capture_logs():  # or what broke is drawn for a terminal, which takes seconds
            yield post


async def test_what_was_answered_is_committed(post: Callable[[str], Awaitable[int]], database: Database) -> None:
    assert await post("/whole") == 200
    assert await post("/part") == 200
    assert await rows(database) == (1, 1)


async def test_a_commit_that_fails_is_never_answered_with_success(
    post: Callable[[str], Awaitable[int]], database: Database
) -> None:
    assert await post("/part") == 500
    assert await rows(database) == (0, 0)
    assert await post("/whole") == 200  # nothing stands in the way of the next


@pytest.mark.parametrize(("then", "status", "there"), [("falls", 400, 0), ("breaks", 500, 0), ("stands", 400, 1)])
async def test_an_error_in_an_endpoint_takes_everything_back_unless_it_says_otherwise(
    post: Callable[[str], Awaitable[int]], database: Database, then: str, status: int, there: int
) -> None:
    assert await post(f"/whole?then={then}") == status
    assert await rows(database) == (there, 0)


async def test_a_reader_sees_one_state_of_the_database_to_its_end(database_url: str) -> None:
    database = Database(database_url)
    try:
        async with database.transaction() as session:
            await session.execute(text("CREATE TABLE words (word TEXT)"))
        async with database.reading() as reader:
            assert (await reader.execute(text("SELECT word FROM words"))).all() == []
            async with database.transaction() as writer:
                await writer.execute(text("INSERT INTO words VALUES ('later')"))
            assert (await reader.execute(text("SELECT word FROM words"))).all() == []
        async with database.reading() as reader:
            assert (await reader.execute(text("SELECT word FROM words"))).all() == [("later",)]
    finally:
        await database.close()
