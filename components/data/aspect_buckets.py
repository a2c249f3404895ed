"""Aspect-ratio buckets: the sizes to which training images are cropped, so that few pixels are lost."""

from __future__ import annotations

import math
from typing import NamedTuple

#: Minimum area of a bucket, as a share of the square's. With 1024, 64 and 4 this gives SDXL's forty buckets.
_LEAST_AREA = 0.9


class Bucket(NamedTuple):
    """Sides in pixels."""

    width: int
    height: int

    @property
    def name(self) -> str:
        """Width and height, for example ``512x768``."""
        return f"{self.width}x{self.height}"


def buckets(image_size: int, step: int, max_aspect: float) -> tuple[Bucket, ...]:
    """All buckets, the squarest first: the square of ``image_size``, and rectangles as large or a little smaller.

    Args:
        image_size: side of the square; no bucket has more pixels.
        step: sides of the rectangles are multiples of it.
        max_aspect: longest side over shortest, at most; 1 leaves the square alone.
    """
    square = Bucket(image_size, image_size)
    most = image_size * image_size
    found = [
        Bucket(width, height)
        for width in range(step, int(image_size * math.sqrt(max_aspect)) + step, step)
        for height in range(step, most // width + 1, step)
        if width * height >= _LEAST_AREA * most and max(width, height) <= max_aspect * min(width, height)
    ]
    # The largest of each shape.
    shapes = {_shape(bucket): bucket for bucket in sorted(found)} | {_shape(square): square}
    return tuple(sorted(shapes.values(), key=lambda bucket: (max(bucket) / min(bucket), bucket.height, bucket.width)))


def choose_bucket(size: tuple[int, int], buckets: tuple[Bucket, ...]) -> Bucket:
    """The bucket whose shape is nearest to that of a picture of ``size`` (width, height); of equals the earlier one."""
    shape = math.log(size[0] / size[1])
    return min(buckets, key=lambda bucket: abs(math.log(bucket.width / bucket.height) - shape))


def _shape(bucket: Bucket) -> tuple[int, int]:
    divisor = math.gcd(*bucket)
    return bucket.width // divisor, bucket.height // divisor
