"""A row as its source has it, and how its columns are matched with the fields of `SubjectCaption`."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from components.data.schema import SubjectCaption
from components.data.source_files import SourceFiles
from components.errors import DataError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
FIELDS = tuple(SubjectCaption.model_fields)
REQUIRED = tuple(name for name, field in SubjectCaption.model_fields.items() if field.is_required())


class Held(NamedTuple):
    """A picture inside a container: its address, and a name for people that does not change with its place there."""

    address: str
    name: str


@dataclass(frozen=True)
class Record:
    """One row, before it is checked.

    ``where`` it stands, its ``values`` by the source's column names (should be a mapping; a picture is a path or
    `Held`), and the ``folder`` below the root that its paths are relative to.
    """

    where: str
    values: Any
    folder: str = ""
    #: Why it cannot be read at all.
    fault: str = ""


#: The source's name of every field.
Columns = Mapping[str, str]
#: Reads the rows of a store: of the file that is named, or (None) of the whole folder.
Reader = Callable[[SourceFiles, str | None, Columns], Iterator[Record]]


def match_columns(given: Mapping[str, str]) -> Columns:
    """Complete ``data.columns``: a field that it does not name has a column of its own name, one named "" has none.

    Raises:
        DataError: a name that is no field.
    """
    if unknown := sorted(given.keys() - set(FIELDS)):
        raise DataError(f"data.columns: {unknown[0]!r} is not a field; the fields are {', '.join(FIELDS)}")
    return {name: given.get(name, name) for name in FIELDS}


def missing_column(field: str, column: str, there: Collection[str]) -> str:
    """What to say about a field that has no column."""
    shown = ", ".join(sorted(there)) or "none"
    return f"{field}: no column {column!r} (there are: {shown}); name its column, --set 'data.columns={{{field}: …}}'"


def require_columns(where: str, columns: Columns, there: Collection[str]) -> None:
    """Refuse a table that lacks the column of a field that is required, or that ``data.columns`` names.

    Raises:
        DataError: names the table, the field and the columns that are there.
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


def only_folder(store: SourceFiles, file: str | None) -> None:
    """Refuse a single file where the format is a whole folder."""
    if file is not None:
        raise DataError(f"data.source: {store.url}/{file} is a file; name the folder that it stands in")


def is_picture(name: str) -> bool:
    return posixpath.splitext(name)[1].lower() in PICTURES


def container_files(store: SourceFiles, file: str | None, endings: tuple[str, ...]) -> list[str]:
    """The file that is named, or every file below the root with one of ``endings``, in order.

    Raises:
        DataError: there is none, or its name holds the sign that addresses use.
    """
    files = [file] if file is not None else [name for name in store.files() if name.lower().endswith(endings)]
    if not files:
        raise DataError(f"data.source: {store.url} holds no {' or '.join(endings)} file")
    if wrong := next((name for name in files if "!" in name), None):
        raise DataError(f"data.source: {wrong}: a container's path must not hold '!'; rename it")
    return files
