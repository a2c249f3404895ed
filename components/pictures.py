"""Subjects cut out of their pictures, and sheets of pictures side by side."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

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


def rows_of_pictures(
    rows: Sequence[Sequence[Image.Image]], cell: int = 128, labels: Sequence[str] = (), captions: Sequence[str] = ()
) -> Image.Image:
    """A white sheet with one row a sequence, each picture scaled to ``cell`` pixels.

    Args:
        labels: what stands left of each row.
        captions: what stands under each column.
    """
    gap, left, below = 4, 120 if labels else 0, 44 if captions else 0
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (left + columns * (cell + gap), len(rows) * (cell + gap) + below), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for y, row in enumerate(rows):
        if labels:
            draw.multiline_text((6, y * (cell + gap) + cell // 2 - 14), _wrap(labels[y], 16), "black", font)
        for x, picture in enumerate(row):
            filter_ = Image.Resampling.LANCZOS if picture.width >= cell else Image.Resampling.BICUBIC
            sheet.paste(
                picture.convert("RGB").resize((cell, cell), filter_), (left + x * (cell + gap), y * (cell + gap))
            )
    for x, caption in enumerate(captions):
        draw.multiline_text((left + x * (cell + gap) + 2, len(rows) * (cell + gap)), _wrap(caption, 20), "black", font)
    return sheet


def _wrap(text: str, width: int) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
