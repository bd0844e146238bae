"""What SQLite is asked in the thread that serves, and what must not be."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from identity_server.runtime.database import Database

NUMBER = text("INSERT INTO numbers VALUES (:number)")
# Counts far enough to be seen at work, without a table.
SLOW = text("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT max(i) FROM n")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "numbers.db"


@pytest.fixture
async def database(file: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{file}")
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE numbers (number INTEGER PRIMARY KEY)"))
    yield database
    await database.close()


async def numbers(database: Database) -> Sequence[int]:
    async with database.reading() as session:
        return (await session.scalars(text("SELECT number FROM numbers ORDER BY number"))).all()


async def turns(until: "asyncio.Task[None]") -> int:
    """How often everybody else has had a turn before ``until`` is done."""
    count = 0
    while not until.done():
        await asyncio.sleep(0)
        count += 1
    await until
    return count


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 1_000])
async def test_every_row_comes_back_however_many_there_are(database: Database, count: int) -> None:
    async with database.transaction() as session:
        for number in range(count):
            await session.execute(NUMBER, {"number": number})
    assert await numbers(database) == list(range(count))


async def test_a_transaction_of_many_brief_statements_lets_others_have_their_turn(database: Database) -> None:
    async def write() -> None:
        async with database.transaction() as session:
            for number in range(1_000):
                await session.execute(NUMBER, {"number": number})

    assert await turns(asyncio.create_task(write())) > 50


async def test_a_long_statement_holds_nobody_up(database: Database) -> None:
    async def read() -> None:
        async with database.reading() as session:
            assert await session.scalar(SLOW) == 1_000_000

    assert await turns(asyncio.create_task(read())) > 50


async def test_who_waits_for_another_process_to_write_holds_nobody_up(database: Database, file: Path) -> None:
    async def write() -> None:
        async with database.transaction() as session:
            await session.execute(NUMBER, {"number": 1})

    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(write())
    for _ in range(50):
        await asyncio.sleep(0.001)
        assert await numbers(database) == []
    other.execute("INSERT INTO numbers VALUES (2)")
    other.execute("COMMIT")
    other.close()
    await writing
    assert await numbers(database) == [1, 2]


async def test_a_transaction_cut_off_leaves_nothing_behind(database: Database) -> None:
    async def write() -> None:
        async with asyncio.timeout(0.01), database.transaction() as session:
            await session.execute(NUMBER, {"number": 1})
            await session.execute(SLOW)

    with pytest.raises(TimeoutError):
        await write()
    async with database.transaction() as session:
        await session.execute(NUMBER, {"number": 2})
    assert await numbers(database) == [2]


@pytest.mark.parametrize("seconds", [0.001, 0.002, 0.004, 0.008, 0.016])
async def test_readers_cut_off_at_any_moment_harm_nobody(database: Database, seconds: float) -> None:
    async def read() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    await numbers(database)

    async with database.transaction() as session:
        await session.execute(NUMBER, [{"number": number} for number in range(5_000)])
    await asyncio.gather(*(read() for _ in range(20)))
    assert await numbers(database) == list(range(5_000))


async def test_what_is_refused_is_refused_as_ever(database: Database) -> None:
    async def write(*some: int) -> None:
        async with database.transaction() as session:
            for number in some:
                await session.execute(NUMBER, {"number": number})

    await write(1)
    with pytest.raises(IntegrityError):
        await write(2, 1)
    assert await numbers(database) == [1]
