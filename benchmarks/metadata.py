"""Memory and time of the driver of `prepare` for many rows: reading the source, planning, cutting units, assembling.

    python -m benchmarks.metadata --rows 1000000 --preset sdxl --json

The source is a table of rows whose images do not exist: nothing here opens one. Encoding is the work of other
processes; of what they write the records are real, with random hashes of pictures, and all shards are links to one.
``--json`` prints one object on the last line: seconds of each step, and the process's peak memory after it.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer

from components.config import load_config
from components.data.assemble import assemble, link
from components.data.finished_units import FinishedUnits, RowRecord, UnitRecord, write_shard
from components.data.prepare import plan_work
from components.data.row_index import RowIndex
from components.data.sources import read_source
from components.data.units import Unit, cut_units

#: Images of a subject.
_VIEWS = 4
_BUCKET = "1024x1024"


def main(
    rows: Annotated[int, typer.Option(min=_VIEWS, help="Rows of the source.")] = 1_000_000,
    preset: Annotated[str, typer.Option(help="Preset that sets the rows of a shard.")] = "tiny",
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
        shard = load_config(preset).data.rows_per_shard
        config = load_config("tiny", [f"data.source={source}", f"data.rows_per_shard={shard}"])
        figures: dict[str, float] = {"rows": rows, "start_gb": _peak_gb()}
        began = time.perf_counter()
        read = read_source(config.data)
        figures |= {"read_s": time.perf_counter() - began, "read_gb": _peak_gb()}
        began = time.perf_counter()
        work = plan_work(config, read)
        figures |= {"plan_s": time.perf_counter() - began, "plan_gb": _peak_gb()}
        began = time.perf_counter()
        units = cut_units(work.jobs, config.data.rows_per_shard, {})
        keys = [unit.key for unit in units]
        figures |= {"cut_s": time.perf_counter() - began, "cut_gb": _peak_gb(), "units": len(units)}
        parts = FinishedUnits(Path(folder) / "parts")
        _finish(parts, units)
        began = time.perf_counter()
        made = assemble(parts, keys, RowIndex(read.rows), Path(folder) / "prepared", keep_duplicates=False)
        figures |= {"assemble_s": time.perf_counter() - began, "assemble_gb": _peak_gb()}
        figures |= {"assembled_rows": sum(sum(rows.values()) for rows in made.buckets.values())}
    for name, value in figures.items():
        print(f"{name:>14}  {value:,.2f}")
    if as_json:
        print(json.dumps(figures))


def _finish(parts: FinishedUnits, units: list[Unit]) -> None:
    """Write the records of ``units`` as if they were encoded."""
    parts.directory.mkdir()
    stored, numbers = parts.directory / "stored", np.random.default_rng(0)
    size = write_shard(stored, [pa.table({"id": ["of no row"], "reference": pa.array([0], pa.int32())})])
    for unit in units:
        hashes = numbers.bytes(32 * len(unit.jobs))
        rows = [
            RowRecord(
                id=(subject := job.job["row"]["subject"])["id"],
                image=subject["image"],
                picture_hash=hashes[32 * at : 32 * at + 32].hex(),
                size=(1024, 1024),
                bucket=_BUCKET,
                word="robot",
                word_from="given",
            )
            for at, job in enumerate(unit.jobs)
        ]
        for file in (parts.shard(unit.key, _BUCKET), parts.references(unit.key)):
            link(stored, file)
        facts = {"files": {_BUCKET: size}, "references": size, "rejects": []}
        parts.finish(UnitRecord(key=unit.key, split=unit.split, marks=unit.marks, rows=rows, **facts))


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    typer.run(main)
