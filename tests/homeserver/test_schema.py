import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from identity_server.homeserver import (
    routes,  # every capability's tables are known once these are
    streams,  # noqa: F401 (imported for the tables that it declares)
)
from identity_server.homeserver.media import models as media  # noqa: F401 (its tables)
from identity_server.homeserver.tables import Table
from identity_server.homeserver.timeline import models  # noqa: F401 (its tables)
from identity_server.homeserver.validation import models as validation  # noqa: F401 (its tables)
from identity_server.runtime.database import Database
from identity_server.runtime.migrations import migrate


@pytest.fixture
def schema() -> None:
    """The tables are to be made here."""


async def test_the_migrations_make_the_tables_that_the_models_describe(database_url: str) -> None:
    assert routes.ROUTERS
    database = Database(database_url)
    try:
        await migrate(database, "homeserver")
        await migrate(database, "homeserver")

        def differences(connection: Connection) -> list[object]:
            return list(compare_metadata(MigrationContext.configure(connection), Table.metadata))

        async with database.engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await database.close()
