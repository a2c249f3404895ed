"""Exports a story as one tall PNG: the title, and the panels below each other with captions and balloons."""

from __future__ import annotations

from PIL import Image

from components.stories.export.book import Book
from components.stories.export.strips import MARGIN, WIDTH, panel_strip, title_strip, to_marked_png

_GAP = 48
#: Maximum height in pixels that common viewers and Pillow's decoders open.
_MAX_HEIGHT = 60_000


def write_long_picture(book: Book) -> bytes:
    """The bytes of the PNG, 1080 pixels wide.

    A story that would be taller than 60,000 pixels is scaled down as a whole.
    """
    strips = [*([title_strip(book)] if book.pages.title_page else []), *map(panel_strip, book.panels)]
    height = 2 * MARGIN + sum(strip.height for strip in strips) + _GAP * (len(strips) - 1)
    sheet = Image.new("RGB", (WIDTH, height), "white")
    y = MARGIN
    for strip in strips:
        sheet.paste(strip, (0, y))
        y += strip.height + _GAP
    if height > _MAX_HEIGHT:
        sheet = sheet.resize((max(1, WIDTH * _MAX_HEIGHT // height), _MAX_HEIGHT), Image.Resampling.LANCZOS)
    return to_marked_png(sheet, book, book.panels)
