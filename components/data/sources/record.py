"""Unvalidated rows of a source, and the mapping of columns to fields of `SubjectCaption`."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TextIO

from components.data.schema import SubjectCaption
from components.data.source_files import SourceFiles
from components.errors import DataError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
#: Other endings of pictures; what cannot be decoded is rejected by content, and counted.
OTHER_PICTURES = (
    ".jfif",
    ".jpe",
    ".jif",
    ".jfi",
    ".pjpeg",
    ".dib",
    ".gif",
    ".apng",
    ".heic",
    ".heif",
    ".avif",
    ".jp2",
    ".jxl",
    ".tga",
)
#: Files that systems and programs leave in folders, beside those whose names begin with a dot.
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "@eadir"})
FIELDS = tuple(SubjectCaption.model_fields)
REQUIRED = tuple(name for name, field in SubjectCaption.model_fields.items() if field.is_required())


class ContainedPicture(NamedTuple):
    """A picture inside a container: its address, and a readable name that is independent of its position."""

    address: str
    name: str


@dataclass(frozen=True)
class Record:
    """One row before validation.

    Its position ``where`` for messages, its ``values`` by column (should be a mapping; a picture is a path or
    `ContainedPicture`), and the ``folder`` below the root that its paths are relative to.
    """

    where: str
    values: Any
    folder: str = ""
    #: Why the row is unreadable, if it is.
    fault: str = ""
    #: Why this is no row but a file that was passed over, if it is.
    passed_over: str = ""


#: Field -> column of the source.
Columns = Mapping[str, str]
#: Reads the rows of a store: of one file, or (None) of the whole folder.
Reader = Callable[[SourceFiles, str | None, Columns], Iterator[Record]]


def match_columns(given: Mapping[str, str]) -> Columns:
    """Complete ``data.columns``: the default column of a field has its name; "" means no column.

    Raises:
        DataError: a name is no field.
    """
    if unknown := sorted(given.keys() - set(FIELDS)):
        raise DataError(f"data.columns: {unknown[0]!r} is not a field; the fields are {', '.join(FIELDS)}")
    return {name: given.get(name, name) for name in FIELDS}


def missing_column(field: str, column: str, there: Collection[str]) -> str:
    """The message about a field without a column."""
    shown = ", ".join(sorted(there)) or "none"
    return f"{field}: no column {column!r} (there are: {shown}); name its column, --set 'data.columns={{{field}: …}}'"


def require_columns(where: str, columns: Columns, there: Collection[str]) -> None:
    """Check that a table has the columns of required fields, and those that ``data.columns`` names.

    Raises:
        DataError: one is missing; the message names the table, the field and the existing columns.
    """
    for field, column in columns.items():
        if column not in there and (field in REQUIRED or column not in ("", field)):
            raise DataError(f"data.source: {where}: {missing_column(field, column, there)}")


def read_text(store: SourceFiles, file: str) -> str:
    """The text of ``file`` below the store's root.

    Raises:
        DataError: it is missing, or not UTF-8.
    """
    try:
        return store.read(file).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"data.source: {store.url}/{file} cannot be read as UTF-8 text") from None
    except DataError as error:
        raise DataError(f"data.source: {store.url}/{file}: {error}") from None


@contextmanager
def open_text(store: SourceFiles, file: str) -> Iterator[TextIO]:
    """``file`` as text, of which only a part is in memory; line breaks are not changed.

    Bytes that are no UTF-8 are kept apart, so that `fault_of_text` finds their lines.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with store.stream(file) as stream:
            yield io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
    except DataError as error:
        if str(error).startswith("data.source:"):  # about what stands in it
            raise
        raise DataError(f"data.source: {store.url}/{file}: {error}") from None


def fault_of_text(text: str) -> str:
    """Why a part of `open_text` cannot be used; empty if it can."""
    return "cannot be read as UTF-8 text" if any("\ud800" <= letter <= "\udfff" for letter in text) else ""


def only_folder(store: SourceFiles, file: str | None) -> None:
    """Reject a single file where the format requires a folder."""
    if file is not None:
        raise DataError(f"data.source: {store.url}/{file} is a file; name the folder that it stands in")


def is_picture(name: str) -> bool:
    return posixpath.splitext(name)[1].lower() in (*PICTURES, *OTHER_PICTURES)


def is_system_file(name: str) -> bool:
    """Whether ``name``, or a folder that it lies in, is hidden or a file of the system's own."""
    return any(part.startswith(".") or part.lower() in _SYSTEM_FILES for part in name.split("/"))


def pass_over(name: str) -> Record:
    """The record of a file that is not read."""
    kind = "hidden and system files" if is_system_file(name) else "files of other kinds"
    return Record(name, None, passed_over=kind)


def visible_files(store: SourceFiles) -> list[str]:
    """All files of ``store`` but those of `is_system_file`."""
    return [name for name in store.files() if not is_system_file(name)]


def other_files(store: SourceFiles, file: str | None, read: Collection[str]) -> Iterator[Record]:
    """The files of a folder that are not ``read``, as passed over."""
    if file is None:
        yield from (pass_over(name) for name in store.files() if name not in read)


def container_files(store: SourceFiles, file: str | None, endings: tuple[str, ...]) -> list[str]:
    """The given file, or every file below the root with one of ``endings``, in order.

    Raises:
        DataError: there is none, or its name contains the separator of addresses.
    """
    files = [file] if file is not None else [name for name in visible_files(store) if name.lower().endswith(endings)]
    if not files:
        raise DataError(f"data.source: {store.url} holds no {' or '.join(endings)} file")
    if wrong := next((name for name in files if "!" in name), None):
        raise DataError(f"data.source: {wrong}: a container's path must not hold '!'; rename it")
    return files
