"""An image folder: captions in ``.txt`` files beside the pictures, or in Hugging Face's metadata files."""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from components.data.source_files import SourceFiles
from components.data.sources.record import (
    Columns,
    Record,
    fault_of_text,
    is_picture,
    is_system_file,
    only_folder,
    open_text,
    pass_over,
    require_columns,
)
from components.data.sources.text_tables import csv_columns, csv_records, jsonl_records
from components.errors import DataError

#: Metadata files of a folder, with a column ``file_name``.
METADATA = ("metadata.jsonl", "metadata.csv")
#: ``cat.mask.png`` is the mask of ``cat.jpg``.
MASK = ".mask.png"
_THREADS = 16
#: Text files that are read at a time.
_CAPTIONS = 1024
#: Endings of files that are not opened to see whether they are pictures.
_NO_PICTURES = (
    ".txt",
    ".json",
    ".jsonl",
    ".csv",
    ".tsv",
    ".md",
    ".yaml",
    ".yml",
    ".py",
    ".npy",
    ".npz",
    ".parquet",
    ".zip",
)
#: First bytes of JPEG, PNG, GIF, BMP, TIFF and WebP (RIFF), and the box types of HEIC and AVIF.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
_BOXES = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif", b"ftypheif")


def read_folder(store: SourceFiles, file: str | None, columns: Columns) -> Iterator[Record]:
    """The rows of all metadata files, then other pictures with a ``.txt`` of the same name.

    Without metadata files every picture is a row, and pictures without a caption are errors.
    """
    only_folder(store, file)
    everything = store.files()
    files = [name for name in everything if not is_system_file(name)]
    metadata = [name for name in files if posixpath.basename(name) in METADATA]
    named: set[str] = set()
    listed = False
    for name in metadata:
        for record in _metadata(store, name, columns):
            named.update(_paths(record, columns))
            listed = True
            yield record
    pictures = [name for name in files if name not in named and _may_be_picture(store, name)]
    rest = [name for name in pictures if not name.lower().endswith(MASK)]
    yield from _captioned(store, set(files), rest, columns, skip=listed)
    read = {*metadata, *named, *pictures, *(_beside(name, ".txt") for name in rest)}
    yield from (pass_over(name) for name in everything if name not in read)


def _metadata(store: SourceFiles, file: str, columns: Columns) -> Iterator[Record]:
    """The records of a metadata file; ``file_name`` is their image."""
    folder = posixpath.dirname(file)
    with open_text(store, file) as text:
        if file.endswith(".csv"):
            rows = csv.DictReader(text)
            names = csv_columns(rows)
            require_columns(file, columns, {*names, "image"} if "file_name" in names else names)
            records = csv_records(rows, columns, f"{file} ", folder)
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
    with ThreadPoolExecutor(_THREADS) as threads:
        for start in range(0, len(pictures), _CAPTIONS):
            part = pictures[start : start + _CAPTIONS]
            texts = [text for name in part if (text := _beside(name, ".txt")) in there]
            captions = dict(zip(texts, threads.map(lambda text: _caption(store, text), texts), strict=True))
            yield from (_record(name, captions, there, columns, skip) for name in part)


def _record(
    name: str, captions: Mapping[str, tuple[str, str]], there: set[str], columns: Columns, skip: bool
) -> Record:
    """The row of the picture ``name``."""
    text, mask = _beside(name, ".txt"), _beside(name, MASK)
    values: dict[str, Any] = {columns["image"]: name, columns["mask"]: mask if mask in there else None}
    if text in captions:
        values[columns["caption"]], fault = captions[text]
        return Record(name, values, fault=fault)
    if skip:
        return Record(name, None, passed_over="pictures without a row or a caption")
    return Record(name, values)


def _caption(store: SourceFiles, file: str) -> tuple[str, str]:
    """A caption, and why it cannot be read if it cannot."""
    try:
        text = store.read(file).decode("utf-8-sig", "surrogateescape").strip()
    except DataError as error:
        return "", f"the caption: {error}"
    fault = fault_of_text(text)
    return text, fault and f"the caption {fault}"


def _may_be_picture(store: SourceFiles, name: str) -> bool:
    """By its ending; a file with an unknown one by its first bytes."""
    if is_picture(name):
        return True
    if posixpath.splitext(name)[1].lower() in _NO_PICTURES:
        return False
    try:
        with store.open(name) as stream:
            start = stream.read(16)
    except (DataError, OSError):
        return False
    return start.startswith(_SIGNATURES) or start[4:12] in _BOXES


def _beside(name: str, ending: str) -> str:
    return posixpath.splitext(name)[0] + ending
