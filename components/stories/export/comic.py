"""Exports a story's image files, as a comic archive (CBZ) with captions and balloons or as a plain ZIP without."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from PIL import Image, ImageOps

from components.provenance.image_files import SOFTWARE
from components.stories.export.book import Book, BookPanel
from components.stories.export.strips import MARGIN, WIDTH, panel_strip, title_strip, to_marked_png

#: Modification time of all ZIP entries, fixed so that the same story gives the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Page(NamedTuple):
    """A page of a comic archive: a file, its width and height, and its bookmark."""

    data: bytes
    size: tuple[int, int]
    bookmark: str = ""


def write_cbz(book: Book) -> bytes:
    """A comic archive: a title page, one page per panel, and ``ComicInfo.xml`` with the captions as bookmarks.

    Readers show images only, so captions and balloons are drawn. A panel without any is its unmodified file.
    """
    pages = [*([_drawn(_title_page(book), book, [])] if book.pages.title_page else []), *_panel_pages(book)]
    return _zip([page.data for page in pages], "ComicInfo.xml", _comic_info(book, pages))


def write_pictures(book: Book) -> bytes:
    """A ZIP of the numbered PNG files, and a text file of captions and balloon texts."""
    lines = [book.title, ""]
    for number, panel in enumerate(book.panels, start=1):
        texts = [panel.caption, *(f"“{balloon.text}”" for balloon in panel.balloons)]
        lines.append(f"{number:03}.png  {' '.join(filter(None, texts))}".rstrip())
    return _zip((panel.picture() for panel in book.panels), "story.txt", "\n".join([*lines, ""]).encode())


def add_file(archive: zipfile.ZipFile, name: str, data: bytes, packed: bool = False) -> None:
    """Add a file to an archive; ``packed`` compresses it, which does not reduce PNG files."""
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    info.external_attr = 0o644 << 16
    archive.writestr(info, data)


def _panel_pages(book: Book) -> Iterator[_Page]:
    for panel in book.panels:
        if panel.caption or panel.balloons:
            yield _drawn(_framed(panel_strip(panel)), book, [panel], panel.caption)
        else:
            yield _Page(panel.picture(), (panel.take.width, panel.take.height))


def _drawn(picture: Image.Image, book: Book, panels: Sequence[BookPanel], bookmark: str = "") -> _Page:
    return _Page(to_marked_png(picture, book, panels), picture.size, bookmark)


def _title_page(book: Book) -> Image.Image:
    """The title in the upper half of an upright page."""
    strip = title_strip(book)
    page = Image.new("RGB", (WIDTH, max(WIDTH * 4 // 3, strip.height)), "white")
    page.paste(strip, (0, (page.height - strip.height) // 3))
    return page


def _framed(strip: Image.Image) -> Image.Image:
    """A strip, which has a margin at its sides, with the same above and below it."""
    return ImageOps.expand(strip, (0, MARGIN), "white")


def _zip(pictures: Iterable[bytes], name: str, text: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        add_file(archive, name, text, packed=True)
        for number, picture in enumerate(pictures, start=1):
            add_file(archive, f"{number:03}.png", picture)
    return buffer.getvalue()


def _comic_info(book: Book, pages: Sequence[_Page]) -> bytes:
    """https://anansi-project.github.io/docs/comicinfo/schemas/v2.0"""
    root = ElementTree.Element("ComicInfo")
    facts = {"Title": book.title, "Summary": _summary(book), "Notes": f"Pictures made by a trained model, {SOFTWARE}"}
    facts |= {"PageCount": str(len(pages)), "LanguageISO": book.language}
    for name, value in facts.items():
        ElementTree.SubElement(root, name).text = _xml_text(value)
    listed = ElementTree.SubElement(root, "Pages")
    for index, page in enumerate(pages):
        described = {"Image": str(index), "ImageWidth": str(page.size[0]), "ImageHeight": str(page.size[1])}
        if index == 0:
            described["Type"] = "FrontCover"
        if page.bookmark:
            described["Bookmark"] = _xml_text(page.bookmark)
        ElementTree.SubElement(listed, "Page", described)
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True))


def _summary(book: Book) -> str:
    return "\n".join(panel.caption for panel in book.panels if panel.caption)


def _xml_text(text: str) -> str:
    """The text without characters that XML does not allow."""
    return _NOT_XML.sub("", text)
