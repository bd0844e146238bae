"""`identity-server`: the table of commands."""

from pathlib import Path
from typing import Annotated

import typer

from identity_server import __version__
from identity_server.cli import bindings, client, demo, doctor, keys, migrate, pepper, serve

app = typer.Typer(
    name="identity-server",
    help="A Matrix identity server: it verifies email addresses and phone numbers, publishes signed bindings from them "
    "to Matrix user IDs, and answers private lookups. A small homeserver is bundled.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", envvar="IDENTITY_SERVER_CONFIG", help="A TOML file; without one, defaults that work."),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version and leave.")
    ] = False,
) -> None:
    context.obj = config


app.command("serve")(serve.serve)
app.command("homeserver")(serve.homeserver)
app.command("migrate")(migrate.migrate_databases)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.add_typer(keys.app, name="keys", help="The long-term keys that sign associations.")
app.add_typer(pepper.app, name="pepper", help="The pepper that lookups are hashed with.")
app.add_typer(bindings.app, name="bindings", help="Look at, make, undo, move bindings by hand.")
app.add_typer(client.app, name="client", help="Ask an identity server, as a person with a Matrix account.")


def main() -> None:
    app()
