"""Rows of columnar tables: column types are checked before rows are read; pictures are not loaded."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import types

from components.data.address import Cell, member
from components.data.sources.record import Columns, ContainedPicture, Record, require_columns
from components.errors import DataError

_PICTURE = "bytes, a path, or a struct of bytes and path"
_LISTS = {"box": "a list of numbers", "head_box": "a list of numbers", "references": "a list of paths"}


class PictureColumn(NamedTuple):
    """A column of pictures: the dotted names of its bytes and of its path; None if missing."""

    column: str
    data: str | None
    path: str | None


class Layout(NamedTuple):
    """The columns to read of a table: plain columns, picture columns, and the class names of label columns."""

    plain: list[str]
    pictures: list[PictureColumn]
    labels: dict[str, list[str]]

    @property
    def read(self) -> list[str]:
        """The columns that are loaded, without bytes of pictures."""
        return [*self.plain, *(picture.path for picture in self.pictures if picture.path)]


def lay_out(file: str, schema: pa.Schema, columns: Columns) -> Layout:
    """Match the columns of ``schema`` with the fields.

    Raises:
        DataError: a column is missing or of the wrong type; the message names the file, the field and the type.
    """
    require_columns(file, columns, schema.names)
    labels = _label_names(schema)
    plain, pictures = [], []
    for field, column in columns.items():
        if column not in schema.names:
            continue
        kind = schema.field(column).type
        if field in ("image", "mask"):
            pictures.append(_picture_column(file, field, column, kind))
        else:
            if wanted := _mismatch(field, kind, column in labels):
                raise DataError(f"data.source: {file}: {field}: column {column!r} is {kind}, not {wanted}")
            plain.append(column)
    return Layout(list(dict.fromkeys(plain)), pictures, labels)


def records(
    file: str,
    layout: Layout,
    first: int,
    rows: list[dict[str, Any]],
    present: dict[str, Sequence[bool]],
    cell: Callable[[str, int], Cell],
    wrong: Mapping[int, str],
) -> Iterator[Record]:
    """Rows ``first``, ``first`` + 1 … of ``file``.

    ``rows`` are the columns of `Layout.read`; ``present`` says for each picture column with bytes which rows have
    them, and ``cell`` gives the place of its value in one of ``rows``. ``wrong`` are the faults of `rows_of`.
    """
    for index, values in enumerate(rows):
        number = first + index
        for column, names in layout.labels.items():
            if isinstance(label := values.get(column), int):
                values[column] = names[label] if 0 <= label < len(names) else None
        for picture in layout.pictures:
            if picture.data and present[picture.data][index]:
                place = member(file, cell(picture.data, index))
                values[picture.column] = ContainedPicture(place, f"{file}!{number}")
            else:
                value = values.get(picture.column)
                values[picture.column] = value.get("path") if isinstance(value, dict) else value
        yield Record(f"{file} row {number}", values, posixpath.dirname(file), wrong.get(index, ""))


def rows_of(table: pa.Table) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """The rows of ``table``, and what is wrong with those that hold bytes that are no text, by position."""
    try:
        return table.to_pylist(), {}
    except UnicodeDecodeError:  # Arrow does not check the bytes of a text column
        pass
    rows, wrong = [], {}
    for index in range(table.num_rows):
        try:
            rows.append(table.slice(index, 1).to_pylist()[0])
        except UnicodeDecodeError:
            rows.append(dict.fromkeys(table.column_names))
            wrong[index] = "cannot be read as UTF-8 text"
    return rows, wrong


def said_of(error: DataError) -> str:
    """The message of an error of the whole source, as the fault of one of its files."""
    return str(error).removeprefix("data.source: ")


@contextmanager
def readable(file: str, kind: str) -> Iterator[None]:
    """Turn errors of pyarrow into a `DataError` that names ``file``."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        raise DataError(f"data.source: {file} cannot be read as {kind}: {error}") from None


def _picture_column(file: str, field: str, column: str, kind: pa.DataType) -> PictureColumn:
    if _is_text(kind):
        return PictureColumn(column, None, column)
    if _is_binary(kind):
        return PictureColumn(column, column, None)
    if types.is_struct(kind):
        parts = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
        data = f"{column}.bytes" if _is_binary(parts.get("bytes", pa.null())) else None
        path = f"{column}.path" if _is_text(parts.get("path", pa.null())) else None
        if data or path:
            return PictureColumn(column, data, path)
    raise DataError(f"data.source: {file}: {field}: column {column!r} is {kind}, not {_PICTURE}")


def _mismatch(field: str, kind: pa.DataType, labelled: bool) -> str | None:
    """The expected type of ``field`` if ``kind`` is another one, else None."""
    if types.is_null(kind):
        return None
    if wanted := _LISTS.get(field):
        listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        element = kind.value_type if listed else pa.null()
        right = _is_text(element) if field == "references" else types.is_integer(element) or types.is_floating(element)
        return None if listed and right else wanted
    number = types.is_integer(kind) and (labelled or field == "group")
    return None if _is_text(kind) or number else "text"


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _label_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Column -> class names, from the metadata of Hugging Face's `datasets` in ``schema``."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature["names"] for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}
