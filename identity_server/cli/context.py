"""What every command begins with: the settings, and one clear line when something is wrong."""

import asyncio
import tomllib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import pydantic
import typer
from rich.console import Console

from identity_server.runtime.database import Database
from identity_server.runtime.key_files import BadKeyFile
from identity_server.runtime.migrations import OutOfDate, prepare
from identity_server.settings import Settings, read_settings

console = Console()
errors = Console(stderr=True)


def fail(message: str) -> NoReturn:
    """Say in one line what is wrong, and end with 1."""
    errors.print(f"[red]error:[/red] {message}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def settings_of(context: typer.Context) -> Settings:
    """The settings that the command line, the environment and the file give; fails with what is wrong in them."""
    file: Path | None = context.obj
    try:
        return read_settings(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        fail(f"the configuration cannot be read: {error}")
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        wrong = first["msg"].removeprefix("Value error, ")  # of a check of our own, what it says
        reason = "there is no such setting" if first["type"] == "extra_forbidden" else wrong
        fail(f"in the configuration, {key}: {reason}")


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The identity server's database, with its tables."""
    database = Database(settings.database_url, pool_size=settings.database.pool_size)
    try:
        await prepare(database, "identity")
        yield database
    finally:
        await database.close()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run ``work`` to its end; what an operator can mend is said in one line."""
    try:
        return asyncio.run(work)
    except (OutOfDate, BadKeyFile, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
