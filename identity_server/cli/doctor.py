"""`identity-server doctor`."""

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from identity_server.cli.checks.delivery import check_sms, check_smtp
from identity_server.cli.checks.finding import Finding, problem
from identity_server.cli.checks.network import (
    check_certificates,
    check_dns,
    check_homeservers,
    check_name,
    check_public_url,
)
from identity_server.cli.checks.risks import check_risks
from identity_server.cli.checks.storage import check_database, check_keys
from identity_server.cli.context import console, run, settings_of
from identity_server.runtime.clock import Clock, SystemClock
from identity_server.settings import Settings

_PATIENCE_SECONDS = 15
_MARKS = {
    "fine": Text("✓", "bold green"),
    "warning": Text("!", "bold yellow"),
    "problem": Text("✗", "bold red"),
}
_STYLES = {"fine": "", "warning": "yellow", "problem": "red"}


def doctor(context: typer.Context) -> None:
    """Check the configuration and everything that the server needs, and say what to mend.

    Nothing is changed and no message is sent. Ends with 1 if something does not work.
    """
    findings: list[Finding] = run(_watched(settings_of(context), context.obj))
    console.print(_report(findings))
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)


async def examine(settings: Settings, clock: Clock, file: Path | None = None) -> list[Finding]:
    """Everything that can be found out, in the order in which it is shown; each check within 15 seconds."""
    checks: dict[str, Coroutine[Any, Any, list[Finding]]] = {
        "name": check_name(settings),
        "dns": check_dns(settings),
        "public URL": check_public_url(settings, clock),
        "certificate": check_certificates(settings, clock),
        "keys": check_keys(settings),
        "database": check_database(settings, clock),
        "email": check_smtp(settings),
        "sms": check_sms(settings),
        "homeserver": check_homeservers(settings, clock),
        "settings": check_risks(settings, file),
    }
    found = await asyncio.gather(*(_bounded(subject, check) for subject, check in checks.items()))
    return [finding for findings in found for finding in findings]


async def _bounded(subject: str, check: Coroutine[Any, Any, list[Finding]]) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await check
    except TimeoutError:
        return [problem(subject, f"no answer within {_PATIENCE_SECONDS} seconds", "see whether it is overloaded")]
    except Exception as error:  # one check that breaks must not hide what the others found
        return [problem(subject, f"could not be checked: {type(error).__name__}: {error}", "please report this")]


async def _watched(settings: Settings, file: Path | None) -> list[Finding]:
    with console.status("Looking at the server …"):
        return await examine(settings, SystemClock(), file)


def _report(findings: Sequence[Finding]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=1)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        said = Text.assemble((finding.text, _STYLES[finding.level]))
        if finding.mend:
            said.append(f"\n→ {finding.mend}")
        table.add_row(_MARKS[finding.level], finding.subject, said)
    return Group(table, "", _verdict(findings))


def _verdict(findings: Sequence[Finding]) -> Text:
    counts = {level: sum(finding.level == level for finding in findings) for level in ("problem", "warning")}
    said = [f"{count} {level}{'s' if count != 1 else ''}" for level, count in counts.items() if count]
    if not said:
        return Text("All is well.", "bold green")
    return Text(f"{' and '.join(said)}.", "bold red" if counts["problem"] else "bold yellow")
