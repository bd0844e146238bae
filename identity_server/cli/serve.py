"""`identity-server serve`."""

import os

import typer

from identity_server.cli.context import fail, settings_of
from identity_server.runtime.key_files import BadKeyFile
from identity_server.runtime.migrations import OutOfDate
from identity_server.serve import serve_identity


def serve(context: typer.Context) -> None:
    """Run the identity server until it is stopped."""
    settings = settings_of(context)
    if context.obj is not None:
        os.environ["IDENTITY_SERVER_CONFIG"] = str(context.obj)  # for the workers, which read it themselves
    try:
        started = serve_identity(settings)
    except (OutOfDate, BadKeyFile, OSError) as error:
        fail(str(error))
    if not started:
        fail("the identity server could not start; the lines above say why")
