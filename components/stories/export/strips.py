"""A book's title, and its panels with captions and balloons, as images of one width."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from components.provenance.image_files import SOFTWARE
from components.stories.export.balloons import BalloonShape, balloon_shape
from components.stories.export.book import Book, BookPanel
from components.stories.export.book_xmp import book_xmp
from components.stories.export.story_text import FONT_FILE, shorten, wrap_text

#: Pixels.
WIDTH, MARGIN, _SPACE = 1080, 60, 10
_CAPTION, _TITLE, _STYLE, _BALLOON = 34, 72, 30, 34
_CAPTION_LINES, _TITLE_LINES = 6, 6


def title_strip(book: Book) -> Image.Image:
    """The book's title and style."""
    room = WIDTH - 2 * MARGIN
    lines = [(line, _TITLE, "black") for line in shorten(_wrap(book.title, room, _TITLE), _TITLE_LINES)]
    if book.style:
        lines += [(line, _STYLE, "dimgray") for line in shorten(_wrap(book.style, room, _STYLE), _TITLE_LINES)]
    return _text(lines)


def panel_strip(panel: BookPanel) -> Image.Image:
    """The image in full width with its balloons, and the caption below it."""
    width = WIDTH - 2 * MARGIN
    with Image.open(io.BytesIO(panel.picture())) as opened:
        picture = opened.convert("RGB")
    # Small images are first enlarged by an integer factor without interpolation, as in the studio.
    factor = max(1, width // picture.width)
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    height = round(picture.height * width / picture.width)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    for balloon in panel.balloons:
        shape = balloon_shape(balloon, width, height, _BALLOON, lambda text: _width(text, _BALLOON))
        if shape is not None:
            _draw_balloon(ImageDraw.Draw(picture), shape)
    room = (
        [(line, _CAPTION, "black") for line in shorten(_wrap(panel.caption, width, _CAPTION), _CAPTION_LINES)]
        if panel.caption
        else []
    )
    caption = _text(room)
    space = _SPACE if room else 0
    strip = Image.new("RGB", (WIDTH, height + space + caption.height), "white")
    strip.paste(picture, (MARGIN, 0))
    strip.paste(caption, (0, height + space))
    return strip


def _draw_balloon(draw: ImageDraw.ImageDraw, shape: BalloonShape) -> None:
    line = max(2, round(shape.font_size / 12))
    draw.rounded_rectangle(shape.box, shape.radius, "white", "black", line)
    if shape.tail is not None:
        one, other, tip = shape.tail
        draw.polygon([one, tip, other], "white", "black", line)
        inner = tuple(edge + line * sign for edge, sign in zip(shape.box, (1, 1, -1, -1), strict=True))
        draw.rounded_rectangle(inner, max(0.0, shape.radius - line), "white")
    for text, at in shape.lines:
        draw.text(at, text, "black", _font(shape.font_size), anchor="ms")


def _text(lines: list[tuple[str, int, str]]) -> Image.Image:
    """Centred lines of text, each with its size and colour."""
    heights = [round(size * 1.4) for _, size, _ in lines]
    sheet = Image.new("RGB", (WIDTH, sum(heights)), "white")
    draw, y = ImageDraw.Draw(sheet), 0
    for (text, size, color), height in zip(lines, heights, strict=True):
        draw.text((WIDTH / 2, y + size * 1.1), text, color, _font(size), anchor="ms")
        y += height
    return sheet


def _wrap(text: str, width: float, size: float) -> list[str]:
    return wrap_text(text, width, lambda part: _width(part, size))


def _width(text: str, size: float) -> float:
    return _font(size).getlength(text)


@cache
def _font(size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONT_FILE), size)


def to_marked_png(picture: Image.Image, book: Book, panels: Sequence[BookPanel]) -> bytes:
    """A PNG of a picture that shows ``panels``, marked with the provenance of the book's images."""
    marks = PngImagePlugin.PngInfo()
    marks.add_text("Software", SOFTWARE)
    marks.add_itxt("XML:com.adobe.xmp", book_xmp(book))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=marks)
    return book.signed(buffer.getvalue(), "image/png", panels)
