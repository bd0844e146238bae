"""`identity-server homeserver`."""

import typer

from identity_server.cli.context import run, settings_of
from identity_server.homeserver.serve import serve_homeserver


def homeserver(context: typer.Context) -> None:
    """Run the bundled homeserver until it is stopped."""
    run(serve_homeserver(settings_of(context)))
