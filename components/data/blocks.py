"""Serialization of units between stages: a block of one row each, with text as JSON and pixels as bytes.

Bytes rather than tensors, since the pictures of a unit may differ in size; Arrow passes them on without a copy. Errors
that stop the preparation, such as a full disk or a missing model, are passed to the driver as blocks, since Ray would
wrap an exception in its own type.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from components import errors
from components.data.aspect_buckets import Bucket
from components.data.curate import Curated, Row
from components.data.rejects import Reject
from components.data.subject_image import Pixels, ReferenceCutOut, TrainingView
from components.data.units import MarkedRow, Unit
from components.errors import RealCustomError

_NOTHING = np.empty(0, np.uint8)
_TEXT, _PIXELS, _ROWS, _ERROR = "text", "pixels", "rows", "error"


def curated_block(unit: Unit, curated: Curated) -> pa.Table:
    """A curated ``unit`` as a block of one row."""
    pictures: list[Pixels | None] = [p for view in curated.views for p in (view.picture, view.mask, view.head)]
    pictures += [cutout.pixels for cutout in curated.cutouts]
    text = {
        "jobs": list(unit.jobs),
        "rows": curated.rows,
        "views": [view._replace(picture=None, mask=None, head=None) for view in curated.views],  # type: ignore[arg-type]
        "face_boxes": [cutout.face_box for cutout in curated.cutouts],
        "rejects": curated.rejects,
        "cutout_ids": curated.cutout_ids,
    }
    return _block(text, pictures)


def stopped_block(error: RealCustomError) -> pa.Table:
    """The block that replaces a `curated_block` when ``error`` stops the work."""
    return _block({_ERROR: _packed(error)}, [])


def read_curated(block: pa.Table, row: int) -> tuple[Unit, Curated]:
    """The unit and pixels that `curated_block` wrote; the pixels are views of the block's memory.

    Raises:
        RealCustomError: the block is a `stopped_block`.
    """
    text = json.loads(block[_TEXT][row].as_py())
    if _ERROR in text:
        raise _error(text[_ERROR])
    pixels = list(block[_PIXELS][row].values)
    planes = 3 * len(text["views"])
    views = [_view(facts, pixels[3 * i : 3 * i + 3]) for i, facts in enumerate(text["views"])]
    cutouts = [_cutout(value, box) for value, box in zip(pixels[planes:], text["face_boxes"], strict=True)]
    return _unit(text["jobs"]), Curated(
        [_row(row) for row in text["rows"]],
        views,
        cutouts,
        [Reject(*reject) for reject in text["rejects"]],
        text["cutout_ids"],
    )


def done_block(rows: int) -> pa.Table:
    """The result of a finished unit with a number of ``rows``."""
    return pa.table({_ROWS: [rows], _ERROR: pa.array([None], pa.string())})


def failed_block(error: RealCustomError) -> pa.Table:
    """The result of a unit whose work ``error`` stopped."""
    return pa.table({_ROWS: [0], _ERROR: [json.dumps(_packed(error))]})


def read_done(block: pa.Table) -> int:
    """The number of finished rows in ``block``.

    Raises:
        RealCustomError: the error that stopped the work.
    """
    for error in block[_ERROR].to_pylist():
        if error is not None:
            raise _error(json.loads(error))
    return sum(block[_ROWS].to_pylist())


def _block(text: dict[str, Any], pictures: Sequence[Pixels | None]) -> pa.Table:
    """A block of one row; a missing picture has no bytes."""
    flat = [_NOTHING if picture is None else picture.ravel() for picture in pictures]
    ends = np.cumsum([0, *(len(picture) for picture in flat)], dtype=np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(np.concatenate([_NOTHING, *flat]))]
    values = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(flat), buffers)
    return pa.table({_TEXT: [json.dumps(text)], _PIXELS: pa.ListArray.from_arrays([0, len(flat)], values)})


def _unit(jobs: list[Any]) -> Unit:
    return Unit(tuple(MarkedRow(*job) for job in jobs))


def _row(values: list[Any]) -> Row:
    row = Row(*values)
    return row._replace(others=tuple(row.others))


def _packed(error: RealCustomError) -> list[str]:
    return [type(error).__name__, str(error)]


def _error(packed: list[str]) -> RealCustomError:
    kind: type[RealCustomError] = getattr(errors, packed[0])
    return kind(packed[1])


def _view(facts: list[Any], pixels: list[pa.Scalar]) -> TrainingView:
    bucket = Bucket(*facts[0])
    shapes = ((bucket.height, bucket.width, 3), (bucket.height, bucket.width), (bucket.height, bucket.width))
    picture, mask, head = (
        np.frombuffer(value.as_buffer(), np.uint8).reshape(shape) if value.as_buffer().size else None
        for value, shape in zip(pixels, shapes, strict=True)
    )
    _, size, picture_hash, time_ids, *_ = facts
    return TrainingView(bucket, tuple(size), picture_hash, tuple(time_ids), picture, mask, head)  # type: ignore[arg-type]


def _cutout(value: pa.Scalar, box: list[float] | None) -> ReferenceCutOut:
    pixels = np.frombuffer(value.as_buffer(), np.uint8)
    side = math.isqrt(pixels.size // 3)
    return ReferenceCutOut(pixels.reshape(side, side, 3), None if box is None else (box[0], box[1], box[2], box[3]))
