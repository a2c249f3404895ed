"""Options that say where the subject of an image is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.data.schema import Box
from components.errors import DataError

BOX_HELP = "Where the subject is: left,top,right,bottom in pixels of the upright image, or none."
MASK_HELP = "Image of the same size, white where the subject is, or none. Wins over --box."
#: Written where an image has no box or mask.
_NONE = "none"


def read_box(text: str) -> Box | None:
    """The box of an option ``--box``.

    Raises:
        DataError: it is neither four whole numbers nor ``none``.
    """
    if text.strip().lower() == _NONE:
        return None
    try:
        left, top, right, bottom = (int(number) for number in text.split(","))
    except ValueError:
        raise DataError(
            f"--box {text}: write left,top,right,bottom in pixels, such as 40,20,200,240, or none"
        ) from None
    return left, top, right, bottom


def read_boxes(texts: Sequence[str] | None) -> list[Box | None]:
    """The boxes of several images; raises `DataError` as `read_box` does."""
    return [read_box(text) for text in texts or ()]


def mask_paths(texts: Sequence[str] | None) -> list[Path | None]:
    """The mask files of several images."""
    return [None if text.strip().lower() == _NONE else Path(text) for text in texts or ()]
