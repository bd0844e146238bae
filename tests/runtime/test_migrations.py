import subprocess
import sys
from typing import get_args

import pytest
from alembic.script import ScriptDirectory

from identity_server.runtime.database import Database
from identity_server.runtime.migrations import Schema, configuration, migrate, newest_revision, prepare

SCHEMAS = get_args(Schema)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_migrations_are_named_for_their_revisions_in_order(schema: Schema) -> None:
    assert ScriptDirectory.from_config(configuration(schema)).get_heads() == [newest_revision(schema)]


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_a_database_is_prepared_once_and_found_prepared(schema: Schema, database_url: str) -> None:
    database = Database(database_url)
    try:
        await prepare(database, schema)
        await prepare(database, schema)
        await migrate(database, schema)
    finally:
        await database.close()


def test_a_server_does_not_load_what_only_a_migration_needs() -> None:
    loaded = "import identity_server.homeserver.serve, identity_server.identity.application, sys; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    assert "sqlalchemy" in modules
    assert "alembic" not in modules
