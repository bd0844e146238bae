"""What the tests stand on: both engines, an application with nothing left to chance, a client for it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from xdist.scheduler import LoadScopeScheduling

from identity_server.identity.application import identity_application
from identity_server.runtime import database
from identity_server.runtime.migrations import Schema
from identity_server.settings import Settings
from tests.databases import PostgresDatabases, SqliteDatabases, postgres_server
from tests.world import IdentityServer, MakeServer, serving

NewDatabaseUrl = Callable[..., Awaitable[str]]

# Drawing a traceback for the terminal takes seconds.
structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])


class TogetherWithTheirServers(LoadScopeScheduling):
    """Tests that share servers run in one process, all others wherever there is room.

    pytest-xdist has a mark for that, which version 3.8 writes to where pytest 9.2 does not look for it.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if "/interop/test_federated" in file:
            return "federation"
        return file if "/interop/test_matrix" in file else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TogetherWithTheirServers:
    return TogetherWithTheirServers(config, log)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real PostgreSQL, started for this run; databases are made in it as tests need them."""
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_databases(postgres: str) -> PostgresDatabases:
    return PostgresDatabases(postgres)


@pytest.fixture(scope="session")
def sqlite_databases(tmp_path_factory: pytest.TempPathFactory) -> SqliteDatabases:
    return SqliteDatabases(tmp_path_factory.mktemp("templates"))


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """Both engines, one after the other: whoever asks for this is run on each."""
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def make_tables_of_characters() -> None:
    """Hypothesis makes them once for a checkout, which takes a second: the first test would be blamed for it."""
    st.text().validate()


@pytest.fixture(scope="session", autouse=True)
def compile_statements_once() -> Iterator[None]:
    """Each test has databases of its own, and SQLAlchemy compiles each statement for each: a fifth of the time."""
    connected: dict[str, Engine] = {}
    make = database.create_async_engine

    def make_alike(url: Any, **options: Any) -> AsyncEngine:
        made = make(url, **options)
        engine = made.sync_engine
        alike = connected.get(engine.dialect.driver)
        if alike is None or not getattr(alike.dialect, "server_version_info", None):
            connected[engine.dialect.driver] = engine
        else:
            engine.dialect, engine._compiled_cache = alike.dialect, alike._compiled_cache
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "create_async_engine", make_alike)
        yield


@pytest.fixture
def schema() -> Schema | None:
    """Whose tables are in a database when a test is given it; tests that need an empty one override this with None."""
    return "identity"


@pytest.fixture
async def new_database_url(
    engine: str, schema: Schema | None, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[NewDatabaseUrl]:
    """Makes databases on the engine under test; those of another ``schema`` are asked for by its name."""
    async with AsyncExitStack() as lent:

        async def make(schema: Schema | None = schema) -> str:
            if engine == "sqlite":
                files: SqliteDatabases = request.getfixturevalue("sqlite_databases")
                return await files.make(schema, tmp_path)
            databases: PostgresDatabases = request.getfixturevalue("postgres_databases")
            return await lent.enter_async_context(databases.lend(schema))

        yield make


@pytest.fixture
async def database_url(new_database_url: NewDatabaseUrl) -> str:
    return await new_database_url()


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
