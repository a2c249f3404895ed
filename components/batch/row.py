"""A row of the table: one image with all its parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from components.config import SamplingConfig
from components.errors import DataError

#: The form of ids, which are file names.
ID = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$"
_SIZE = r"^[1-9]\d{1,4}x[1-9]\d{1,4}$"
#: Columns of a row with one subject, and the corresponding fields of `SubjectRow`.
_FLAT = {
    "reference": "references",
    "references": "references",
    "character": "character",
    "word": "word",
    "strength": "strength",
    "face_strength": "face_strength",
    "body_strength": "body_strength",
}


class SubjectRow(BaseModel):
    """A subject: ``references``, paths below the table's folder, or a stored ``character``'s id; and its word."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    references: tuple[str, ...] = Field((), max_length=8)
    character: str | None = None
    #: By default the character's own word, or the word that describes the reference.
    word: str | None = Field(None, min_length=1, max_length=64)
    strength: float = Field(1, ge=0, le=2)
    face_strength: float = Field(1, ge=0, le=2)
    body_strength: float = Field(1, ge=0, le=2)

    @field_validator("references", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if isinstance(value, str) and value.lstrip().startswith("["):
            return _json(value, "references")
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_of_both(self) -> SubjectRow:
        if bool(self.references) == (self.character is not None):
            raise ValueError("give a reference or a character, and not both")
        return self


class BatchRow(BaseModel):
    """One image. Unknown columns are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, str_strip_whitespace=True, coerce_numbers_to_str=True)

    #: The file name of the image.
    id: str = Field(pattern=ID)
    prompt: str = Field(min_length=1, max_length=4000)
    negative_prompt: str = Field("", max_length=4000)
    seed: int = Field(0, ge=0, lt=2**32)
    size: str = Field(pattern=_SIZE)
    steps: int = Field(ge=1, le=1000)
    guidance_scale: float = Field(ge=1, le=30)
    mask_scope: float | None = Field(None, gt=0, le=1)
    subjects: tuple[SubjectRow, ...] = Field((), max_length=4)

    @model_validator(mode="before")
    @classmethod
    def _gather_subject(cls, values: Any) -> Any:
        """Collect the columns of a single subject into ``subjects``, and parse JSON of text tables."""
        given = {name: value for name, value in values.items() if value not in (None, "")}
        flat = {field: given.pop(name) for name, field in _FLAT.items() if name in given}
        if isinstance(given.get("subjects"), str):
            given["subjects"] = _json(given["subjects"], "subjects")
        if flat and given.get("subjects"):
            raise ValueError("give subjects, or the columns of one subject, and not both")
        return given | ({"subjects": [flat]} if flat else {})

    @model_validator(mode="after")
    def _is_consistent(self) -> BatchRow:
        if self.width % 8 or self.height % 8:
            raise ValueError("size: both sides must be multiples of 8")
        if len(self.subjects) > 1 and any(s.word is None and s.character is None for s in self.subjects):
            raise ValueError("word: each of several references needs one")
        return self

    @property
    def width(self) -> int:
        return int(self.size.partition("x")[0])

    @property
    def height(self) -> int:
        return int(self.size.partition("x")[2])

    @property
    def references(self) -> list[str]:
        return [reference for subject in self.subjects for reference in subject.references]


#: Known columns.
COLUMNS = frozenset(BatchRow.model_fields) | frozenset(_FLAT)


def read_row(values: Any, identifier: str, sampling: SamplingConfig) -> BatchRow:
    """The row with ``values`` by column; ``identifier`` and ``sampling`` give the defaults.

    Raises:
        DataError: a value is invalid; the message names the column, not the value.
    """
    if not isinstance(values, Mapping):
        raise DataError("the row is no JSON object")
    defaults = {
        "id": identifier,
        "size": f"{sampling.width}x{sampling.height}",
        "steps": sampling.steps,
        "guidance_scale": sampling.guidance_scale,
    }
    try:
        given = {column: value for column, value in values.items() if column in COLUMNS and value not in (None, "")}
        return BatchRow.model_validate(defaults | given)
    except ValidationError as error:
        first = error.errors()[0]
        column = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise DataError(f"{column}: {message}" if column else message) from None


def _json(text: str, column: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError(f"{column}: must be a JSON list") from None
