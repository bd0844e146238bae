"""`identity-server pepper`."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from identity_server.cli.context import console, fail, open_database, run, settings_of
from identity_server.identity.lookup import store
from identity_server.identity.lookup.rotate import InGrace, rotate
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.helpers import step_back
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The pepper that lookups are hashed with.")


@app.command("status")
def status(context: typer.Context) -> None:
    """Show which peppers are accepted, and until when."""
    run(_status(settings_of(context)))


@app.command("rotate")
def rotate_pepper(
    context: typer.Context,
    force: Annotated[bool, typer.Option(help="Even if the one before is still in its grace period.")] = False,
) -> None:
    """Build the index for a new pepper beside the one in use, then hand it out. Lookups and binds go on meanwhile;
    a rotation that was interrupted is continued."""
    run(_rotate(settings_of(context), force))


async def _status(settings: Settings) -> None:
    table = Table("pepper", "state", "since", "accepted until")
    async with open_database(settings) as database, database.reading() as session:
        for live in sorted(await store.live_peppers(session), key=lambda pepper: pepper.created_ts):
            table.add_row(live.pepper, live.state, _date(live.created_ts), _date(live.accepted_until_ts))
    console.print(table)


async def _rotate(settings: Settings, force: bool) -> None:
    step_back()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with open_database(settings) as database:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("hashing")

            def progress(stage: str, done: int, of: int) -> None:
                bar.update(task, description=stage, completed=done, total=of)

            try:
                await rotate(
                    database,
                    settings.lookup,
                    clock=SystemClock(),
                    entropy=SystemEntropy(),
                    force=force,
                    progress=progress,
                )
            except InGrace as error:
                fail(str(error))
    console.print("The new pepper is handed out from now on.")


def _date(ts: int | None) -> str:
    return "" if ts is None else datetime.fromtimestamp(ts / 1000, UTC).isoformat(sep=" ", timespec="seconds")
