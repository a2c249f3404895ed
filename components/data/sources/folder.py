"""An image folder: captions in ``.txt`` files beside the pictures, or in Hugging Face's metadata files."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from components.data.source_files import SourceFiles
from components.data.sources.record import Columns, Record, is_picture, only_folder, read_text, require_columns
from components.data.sources.text_tables import csv_columns, csv_records, jsonl_records

logger = logging.getLogger(__name__)
#: Metadata files of a folder, with a column ``file_name``.
METADATA = ("metadata.jsonl", "metadata.csv")
#: ``cat.mask.png`` is the mask of ``cat.jpg``.
MASK = ".mask.png"
_THREADS = 16


def read_folder(store: SourceFiles, file: str | None, columns: Columns) -> Iterator[Record]:
    """The rows of all metadata files, then other pictures with a ``.txt`` of the same name.

    Without metadata files every picture is a row, and pictures without a caption are errors.
    """
    only_folder(store, file)
    files = store.files()
    metadata = [name for name in files if posixpath.basename(name) in METADATA]
    listed = [record for name in metadata for record in _metadata(store, name, columns)]
    yield from listed
    named = {path for record in listed for path in _paths(record, columns)}
    rest = [name for name in files if is_picture(name) and not name.lower().endswith(MASK) and name not in named]
    yield from _captioned(store, set(files), rest, columns, skip=bool(listed))


def _metadata(store: SourceFiles, file: str, columns: Columns) -> Iterator[Record]:
    """The records of a metadata file; ``file_name`` is their image."""
    text, folder = read_text(store, file), posixpath.dirname(file)
    if file.endswith(".csv"):
        names = csv_columns(text)
        require_columns(file, columns, {*names, "image"} if "file_name" in names else names)
        records = csv_records(text, columns, f"{file} ", folder)
    else:
        records = jsonl_records(text, f"{file} ", folder)
    for record in records:
        values = record.values
        if isinstance(values, dict) and "file_name" in values:
            values.setdefault("image", values["file_name"])
        yield record


def _paths(record: Record, columns: Columns) -> Iterator[str]:
    """All paths in ``record``, relative to the root."""
    if isinstance(record.values, dict):
        for field in ("image", "mask", "references"):
            value = record.values.get(columns[field])
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, str):
                    yield posixpath.normpath(posixpath.join(record.folder, path))


def _captioned(
    store: SourceFiles, there: set[str], pictures: list[str], columns: Columns, skip: bool
) -> Iterator[Record]:
    """``pictures`` with their text files; those without are skipped, or left to fail validation."""
    texts = [text for name in pictures if (text := _beside(name, ".txt")) in there]
    with ThreadPoolExecutor(_THREADS) as threads:
        captions = dict(zip(texts, threads.map(lambda text: read_text(store, text).strip(), texts), strict=True))
    if skip and len(texts) < len(pictures):
        missing = len(pictures) - len(texts)
        logger.warning("data.source: %d pictures have no row in the metadata and no .txt: left out", missing)
    for name in pictures:
        text, mask = _beside(name, ".txt"), _beside(name, MASK)
        values: dict[str, Any] = {columns["image"]: name, columns["mask"]: mask if mask in there else None}
        if text in captions:
            values[columns["caption"]] = captions[text]
        elif skip:
            continue
        yield Record(name, values)


def _beside(name: str, ending: str) -> str:
    return posixpath.splitext(name)[0] + ending
