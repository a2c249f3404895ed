"""Reading and cutting out the benchmark's photographs, for generation and scoring alike."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from components.config import DataConfig
from components.cut_outs import cut_out
from components.data.decode import decode_picture
from components.data.region import region_finder
from components.data.source_files import SourceFiles
from components.errors import DataError


def read_photographs(data: DataConfig, store: SourceFiles, addresses: Sequence[str]) -> list[Image.Image]:
    """Photographs as RGB pictures.

    Raises:
        DataError: one of them cannot be read.
    """
    pictures = []
    for address in addresses:
        try:
            pictures.append(decode_picture(store.read(address, data.max_bytes), data.max_pixels))
        except DataError as error:
            raise DataError(f"evaluation.dreambench.source: {address}: {error}; replace the photograph") from None
    return pictures


def without_surroundings(data: DataConfig, picture: Image.Image, size: int) -> Image.Image:
    """The subject that `data.region` finds in ``picture``, on a white square of ``size`` pixels."""
    return cut_out(picture, region_finder(data.region)(picture, None), size)
