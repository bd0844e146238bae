"""`identity-server`: the table of commands."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from identity_server import __version__
from identity_server.runtime import interpreter

# What each is, in the module that is imported when it is called for: starting takes no longer than what is started.
_COMMANDS = {
    "serve": "serve:serve",
    "homeserver": "homeserver:homeserver",
    "demo": "demo:demo",
    "doctor": "doctor:doctor",
    "client": "client:app",
    "bindings": "bindings:app",
    "peers": "peers:app",
    "keys": "keys:app",
    "pepper": "pepper:app",
    "migrate": "migrate:migrate_databases",
}


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        found = getattr(import_module(f"identity_server.cli.{module}"), name)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False)
            single.command(cmd_name)(found)
            found = single
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="identity-server",
    cls=_Commands,
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


def main() -> None:
    interpreter.begin()
    app()
