"""`identity-server demo`."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.padding import Padding
from rich.panel import Panel
from rich.status import Status
from rich.table import Table
from rich.text import Text

from identity_server.cli.context import console, fail, run
from identity_server.demo.journal import Entry
from identity_server.demo.pages.inbox import Exchange
from identity_server.demo.serving import HOST, DidNotStart
from identity_server.demo.tour import EMAIL_ADDRESS, PASSWORDS, TOUR, Chapter, run_tour
from identity_server.demo.world import World, open_world
from identity_server.runtime.logging import configure_logging
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import LoggingSettings

_WIDEST = 110
_LONGEST_STRING = 32
_LONGEST_LIST = 3
_STYLES = {"done": ("✓", "green"), "failed": ("✗", "red")}


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the tour, with 0 if every step went well.")] = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="For the inbox page; by default 8025, or a free one.", show_default=False),
    ] = None,
) -> None:
    """Show the whole system: an identity server, a homeserver, a mail and an SMS inbox, and a tour of what they do.

    All of it runs in this one process, on this machine only, and in a temporary folder; no configuration is read and
    nothing is left behind. Stop it with Ctrl-C.
    """
    configure_logging(LoggingSettings(level="warning"))
    with _no_proxy():
        try:
            went_well = run(show(once=once, port=port))
        except DidNotStart as error:
            fail(str(error))
    if not went_well:
        raise typer.Exit(1)


async def show(*, once: bool, port: int | None = None, chapters: Sequence[Chapter] = TOUR) -> bool:
    """The tour with everything around it; whether every step went well. Ends at a signal, or after the tour."""
    with _stopping() as stop:
        stopping = asyncio.create_task(stop.wait())
        touring = asyncio.create_task(_tour(stop, once, port, chapters))
        try:
            await asyncio.wait({stopping, touring}, return_when=asyncio.FIRST_COMPLETED)
            if not touring.done() and not stop.is_set():  # pragma: no cover (one of both has ended)
                return False
            return await touring
        finally:
            stopping.cancel()
            touring.cancel()
