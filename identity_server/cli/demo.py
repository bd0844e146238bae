"""`identity-server demo`."""

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from identity_server.cli.context import fail, run
from identity_server.demo.journal import Entry
from identity_server.demo.pages.inbox import Exchange
from identity_server.demo.proving import EMAIL_ADDRESS, PASSWORDS
from identity_server.demo.serving import HOST, DidNotStart
from identity_server.demo.story import Chapter
from identity_server.demo.tour import TOUR, run_tour
from identity_server.demo.world import World, open_world
from identity_server.runtime.logging import configure_logging
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import LoggingSettings

_WIDEST = 120
_TOKEN = re.compile(r"(?!M_)[\w=/+-]{21,}")
_SHOWN_OF_TOKEN = 8
_LONGEST_LIST = 2
_INTERRUPTED = 130
_MARKS = {"done": Text("✓", "bold green"), "failed": Text("✗", "bold red")}


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the tour: with 0 if every step went well.")] = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Of the inbox page.", show_default="8025, or a free one"),
    ] = None,
) -> None:
    """Show the whole system at work: two identity servers, two homeservers, an inbox for mails and SMS, and a tour.

    All of it runs in this one process, reachable from this machine only, in a temporary folder. No configuration is
    read, and nothing is left behind. Ctrl-C ends it.
    """
    configure_logging(LoggingSettings(level="warning"))
    console = Console()
    console.width = min(console.width, _WIDEST)
    try:
        with _no_proxy():
            code: int = run(show(console, once=once, port=port))
    except DidNotStart as error:
        fail(str(error))
    raise typer.Exit(code)


async def show(console: Console, *, once: bool, port: int | None = None, chapters: Sequence[Chapter] = TOUR) -> int:
    """The exit code: 0 if every step of the tour went well. Raises ``OSError``, ``DidNotStart``."""
    stop = asyncio.Event()
    with _signalled(stop), console.status("Starting two identity servers, two homeservers and an inbox …") as status:
        async with open_world(port) as world:
            console.print(_welcome(world))

            def on_step(entry: Entry) -> None:
                if entry.status == "running":
                    status.update(f"{entry.title} …")
                else:
                    console.print(_step(world.journal.entries.index(entry) + 1, entry))

            touring = run_tour(world, SystemEntropy(), chapters, on_step=on_step)
            went_well = await _unless(stop, touring)
            if went_well is None:
                return _INTERRUPTED
            status.stop()
            console.print(_summary(world, went_well, stays=not once))
            if not once:
                await stop.wait()
            return 0 if went_well else 1


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, bool]) -> bool | None:
    """What ``work`` returns, or None once ``stop`` is set before."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        return None
    finally:
        stopping.cancel()


@contextmanager
def _signalled(stop: asyncio.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set ``stop``, so that everything is closed in order."""
    loop, numbers = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextmanager
def _no_proxy() -> Iterator[None]:
    """The SMS gateway is on this machine; a proxy that the environment names could not reach it."""
    before = {name: os.environ.get(name) for name in ("no_proxy", "NO_PROXY")}
    for name, value in before.items():
        os.environ[name] = f"{value},{HOST}" if value else HOST
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _welcome(world: World) -> RenderableType:
    table = _grid()
    for name, url in (
        ("Inbox", world.inbox_page),
        ("Identity servers", world.identity_server),
        ("", world.other_identity_server),
        ("Homeservers", world.homeserver),
        ("", world.other_homeserver),
    ):
        table.add_row(name, Text(url, f"cyan link {url}"))
    return Padding(Group(Text("A Matrix identity server, and what it works with", "bold"), "", table), (1, 2))


def _step(number: int, entry: Entry) -> RenderableType:
    heading = Table.grid(padding=(0, 1), expand=True)
    heading.add_column(width=1)
    heading.add_column(width=2, justify="right", style="bold")
    heading.add_column(ratio=1, style="bold")
    heading.add_column(justify="right", style="dim", no_wrap=True)
    heading.add_row(_MARKS[entry.status], str(number), entry.title, f"{entry.took_ms} ms")
    told = [Text(note, "green") for note in entry.notes]
    if entry.failure:
        told.append(Text(entry.failure, "red"))
    exchanges = [_exchange(exchange) for exchange in entry.exchanges]
    return Group(heading, Padding(Group(*exchanges, *told), (0, 0, 1, 5)))


def _exchange(exchange: Exchange) -> RenderableType:
    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(width=4, style="cyan")
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(justify="right")
    style = "green" if exchange.status < 400 else "yellow"
    line.add_row(exchange.method, Text(exchange.path), Text(str(exchange.status), style))
    bodies = [
        Text(f"{arrow} {_trimmed(body)}", "dim", no_wrap=True, overflow="ellipsis")
        for arrow, body in (("→", exchange.request), ("←", exchange.response))
        if body
    ]
    return Group(line, Padding(Group(*bodies), (0, 4, 0, 5)))


def _trimmed(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(_short(body), ensure_ascii=False)


def _short(value: Any) -> Any:
    """``value`` with tokens, hashes and long lists cut, so that the shape of it can be seen."""
    match value:
        case str() if _TOKEN.fullmatch(value):
            return value[:_SHOWN_OF_TOKEN] + "…"
        case dict():
            return {_short(name): _short(inner) for name, inner in value.items()}
        case list():
            shown = [_short(inner) for inner in value[:_LONGEST_LIST]]
            return [*shown, "…"] if len(value) > _LONGEST_LIST else shown
        case _:
            return value


def _summary(world: World, went_well: bool, *, stays: bool) -> RenderableType:
    steps = world.journal.entries
    done = [entry for entry in steps if entry.status == "done"]
    took_s = sum(entry.took_ms for entry in steps) / 1000
    verdict = Text(f"{len(done)} of {len(steps)} steps went as they should, in {took_s:.1f} s.", "bold")
    verdict.stylize("green" if went_well else "red")
    if not stays:
        return Padding(verdict, (0, 2))
    table = _grid()
    links = {"What was sent": world.inbox_page, **world.links}
    for name, url in links.items():
        table.add_row(name, Text(url, f"cyan link {url}"))
    command = (
        f"identity-server client lookup {EMAIL_ADDRESS} \\\n"
        f"    --server {world.identity_server} \\\n"
        f"    --homeserver {world.other_homeserver} --user bob --password {PASSWORDS['bob']}"
    )
    return Padding(
        Group(
            verdict,
            "",
            Text("Have a look", "bold"),
            table,
            "",
            Text("Or ask yourself, from another terminal", "bold"),
            Text(command, "cyan"),
            "",
            Text("Ctrl-C ends it all.", "dim"),
        ),
        (0, 2),
    )


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table
