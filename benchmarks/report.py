"""What was measured, as a table for people and as JSON for comparison."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """``ratio``: ours to the limit that was measured beside it, or to the goal's own yardstick. ``reached``: None where
    there is no goal to reach. ``figures``: the absolute ones, by a name that says their unit."""

    work: str
    measured: str
    ratio: str = ""
    goal: str = ""
    reached: bool | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


class Judged(TypedDict):
    """What a goal says of a row."""

    ratio: str
    goal: str
    reached: bool


def at_least(
    goal: float, value: float, unit: str = "", *, ratio: str | None = None, written: str | None = None
) -> Judged:
    """``ratio``: unless it is given, ``value`` in parts of the goal or, without a unit, ``value`` itself.
    ``written``: the goal, where it is to be read in other words."""
    return _judged(goal, value, unit, ratio, written or f"≥ {goal:,}{unit}", reached=value >= goal)


def at_most(
    goal: float, value: float, unit: str = "", *, ratio: str | None = None, written: str | None = None
) -> Judged:
    """As ``at_least``."""
    return _judged(goal, value, unit, ratio, written or f"≤ {goal:,}{unit}", reached=value <= goal)


def _judged(goal: float, value: float, unit: str, ratio: str | None, written: str, *, reached: bool) -> Judged:
    if ratio is None:
        ratio = f"{value / goal:.2f} of the goal" if unit else f"{value:.2f}"
    return {"ratio": ratio, "goal": written, "reached": reached}


def print_table(rows: Sequence[Row], console: Console) -> None:
    table = Table("work", "ratio", "measured", "goal", "", title="Benchmarks", show_lines=False)
    for row in rows:
        verdict = "" if row.reached is None else ("[green]reached[/green]" if row.reached else "[red]missed[/red]")
        table.add_row(row.work, row.ratio, row.measured, row.goal, verdict)
    console.print(table)


def write_json(rows: Sequence[Row], file: Path | None, *, seconds: float, load_average: float) -> Path:
    """Under ``results/`` unless ``file`` says where. ``load_average``: the machine's, before anything was begun."""
    now = datetime.now(UTC)
    if file is None:
        RESULTS.mkdir(exist_ok=True)
        file = RESULTS / f"{now:%Y-%m-%dT%H%M%S}.json"
    machine = {"python": platform.python_version(), "processor": platform.machine(), "load_average": load_average}
    document = {"at": now.isoformat(), "seconds": round(seconds), "machine": machine, "rows": [asdict(r) for r in rows]}
    file.write_text(json.dumps(document, indent=1) + "\n")
    return file
