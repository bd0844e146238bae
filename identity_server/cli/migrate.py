"""`identity-server migrate`."""

from typing import Annotated

import typer

from identity_server.cli.context import console, run, settings_of
from identity_server.runtime.database import Database
from identity_server.runtime.migrations import Schema, migrate


def migrate_databases(
    context: typer.Context,
    homeserver: Annotated[
        bool, typer.Option("--homeserver", help="The bundled homeserver's database instead.")
    ] = False,
) -> None:
    """Bring the identity server's database to the schema of this version."""
    settings = settings_of(context)
    if homeserver:
        run(_migrate(settings.homeserver_database_url, "homeserver"))
    else:
        run(_migrate(settings.database_url, "identity"))
    console.print("The database is up to date.")


async def _migrate(url: str, schema: Schema) -> None:
    database = Database(url)
    try:
        await migrate(database, schema)
    finally:
        await database.close()
