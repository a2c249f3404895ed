"""Memory and time of the driver of `prepare` for many rows: reading the source, planning, and cutting units.

    python -m benchmarks.metadata --rows 1000000 --json

The source is a table of rows whose images do not exist: nothing here opens one. Encoding and writing are the work of
other processes. ``--json`` prints one object on the last line.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from components.config import load_config
from components.data.prepare import plan_work
from components.data.sources import read_source
from components.data.units import cut_units

#: Images of a subject.
_VIEWS = 4


def main(
    rows: Annotated[int, typer.Option(min=_VIEWS, help="Rows of the source.")] = 1_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Print seconds and peak memory of each step."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "pairs.jsonl"
        with source.open("w") as file:
            for number in range(rows):
                group = number // _VIEWS
                row = {"image": f"images/{group}/{number}.jpg", "caption": f"a red robot number {number} on the beach"}
                file.write(json.dumps(row | {"word": "robot", "group": f"subject-{group}"}) + "\n")
        config = load_config("tiny", [f"data.source={source}"])
        figures: dict[str, float] = {"rows": rows, "start_gb": _peak_gb()}
        began = time.perf_counter()
        read = read_source(config.data)
        figures |= {"read_s": time.perf_counter() - began, "read_gb": _peak_gb()}
        began = time.perf_counter()
        work = plan_work(config, read)
        figures |= {"plan_s": time.perf_counter() - began, "plan_gb": _peak_gb()}
        began = time.perf_counter()
        units = cut_units(work.jobs, config.data.rows_per_shard, {})
        figures |= {"cut_s": time.perf_counter() - began, "cut_gb": _peak_gb(), "units": len(units)}
    for name, value in figures.items():
        print(f"{name:>10}  {value:,.2f}")
    if as_json:
        print(json.dumps(figures))


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    typer.run(main)
