"""`evaluate_dreambench`: generate, score, and write the report. A killed run resumes."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.config import Config
from components.evaluation.dreambench.gallery import write_gallery
from components.evaluation.dreambench.generate import generate_missing
from components.evaluation.dreambench.image_store import ImageStore
from components.evaluation.dreambench.protocol import Protocol, read_protocol
from components.evaluation.dreambench.result_tables import BY_OTHERS, TITLES, ResultTable, as_text, tables
from components.evaluation.dreambench.score import real_row, score_missing
from components.evaluation.encoders import encoder_names
from components.evaluation.model_facts import model_facts
from components.files import replacing_file, write_whole
from components.fingerprint import fingerprint

PICTURES, TABLES, GALLERY, PROTOCOL = "pictures.parquet", "tables.md", "gallery.html", "protocol.json"
#: Versions of the code. Increment them when it generates other images, or scores the same images differently.
_GENERATION, _SCORING = 1, 1


@dataclass(frozen=True)
class Outcome:
    """The result: its ``directory``, a row for each image, the tables, and the numbers of new images and scores."""

    directory: Path
    rows: list[dict[str, Any]]
    metrics: tuple[str, ...]
    tables: list[ResultTable]
    generated: int
    scored: int


def evaluate_dreambench(config: Config, adapter: Path) -> Outcome:
    """Run the protocol for the ``adapter`` directory, reusing earlier results, and write the report.

    Raises:
        DataError: the source is no DreamBench folder.
        ArtifactError: a model or an encoder cannot be loaded.
    """
    protocol = read_protocol(config.evaluation.dreambench, config.evaluation.seed)
    facts = _facts(config, adapter, protocol)
    root = config.evaluation.output.absolute() / "dreambench" / fingerprint(facts["drawing"])
    images = ImageStore(root, fingerprint(facts["scoring"]))
    generated = generate_missing(config, adapter, protocol, images)
    scored = score_missing(config, protocol, images)
    return _report(config, protocol, images, facts, (generated, scored))


def _facts(config: Config, adapter: Path, protocol: Protocol) -> dict[str, Any]:
    """Everything that images and scores depend on, except their number."""
    marks = protocol.store.marks(p for subject in protocol.everyone for p in subject.photographs)
    photographs = {s.name: [marks[p] for p in s.photographs] for s in protocol.everyone}
    drawing = {
        "code": _GENERATION,
        "model": model_facts(config, adapter),
        "references": {name: own[0] for name, own in photographs.items()},
        "lists": protocol.lists,
        "region": config.data.region,
    }
    scoring = {
        "code": _SCORING,
        "encoders": encoder_names(config.evaluation),
        "view": config.vision.view_size,
        "photographs": photographs,
        "region": config.data.region,
        "mask": config.evaluation.dreambench.mask,
    }
    return {"drawing": drawing, "scoring": scoring}


def _report(
    config: Config, protocol: Protocol, images: ImageStore, facts: dict[str, Any], done: tuple[int, int]
) -> Outcome:
    directory = images.root / "reports" / images.scores
    directory.mkdir(parents=True, exist_ok=True)
    nouns = {subject.name: subject for subject in protocol.subjects}
    rows: list[dict[str, Any]] = []
    scores: dict[str, list[dict[str, float | None]]] = defaultdict(list)
    for spec in protocol.specs:
        row = images.row(spec.name)
        scores[spec.subject].append(row)
        picture = images.picture_file(spec).relative_to(images.root).as_posix()
        rows.append({**spec.row(), "live": nouns[spec.subject].live, "picture": picture, **row})
    metrics = tuple(scores[protocol.subjects[0].name][0])
    photographs = {subject.name: images.row(real_row(subject.name)) for subject in protocol.subjects}
    made = tables(scores, photographs, metrics[-1])
    _write_rows(rows, metrics, directory / PICTURES)
    write_whole(directory / TABLES, "\n".join([_heading(protocol, facts), *map(_markdown, made)]))
    write_whole(directory / PROTOCOL, json.dumps({**facts, "missing": protocol.missing}, indent=1))
    write_gallery(directory / GALLERY, config, protocol, images, rows, made)
    return Outcome(directory, rows, metrics, made, *done)


def _write_rows(rows: list[dict[str, Any]], metrics: tuple[str, ...], file: Path) -> None:
    fixed = {"prompt": pa.int32(), "seed": pa.int64(), "live": pa.bool_(), **{name: pa.float64() for name in metrics}}
    schema = pa.schema([(name, fixed.get(name, pa.string())) for name in rows[0]])
    with replacing_file(file) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), partial)


def _heading(protocol: Protocol, facts: dict[str, Any]) -> str:
    missing = f"; without photographs: {', '.join(protocol.missing)}" if protocol.missing else ""
    encoders = ", ".join(f"{role} {name}" for role, name in facts["scoring"]["encoders"].items())
    return (
        f"# DreamBench\n\n{len(protocol.subjects)} subjects, {len(protocol.specs)} pictures{missing}.\n"
        f"Encoders: {encoders}. Intervals: 95 %, bootstrap over subjects.\n"
    )


def _markdown(table: ResultTable) -> str:
    lines = [f"## {TITLES[table.variant]}\n", "| | " + " | ".join(table.metrics) + " | |"]
    lines.append("|---" * (len(table.metrics) + 2) + "|")
    for row in table.rows:
        cells = " | ".join(as_text(row.cells[name]) for name in table.metrics)
        lines.append(f"| {row.name} | {cells} | {BY_OTHERS if row.by_others else ''} |")
    return "\n".join(lines) + "\n"
