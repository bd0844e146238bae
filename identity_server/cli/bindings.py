"""`identity-server bindings`."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from identity_server.cli.context import console, errors, fail, open_database, run, settings_of
from identity_server.identity.associations import store
from identity_server.identity.bindings.bind import bind_proven
from identity_server.identity.bindings.unbind import unbind
from identity_server.identity.lookup.imports import AnotherImport, Overtaken
from identity_server.identity.signing.keyring import load_keyring
from identity_server.identity.transfer.bulk import import_bindings
from identity_server.identity.transfer.export import export_bindings
from identity_server.identity.transfer.lines import BadLine, write_line
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.identifiers import check_user_id
from identity_server.matrix.threepid import EMAIL, Threepid, canonical, lowercase_spelling
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.helpers import step_back
from identity_server.runtime.tasks import Tasks
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Look at, make, undo, move bindings by hand.")

Medium = Annotated[str, typer.Argument(help="email or msisdn")]
Address = Annotated[str, typer.Argument(help="The email address, or the phone number in international form.")]
UserId = Annotated[str, typer.Argument(help="The Matrix user ID.")]


@app.command("show")
def show(context: typer.Context, medium: Medium, address: Address) -> None:
    """Show what holds for an address, and what this server has stated about it."""
    run(_show(settings_of(context), _threepid(medium, address)))


@app.command("bind")
def bind(context: typer.Context, medium: Medium, address: Address, user_id: UserId) -> None:
    """Bind an address on your own word, without any validation."""
    run(_bind(settings_of(context), _threepid(medium, address), address, _user_id(user_id)))


@app.command("unbind")
def unbind_address(context: typer.Context, medium: Medium, address: Address, user_id: UserId) -> None:
    """Undo a binding."""
    run(_unbind(settings_of(context), _threepid(medium, address), _user_id(user_id)))


@app.command("export")
def export(
    context: typer.Context, file: Annotated[Path, typer.Argument(help="Where to; - for standard output.")]
) -> None:
    """Write every binding, a line of JSON each."""
    run(_export(settings_of(context), file))


@app.command("import")
def import_file(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Lines of JSON as export writes them; - for standard input.")],
) -> None:
    """State many bindings on your own word; addresses of which anything is known already are left alone.
    Lookups find them once all is stated."""
    run(_import(settings_of(context), file))


async def _show(settings: Settings, threepid: Threepid) -> None:
    async with open_database(settings) as database, database.reading() as session:
        current = await store.current(session, threepid)
        entries = await store.history(session, threepid)
    if current is None:
        console.print("Nothing was ever stated about this address.")
        return
    holder = current.user_id or "nobody"
    console.print(f"Bound to {holder}, as {current.precedence.origin} stated it.", highlight=False)
    table = Table("position", "at", "user ID")
    for entry in entries:
        at = datetime.fromtimestamp(entry.ts / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
        table.add_row(str(entry.position), at, entry.user_id or "(unbound)")
    console.print(table)


async def _bind(settings: Settings, threepid: Threepid, typed: str, user_id: str) -> None:
    keyring = load_keyring(settings.server.name, settings.signing_key_file, SystemEntropy())
    spelling = lowercase_spelling(typed, threepid.address) if threepid.medium == EMAIL else None
    clock = SystemClock()
    async with open_database(settings) as database, database.transaction() as session:
        tasks = Tasks(database, clock, {})  # a server finds what is left there, and does it
        bound = [store.Bound(threepid, user_id, spelling)]
        (signed,) = await bind_proven(session, bound, keyring=keyring, tasks=tasks, now_ms=clock.now_ms())
    console.print_json(data=signed)


async def _unbind(settings: Settings, threepid: Threepid, user_id: str) -> None:
    keyring = load_keyring(settings.server.name, settings.signing_key_file, SystemEntropy())
    async with open_database(settings) as database, database.transaction() as session:
        current = await store.current(session, threepid)
        if current is None or current.user_id != user_id:
            fail("this address is not bound to that user")
        await unbind(session, threepid, user_id, keyring=keyring, now_ms=SystemClock().now_ms())
    console.print("Unbound.")


async def _export(settings: Settings, file: Path) -> None:
    count = 0
    with sys.stdout.buffer if str(file) == "-" else file.open("xb") as out:
        async with open_database(settings) as database:
            async for page in export_bindings(database):
                out.writelines(write_line(bound) for bound in page)
                count += len(page)
    errors.print(f"{count} bindings written.", highlight=False)


async def _import(settings: Settings, file: Path) -> None:
    step_back()
    size = None if str(file) == "-" else file.stat().st_size
    with sys.stdin.buffer if str(file) == "-" else file.open("rb") as lines, Progress(console=errors) as bar:
        task = bar.add_task("importing", total=size)

        def progress(stage: str, done: int, of: int) -> None:
            if stage != "importing":
                bar.update(task, description=stage, completed=done, total=of)
            elif size is not None:
                bar.update(task, description=stage, completed=lines.tell(), total=size)

        async with open_database(settings) as database:
            try:
                done = await import_bindings(
                    database,
                    iter(lines.readline, b""),
                    server_name=settings.server.name,
                    clock=SystemClock(),
                    entropy=SystemEntropy(),
                    progress=progress,
                )
            except BadLine as error:
                fail(f"{error}; what stood before it has been imported, up to the last whole batch")
            except AnotherImport:
                fail("another import is at work, or was killed within the last minute: try again then")
            except Overtaken:
                fail("this import was stopped for so long that a server finished it: begin it again for the rest")
    errors.print(f"{done.stated} bindings stated, {done.left_alone} left alone.", highlight=False)


def _threepid(medium: str, address: str) -> Threepid:
    if medium not in ("email", "msisdn"):
        fail("the medium is email or msisdn")
    try:
        return canonical(medium, address)
    except MatrixError as error:
        fail(str(error))


def _user_id(value: str) -> str:
    try:
        return check_user_id(value)
    except ValueError as error:
        fail(str(error))
