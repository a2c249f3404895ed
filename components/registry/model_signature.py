"""The input and output columns of a registered model.

=============  ======  ==========================================================================================
``prompt``     string  the prompt
``reference``  binary  optional: an image file (PNG, JPEG, WebP, …) of the subject
``word``       string  optional: the word of the prompt that names the subject; detected by default
``seed``       long    optional: 0 by default
=============  ======  ==========================================================================================

The output has the same rows: ``picture`` (a PNG file), the ``prompt`` that was used, with the subject's word added if
it was missing, and the ``word``, empty without a subject.
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
    """One image to generate; ``row`` is its index in the table."""

    row: int
    prompt: str
    reference: bytes | None
    word: str | None
    seed: int

    def place(self, column: str) -> str:
        """The prefix of error messages about a column."""
        return f"column {column!r}, row {self.row}"


def signature(sampling: SamplingConfig) -> ModelSignature:
    """The columns, and the parameters of a call with their defaults: sampling settings and batch size."""
    columns = [
        ColSpec(DataType.string, "prompt"),
        ColSpec(DataType.binary, "reference", required=False),
        ColSpec(DataType.string, "word", required=False),
        ColSpec(DataType.long, "seed", required=False),
    ]
    output = [
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
    return ModelSignature(Schema(columns), Schema(output), ParamSchema(parameters))


def example() -> pd.DataFrame:
    """An example row."""
    robot = Identity("robot", "orange", "blue", "green", "stripes", "orange", "none")
    reference = png_bytes(draw_reference(robot, _EXAMPLE_SIZE, random.Random(0)))
    row = {"prompt": "a robot on the beach", "reference": reference, "word": "robot", "seed": 0}
    return pd.DataFrame([row])


def read_rows(table: pd.DataFrame) -> Iterator[ImageRow]:
    """The rows of ``table``.

    Raises:
        DataError: a value has the wrong type, or is missing; the message names column and row.
        WordError: the prompt does not contain the word, or the word has no reference.
    """
    for row, values in enumerate(table.to_dict("records")):
        given = {str(name): value for name, value in values.items() if not _is_missing(value)}
        order = ImageRow(row, given.get("prompt", ""), given.get("reference"), given.get("word"), given.get("seed", 0))
        _expect(order, "prompt", str, "text")
        if not order.prompt.strip():
            raise DataError(f"{order.place('prompt')}: it is empty; write a prompt")
        _expect(order, "reference", bytes | None, "the bytes of a picture file")
        _expect(order, "word", str | None, "a word of the prompt")
        _expect(order, "seed", int, "a whole number")
        _check_word(order)
        yield order


def png_bytes(picture: Image.Image) -> bytes:
    """Encode ``picture`` as a PNG file."""
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
        raise WordError(f"{order.place('word')}: it names a subject, but the column 'reference' is empty")
    try:
        require_word(order.prompt, order.word)
    except WordError as error:
        raise WordError(f"{order.place('word')}: {error}") from None


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value == "" or (isinstance(value, float) and value != value)
