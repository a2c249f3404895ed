"""WebDataset: tar archives in which the files of a sample share the name up to the first dot."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from components.data.address import Span, member
from components.data.source_files import SourceFiles
from components.data.sources.record import Columns, ContainedPicture, Record, container_files, is_picture, other_files
from components.errors import DataError

#: A sample's key and extension, split as the library webdataset does; names with a leading dot are ignored.
_NAME = re.compile(r"(?P<key>(?:.*/)?[^./]+)\.(?P<ending>[^/]+)", re.DOTALL)
#: Maximum size of a text member in bytes.
_MOST_TEXT = 1_000_000
_OTHERS = "members of archives with other endings"


class _Member(NamedTuple):
    """A picture (`ContainedPicture`), text, or parsed JSON; ``fault`` is the error if it is unreadable."""

    key: str
    ending: str
    value: Any
    fault: str = ""


def read_webdataset(store: SourceFiles, file: str | None, columns: Columns) -> Iterator[Record]:
    """One row for each sample of every ``.tar``.

    Columns are the endings (``txt``, ``mask.png``, …) and the fields of the sample's ``json``. Unless they are there,
    ``image`` is the one picture, ``caption`` the ``txt``, ``mask`` the ``mask.png``, and ``word`` the ``cls`` if it is
    no number. Paths in the JSON are names of members.
    """
    files = container_files(store, file, (".tar",))
    yield from other_files(store, file, files)
    for name in files:
        members: list[_Member] = []
        others: list[str] = []
        fault = ""
        try:
            with store.open(name) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
                for one in _members(name, archive, {"txt", "json", "cls", *columns.values()}, others):
                    members.append(one)
        except (OSError, tarfile.TarError, DataError) as error:
            fault = f"{name} cannot be read as an uncompressed tar: {error}"
        held = {one.value.name: one.value for one in members if isinstance(one.value, ContainedPicture)}
        for key, sample in groupby(members, key=lambda one: one.key):
            yield _record(name, key, list(sample), held, columns)
        for other in others:
            yield Record(f"{name}: {other}", None, passed_over=_OTHERS)
        if fault:  # what stands before the damage is read
            yield Record(f"{name} (its rest)" if members else name, None, fault=fault)


def _members(file: str, archive: tarfile.TarFile, texts: set[str], others: list[str]) -> Iterator[_Member]:
    """Pictures, and texts with these extensions, in order. Names of other files, links and devices go to ``others``."""
    for info in archive:
        named = _NAME.fullmatch(info.name)
        if info.isdir():
            continue
        if not info.isreg() or info.issparse() or named is None:
            others.append(info.name)
            continue
        if info.name.startswith("/") or ".." in info.name.split("/"):
            yield _Member(info.name, "", None, f"the name of the member {info.name!r} leaves the archive")
            continue
        key, ending = named["key"], named["ending"].lower()
        if is_picture(info.name):
            span = Span(info.name, info.offset_data, info.size)
            yield _Member(key, ending, ContainedPicture(member(file, span), f"{file}!{info.name}"))
        elif ending in texts:
            yield _text(archive, info, key, ending)
        else:
            others.append(info.name)


def _text(archive: tarfile.TarFile, info: tarfile.TarInfo, key: str, ending: str) -> _Member:
    stream = archive.extractfile(info) if info.size <= _MOST_TEXT else None
    if stream is None:
        return _Member(key, ending, None, f"the {ending} is larger than {_MOST_TEXT} bytes")
    try:
        text = stream.read().decode("utf-8-sig")
        return _Member(key, ending, json.loads(text) if ending.endswith("json") else text.strip())
    except (ValueError, RecursionError):
        return _Member(key, ending, None, f"the {ending} cannot be read")


def _record(file: str, key: str, sample: list[_Member], held: dict[str, ContainedPicture], columns: Columns) -> Record:
    where = f"{file}: {key}"
    values = {one.ending: one.value for one in sample}
    fault = next((one.fault for one in sample if one.fault), "")
    described = values.pop("json", None) or {}
    try:
        if not isinstance(described, dict):
            raise DataError("the json is not an object with fields")
        values |= {name: _named(file, name, value, held, columns) for name, value in described.items()}
        _complete(values, columns)
    except DataError as error:
        fault = fault or str(error)
    return Record(where, values, fault=fault)


def _named(file: str, name: str, value: Any, held: dict[str, ContainedPicture], columns: Columns) -> Any:
    """``value`` of the JSON; names of pictures are replaced by the pictures of the archive."""
    if name not in {columns[field] for field in ("image", "mask", "references")}:
        return value
    if isinstance(value, list):
        return [_named(file, name, one, held, columns) for one in value]
    if isinstance(value, str) and value:
        picture = held.get(f"{file}!{value}")
        if picture is None:
            raise DataError(f"{name}: {value!r} is not a picture of the archive")
        return picture
    return value


def _complete(values: dict[str, Any], columns: Columns) -> None:
    """Fill fields of the schema from the extensions."""
    pictures = {
        ending: value for ending, value in values.items() if isinstance(value, ContainedPicture) and "." not in ending
    }
    if columns["image"] == "image" and "image" not in values and pictures:
        if len(pictures) > 1:
            raise DataError(f"image: several pictures ({', '.join(pictures)}); name one in data.columns")
        values["image"] = next(iter(pictures.values()))
    for name, ending in (("caption", "txt"), ("mask", "mask.png")):
        if ending in values:
            values.setdefault(name, values[ending])
    if not str(values.get("cls", "0")).isdigit():
        values.setdefault("word", values["cls"])
