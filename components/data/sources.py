"""Where rows come from: a JSON-lines file, a CSV file, or a folder of photographs a subject (DreamBench)."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.config import DataConfig
from components.data.schema import SourceRow, SubjectCaption
from components.data.store import Store
from components.errors import DataError

#: The file that a jsonl or csv source given as a folder holds.
PAIRS = {"jsonl": "pairs.jsonl", "csv": "pairs.csv"}
CLASSES = "prompts_and_classes.txt"
_PHOTOGRAPHS = {".jpg", ".jpeg", ".png", ".webp"}
_SHOWN = 3


@dataclass(frozen=True)
class Source:
    """A source that has been read: all rows, in a fixed order, and where their pictures are."""

    store: Store
    rows: list[SourceRow]


def read_source(data: DataConfig) -> Source:
    """Read the rows of ``data.source``; no picture is opened.

    Raises:
        DataError: the source is missing or empty, or any of its rows is not a `SubjectCaption` or points outside it.
    """
    if not data.source.exists():
        raise DataError(f"data.source: {data.source} does not exist; give a folder or file in format {data.format!r}")
    if data.format == "dreambench":
        root, written = data.source, _dreambench(data.source)
    else:
        file = data.source / PAIRS[data.format] if data.source.is_dir() else data.source
        if not file.is_file():
            raise DataError(f"data.source: {file} does not exist; add it, or name the file itself")
        root, written = file.parent, (_jsonl if data.format == "jsonl" else _csv)(file)
    rows, faults = _validate(root.resolve(), written)
    if faults:
        more = f" (and {len(faults) - _SHOWN} more)" if len(faults) > _SHOWN else ""
        raise DataError(f"data.source: {data.source}: {'; '.join(faults[:_SHOWN])}{more}")
    if not rows:
        raise DataError(f"data.source: {data.source} holds no rows")
    return Source(Store.at(root), rows)


def _jsonl(file: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_text(file).split("\n"), start=1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except json.JSONDecodeError:
                yield f"line {number}", None


def _csv(file: Path) -> Iterator[tuple[str, Any]]:
    """Columns are named after the fields; an empty cell is a missing value, lists are written as JSON."""
    for number, cells in enumerate(csv.DictReader(io.StringIO(_text(file), newline="")), start=2):
        row: dict[str, Any] = {name: cell for name, cell in cells.items() if name and cell}
        for name in row.keys() & {"box", "head_box", "references"}:
            row[name] = _list(row[name])
        yield f"line {number}", row


def _list(cell: str) -> Any:
    """The JSON list in ``cell``; anything else is left for the schema to refuse."""
    try:
        return json.loads(cell)
    except json.JSONDecodeError:
        return cell


def _dreambench(folder: Path) -> Iterator[tuple[str, Any]]:
    """One folder a subject; its class is the caption's word, and its photographs are each other's references."""
    classes = _classes(folder / CLASSES)
    for subject in sorted(p for p in folder.iterdir() if p.is_dir()):
        photographs = sorted(f"{subject.name}/{p.name}" for p in subject.iterdir() if p.suffix.lower() in _PHOTOGRAPHS)
        if photographs and subject.name not in classes:
            raise DataError(f"data.source: {folder / CLASSES} names no class for {subject.name!r}; add a line to it")
        for photograph in photographs:
            noun = classes[subject.name]
            yield (
                photograph,
                {
                    "image": photograph,
                    "caption": f"a photo of a {noun}",
                    "word": noun,
                    "group": subject.name,
                    "references": [other for other in photographs if other != photograph],
                },
            )


def _classes(file: Path) -> dict[str, str]:
    """Subject -> class, from the lines between the headings ``subject_name,class`` and ``Prompts``."""
    if not file.is_file():
        raise DataError(f"data.source: {file} does not exist; it says which class each subject's folder is of")
    _, heading, table = _text(file).partition("subject_name,class\n")
    if not heading:
        raise DataError(f"data.source: {file} has no line 'subject_name,class'")
    lines = (line.strip() for line in table.partition("\nPrompts")[0].splitlines())
    return {name: noun for name, comma, noun in (line.partition(",") for line in lines) if comma}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.source: {file} cannot be read as UTF-8 text ({type(error).__name__})") from None


def _validate(root: Path, written: Iterator[tuple[str, Any]]) -> tuple[list[SourceRow], list[str]]:
    """Rows that follow the schema, and a line about each one that does not."""
    rows: list[SourceRow] = []
    faults: list[str] = []
    seen: Counter[str] = Counter()
    for where, values in written:
        try:
            row = SubjectCaption.model_validate(values)
            image = _inside(root, row.image, "image")
            mask = _inside(root, row.mask, "mask") if row.mask else None
            references = None if row.references is None else [_inside(root, r, "references") for r in row.references]
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            faults.append(f"{where}: {field}: {first['msg']}" if field else f"{where}: not an object with fields")
            continue
        except ValueError as error:
            faults.append(f"{where}: {error}")
            continue
        seen[image] += 1
        name = image if seen[image] == 1 else f"{image}#{seen[image]}"
        rows.append(
            {
                "subject": {"id": name, "image": image, "mask": mask, "box": row.box, "head_box": row.head_box},
                "caption": row.caption,
                "word": row.word,
                "group": row.group or name,
                "references": references,
                "source": row.source or image,
            }
        )
    return rows, faults


def _inside(root: Path, path: str, field: str) -> str:
    """``path`` relative to ``root``, links followed."""
    resolved = (root / path).resolve()
    if not resolved.is_relative_to(root):
        raise ValueError(f"{field}: the path leaves the source's folder; move the file into it")
    return resolved.relative_to(root).as_posix()
