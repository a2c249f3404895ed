"""The reference view of a subject: cut out of its picture, on white, filling a square."""

from __future__ import annotations

from PIL import Image

#: White space around the subject, as a share of its longer side.
MARGIN = 0.06


def cut_out(picture: Image.Image, mask: Image.Image, size: int) -> Image.Image:
    """Cut the masked subject out of ``picture`` onto a white square of ``size`` pixels.

    Args:
        picture: RGB picture.
        mask: L picture of the same size, 255 on the subject. An empty mask keeps the whole picture.
        size: side of the square in pixels.
    """
    box = mask.getbbox() or (0, 0, *picture.size)
    if mask.getbbox() is None:
        mask = Image.new("L", picture.size, 255)
    width, height = box[2] - box[0], box[3] - box[1]
    side = max(1, round(max(width, height) * (1 + 2 * MARGIN)))
    square = Image.new("RGB", (side, side), "white")
    offset = ((side - width) // 2, (side - height) // 2)
    square.paste(picture.crop(box), offset, mask.crop(box))
    return square.resize((size, size), Image.Resampling.BICUBIC)
