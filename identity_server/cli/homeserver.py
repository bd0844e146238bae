"""`identity-server homeserver`."""

import typer

from identity_server.cli.context import run, settings_of
from identity_server.homeserver.serve import serve_homeserver
from identity_server.runtime.interpreter import settle
from identity_server.runtime.logging import configure_logging


def homeserver(context: typer.Context) -> None:
    """Run the bundled homeserver until it is stopped."""
    settings = settings_of(context)
    configure_logging(settings.logging)
    run(serve_homeserver(settings, ready=lambda _listening: settle()))
