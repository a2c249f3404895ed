"""Exports a story as a PDF: a title page, 1 to 6 panels per page, captions and balloons as searchable text.

The font is Noto Sans SC (SIL Open Font License), with Latin, Greek, Cyrillic and Chinese; only the glyphs in use are
embedded. Images are decoded, which removes their metadata: the document's XMP holds the provenance instead, and the
document's manifest includes theirs if the service signs.
"""

from __future__ import annotations

import io
import threading
from typing import Any

from reportlab.lib.colors import Color, black, white
from reportlab.lib.pagesizes import A4, LETTER
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.pdfdoc import PDFDictionary, PDFName, PDFStream
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from components.provenance.image_files import SOFTWARE
from components.stories.export.balloons import balloon_shape
from components.stories.export.book import Book, BookPanel
from components.stories.export.book_xmp import book_xmp
from components.stories.export.story_text import FONT_FILE, shorten, wrap_text
from components.stories.story import Balloon

_FONT = "NotoSansSC-Story"
_PAPERS = {"a4": A4, "letter": LETTER, "square": (612.0, 612.0)}
#: Panels per page -> columns and rows.
_GRIDS = {1: (1, 1), 2: (1, 2), 3: (1, 3), 4: (2, 2), 5: (2, 3), 6: (2, 3)}
#: Points.
_MARGIN, _GAP, _FOOT = 36.0, 14.0, 18.0
_CAPTION_LINES, _TITLE_LINES = 4, 6
_GREY = Color(0.4, 0.4, 0.4)
_registering = threading.Lock()


def write_pdf(book: Book) -> bytes:
    """The bytes of the file."""
    _register_font()
    buffer = io.BytesIO()
    size = _PAPERS[book.pages.paper]
    canvas = Canvas(buffer, pagesize=size, pageCompression=1, lang=book.language)
    canvas.setTitle(book.title)
    canvas.setCreator(SOFTWARE)
    canvas.setAuthor("")
    canvas.setSubject("Pictures made by a trained model")
    _describe(canvas, book)
    if book.pages.title_page:
        _title_page(canvas, book, size)
    a_page = book.pages.panels_per_page
    for number, first in enumerate(range(0, len(book.panels), a_page), start=1):
        _page(canvas, book.panels[first : first + a_page], a_page, size, number)
    canvas.save()
    return book.signed(buffer.getvalue(), "application/pdf", book.panels)


def cells(count: int, size: tuple[float, float]) -> list[tuple[float, float, float, float]]:
    """The cells of a page in reading order: left, bottom, width and height in points."""
    columns, rows = _GRIDS[count]
    width = (size[0] - 2 * _MARGIN - (columns - 1) * _GAP) / columns
    height = (size[1] - 2 * _MARGIN - _FOOT - (rows - 1) * _GAP) / rows
    top = size[1] - _MARGIN
    return [
        (_MARGIN + column * (width + _GAP), top - (row + 1) * height - row * _GAP, width, height)
        for row in range(rows)
        for column in range(columns)
    ][:count]


def _register_font() -> None:
    with _registering:
        if _FONT not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(_FONT, str(FONT_FILE)))


def _title_page(canvas: Canvas, book: Book, size: tuple[float, float]) -> None:
    middle, y = size[0] / 2, size[1] * 0.62
    for line in shorten(_lines(book.title, size[0] - 4 * _MARGIN, 30), _TITLE_LINES):
        _centred(canvas, middle, y, line, 30, black)
        y -= 38
    for line in shorten(_lines(book.style, size[0] - 6 * _MARGIN, 12), _TITLE_LINES):
        _centred(canvas, middle, y, line, 12, _GREY)
        y -= 16
    canvas.bookmarkPage("title")
    canvas.showPage()


def _page(canvas: Canvas, panels: tuple[BookPanel, ...], a_page: int, size: tuple[float, float], number: int) -> None:
    for panel, cell in zip(panels, cells(a_page, size), strict=False):
        _panel(canvas, panel, *cell)
    _centred(canvas, size[0] / 2, _MARGIN - 4, str(number), 8, _GREY)
    canvas.showPage()


def _panel(canvas: Canvas, panel: BookPanel, left: float, bottom: float, width: float, height: float) -> None:
    """Draw the image as large as its cell allows, uncropped, with the caption below it."""
    caption = shorten(_lines(panel.caption, width, 10), _CAPTION_LINES) if panel.caption else []
    room = height - 13 * len(caption) - (4 if caption else 0)
    scale = min(width / panel.take.width, room / panel.take.height)
    shown, tall = panel.take.width * scale, panel.take.height * scale
    x, y = left + (width - shown) / 2, bottom + height - tall
    canvas.drawImage(ImageReader(io.BytesIO(panel.picture())), x, y, shown, tall)
    canvas.setStrokeColor(black)
    canvas.setLineWidth(0.6)
    canvas.rect(x, y, shown, tall)
    for balloon in panel.balloons:
        _balloon(canvas, balloon, x, y, shown, tall)
    at = y - 13
    for line in caption:
        _centred(canvas, left + width / 2, at, line, 10, black)
        at -= 13


def _balloon(canvas: Canvas, balloon: Balloon, x: float, y: float, width: float, height: float) -> None:
    """Draw a balloon within its image, whose lower left corner is at ``x``, ``y``."""
    size = min(12.0, max(5.0, width / 28))
    shape = balloon_shape(balloon, width, height, size, lambda text: _width(text, size))
    if shape is None:
        return
    left, top, right, bottom = shape.box
    canvas.setFillColor(white)
    canvas.setStrokeColor(black)
    canvas.setLineWidth(0.9)
    box = (x + left, y + height - bottom, right - left, bottom - top)
    canvas.roundRect(*box, shape.radius, fill=1)
    if shape.tail is not None:
        path = canvas.beginPath()
        one, other, tip = ((x + across, y + height - down) for across, down in shape.tail)
        path.moveTo(*one)
        path.lineTo(*tip)
        path.lineTo(*other)
        canvas.drawPath(path, stroke=1, fill=1)
        # Fill the balloon again: removes the lines of the tail within it.
        canvas.setStrokeColor(white)
        inner = (box[0] + 0.45, box[1] + 0.45, box[2] - 0.9, box[3] - 0.9)
        canvas.roundRect(*inner, shape.radius - 0.45, stroke=0, fill=1)
    for line, (across, down) in shape.lines:
        _centred(canvas, x + across, y + height - down, line, size, black)


def _centred(canvas: Canvas, x: float, y: float, text: str, size: float, color: Color) -> None:
    canvas.setFillColor(color)
    canvas.setFont(_FONT, size)
    canvas.drawCentredString(x, y, text)


def _lines(text: str, width: float, size: float) -> list[str]:
    return wrap_text(text, width, lambda part: _width(part, size))


def _width(text: str, size: float) -> float:
    return float(pdfmetrics.stringWidth(text, _FONT, size))


def _describe(canvas: Canvas, book: Book) -> None:
    """Add the provenance of the images as the document's XMP metadata."""
    stream = PDFStream(PDFDictionary({"Type": PDFName("Metadata"), "Subtype": PDFName("XML")}), book_xmp(book).encode())
    stream.filters = []
    catalog: Any = canvas._doc.Catalog
    catalog.Metadata = stream
