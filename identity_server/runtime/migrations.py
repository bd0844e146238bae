"""The schema: where its migrations are, whether a database has them all, and how it gets them.

A migration's file is named for its revision, which are numbers that grow. So a process that finds all as it should be
does not need Alembic, which takes 11 MB and a tenth of a second.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Connection, inspect, text

from identity_server.runtime.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

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


def newest_revision(schema: Schema) -> str:
    return max(file.stem.partition("_")[0] for file in (_SCRIPTS / schema / "versions").glob("[0-9]*.py"))


def configuration(schema: Schema) -> "Config":
    """Alembic's."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", str(_SCRIPTS / schema / "versions"))
    return config


def _upgrade(connection: Connection, schema: Schema) -> None:
    from alembic import command

    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    with_connection = configuration(schema)
    with_connection.attributes["connection"] = connection
    command.upgrade(with_connection, "head")


def _state(connection: Connection, schema: Schema) -> tuple[bool, bool]:
    """Whether the database is empty, and whether it has the newest schema."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" not in tables:
        return not tables, False
    here = connection.scalars(text("SELECT version_num FROM alembic_version")).all()
    return not here and len(tables) == 1, list(here) == [newest_revision(schema)]
