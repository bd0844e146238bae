"""`identity-server migrate`."""

import typer

from identity_server.cli.context import console, run, settings_of
from identity_server.runtime.database import Database
from identity_server.runtime.migrations import migrate
from identity_server.settings import Settings


def migrate_databases(context: typer.Context) -> None:
    """Bring the identity server's database to the schema of this version."""
    run(_migrate(settings_of(context)))


async def _migrate(settings: Settings) -> None:
    database = Database(settings.database_url)
    try:
        await migrate(database, "identity")
    finally:
        await database.close()
    console.print("The identity server's database is up to date.")
