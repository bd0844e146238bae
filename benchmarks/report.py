"""What was measured, as a table for people and as JSON for comparison."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

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
