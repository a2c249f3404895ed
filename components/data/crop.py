"""Cropping a training image around its subject, and SDXL's size and crop conditioning."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image

from components.data.aspect_buckets import Bucket
from components.data.schema import Box


class Crop(NamedTuple):
    """A picture and mask of a bucket's size, their time ids (height, width, top, left, height, width) and their box."""

    picture: Image.Image
    mask: Image.Image
    time_ids: tuple[int, int, int, int, int, int]
    box: Box


def crop_to(picture: Image.Image, mask: Image.Image, bucket: Bucket) -> Crop:
    """Crop the largest window of the bucket's aspect ratio, as central as the subject allows, and resize it.

    The time ids state the original's height and width, the crop's top and left in the original resized so that the
    window has the bucket's size, and the bucket's height and width: SDXL's convention. A subject longer than the
    window is cut equally on both sides.
    """
    size = picture.size
    scale = min(length / wanted for length, wanted in zip(size, bucket, strict=True))
    window = [min(length, max(1, round(wanted * scale))) for length, wanted in zip(size, bucket, strict=True)]
    subject = mask.getbbox() or (0, 0, *size)
    left, top = (_offset(size[i], window[i], subject[i], subject[i + 2]) for i in range(2))
    box: Box = (left, top, left + window[0], top + window[1])
    corner = round(top * bucket.height / window[1]), round(left * bucket.width / window[0])
    return Crop(
        picture.resize(bucket, Image.Resampling.LANCZOS, box=box),
        mask.resize(bucket, Image.Resampling.BOX, box=box),
        (size[1], size[0], *corner, bucket.height, bucket.width),
        box,
    )


def _offset(length: int, side: int, start: int, end: int) -> int:
    """Start of a window of ``side`` pixels on an axis of ``length``, so that it contains ``start`` to ``end``."""
    wanted = (length - side) // 2
    if end - start >= side:
        return min(max((start + end - side) // 2, 0), length - side)
    return min(max(wanted, end - side), start)
