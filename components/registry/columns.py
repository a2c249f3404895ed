"""Rows in, pictures out: the columns that a registered model reads and writes, whoever loads it.

=============  ======  ==========================================================================================
``prompt``     string  what to draw
``reference``  binary  optional: a picture file (PNG, JPEG, WebP, …) that shows the subject
``word``       string  optional: the word of the prompt that stands for the subject; without it, it is found
``seed``       long    optional: the same row with the same seed is the same picture; 0 by default
=============  ======  ==========================================================================================

What comes back has the same rows: ``picture`` (a PNG file), the ``prompt`` that was drawn, into which a word that it
lacked was put, and the ``word`` that stood for the subject, empty where there was none.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from PIL import Image

from components.config import SamplingConfig
from components.errors import DataError, WordError
from components.model.words import require_word
from components.world.identities import Identity
from components.world.scenes import draw_reference

#: Side in pixels of the example's reference.
_EXAMPLE_SIZE = 128


@dataclass(frozen=True)
class ImageRow:
    """One picture to draw; ``row`` counts the orders of a table from 0."""

    row: int
    prompt: str
    reference: bytes | None
    word: str | None
    seed: int

    def place(self, column: str) -> str:
        """What an error about this order begins with."""
        return f"column {column!r}, row {self.row}"


def signature(sampling: SamplingConfig) -> ModelSignature:
    """The columns, and a call's parameters with their defaults: how to sample, and how many rows to draw together."""
    columns = [
        ColSpec(DataType.string, "prompt"),
        ColSpec(DataType.binary, "reference", required=False),
        ColSpec(DataType.string, "word", required=False),
        ColSpec(DataType.long, "seed", required=False),
    ]
    drawn = [
        ColSpec(DataType.binary, "picture"),
        ColSpec(DataType.string, "prompt"),
        ColSpec(DataType.string, "word", required=False),
    ]
    parameters = [
        ParamSpec("steps", DataType.long, sampling.steps),
        ParamSpec("guidance_scale", DataType.double, float(sampling.guidance_scale)),
        ParamSpec("height", DataType.long, sampling.height),
        ParamSpec("width", DataType.long, sampling.width),
        ParamSpec("batch_size", DataType.long, 1),
    ]
    return ModelSignature(Schema(columns), Schema(drawn), ParamSchema(parameters))


def example() -> pd.DataFrame:
    """One row that every model can draw."""
    robot = Identity("robot", "orange", "blue", "green", "stripes", "orange", "none")
    reference = png_bytes(draw_reference(robot, _EXAMPLE_SIZE, random.Random(0)))
    row = {"prompt": "a robot on the beach", "reference": reference, "word": "robot", "seed": 0}
    return pd.DataFrame([row])


def read_rows(table: pd.DataFrame) -> Iterator[ImageRow]:
    """The rows of ``table``.

    Raises:
        DataError: a value is of the wrong kind, or missing; column and row are named.
        WordError: a word that its prompt does not hold, or that stands for no reference.
    """
    for row, values in enumerate(table.to_dict("records")):
        given = {str(name): value for name, value in values.items() if not _is_missing(value)}
        order = ImageRow(row, given.get("prompt", ""), given.get("reference"), given.get("word"), given.get("seed", 0))
        _expect(order, "prompt", str, "text")
        if not order.prompt.strip():
            raise DataError(f"{order.place('prompt')}: it is empty; say what to draw")
        _expect(order, "reference", bytes | None, "the bytes of a picture file")
        _expect(order, "word", str | None, "a word of the prompt")
        _expect(order, "seed", int, "a whole number")
        _check_word(order)
        yield order


def png_bytes(picture: Image.Image) -> bytes:
    """The content of a PNG file that shows ``picture``."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _expect(order: ImageRow, column: str, kind: Any, described: str) -> None:
    value = getattr(order, column)
    if not isinstance(value, kind):
        raise DataError(f"{order.place(column)}: expected {described}, not {type(value).__name__}")


def _check_word(order: ImageRow) -> None:
    if order.word is None:
        return
    if order.reference is None:
        raise WordError(f"{order.place('word')}: it stands for a subject, but the column 'reference' shows none")
    try:
        require_word(order.prompt, order.word)
    except WordError as error:
        raise WordError(f"{order.place('word')}: {error}") from None


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value == "" or (isinstance(value, float) and value != value)
