"""The schema: where its migrations are, whether a database has them all, and how it gets them."""

from functools import cache
from pathlib import Path
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from identity_server.runtime.database import Database

Schema = Literal["identity", "homeserver"]

_PACKAGE = Path(__file__).parent.parent
# In a wheel they are inside the package; in a checkout they stand at the top level.
_SCRIPTS = next(path for path in (_PACKAGE / "migrations", _PACKAGE.parent / "alembic") if path.is_dir())
_LOCK = 0x6D617472  # any number that nobody else uses


class OutOfDate(Exception):
    """The database has tables, but not those of this version."""


async def migrate(database: Database, schema: Schema) -> None:
    """Bring the database to the newest schema; several processes may ask for it at once."""
    async with database.engine.connect() as connection:
        await connection.run_sync(_upgrade, schema)
        await connection.commit()


async def prepare(database: Database, schema: Schema) -> None:
    """Make the tables in an empty database. Raises ``OutOfDate`` if they are there but of another version."""
    async with database.engine.connect() as connection:
        is_empty, is_current = await connection.run_sync(_state, schema)
    if is_empty:
        await migrate(database, schema)
    elif not is_current:
        raise OutOfDate("the database's schema is of another version: run `identity-server migrate`")


def _configuration(schema: Schema) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", str(_SCRIPTS / schema / "versions"))
    return config


def _upgrade(connection: Connection, schema: Schema) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    configuration = _configuration(schema)
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, "head")


def _state(connection: Connection, schema: Schema) -> tuple[bool, bool]:
    """Whether the database is empty, and whether it has the newest schema."""
    if here := MigrationContext.configure(connection).get_current_heads():
        return False, set(here) == _newest(schema)
    return not inspect(connection).get_table_names(), False


@cache
def _newest(schema: Schema) -> set[str]:
    """Reading the scripts takes longer than asking the database."""
    return set(ScriptDirectory.from_config(_configuration(schema)).get_heads())
