"""Exports a story's unmodified image files, as a comic archive (CBZ) or a plain ZIP."""

from __future__ import annotations

import io
import re
import zipfile
from xml.etree import ElementTree

from components.provenance.image_files import SOFTWARE
from components.stories.export.book import Book

#: Modification time of all ZIP entries, fixed so that the same story gives the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_cbz(book: Book) -> bytes:
    """A comic archive: one page per panel, and ``ComicInfo.xml`` with the captions as bookmarks."""
    return _zip(book, "ComicInfo.xml", _comic_info(book))


def write_pictures(book: Book) -> bytes:
    """A ZIP of the numbered PNG files, and a text file of captions and balloon texts."""
    lines = [book.title, ""]
    for number, panel in enumerate(book.panels, start=1):
        texts = [panel.caption, *(f"“{balloon.text}”" for balloon in panel.balloons)]
        lines.append(f"{number:03}.png  {' '.join(filter(None, texts))}".rstrip())
    return _zip(book, "story.txt", "\n".join([*lines, ""]).encode())


def add_file(archive: zipfile.ZipFile, name: str, data: bytes, packed: bool = False) -> None:
    """Add a file to an archive; ``packed`` compresses it, which does not reduce PNG files."""
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    info.external_attr = 0o644 << 16
    archive.writestr(info, data)


def _zip(book: Book, name: str, text: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        add_file(archive, name, text, packed=True)
        for number, panel in enumerate(book.panels, start=1):
            add_file(archive, f"{number:03}.png", panel.picture())
    return buffer.getvalue()


def _comic_info(book: Book) -> bytes:
    """https://anansi-project.github.io/docs/comicinfo/schemas/v2.0"""
    root = ElementTree.Element("ComicInfo")
    facts = {"Title": book.title, "Summary": _summary(book), "Notes": f"Pictures made by a trained model, {SOFTWARE}"}
    facts |= {"PageCount": str(len(book.panels)), "LanguageISO": book.language}
    for name, value in facts.items():
        ElementTree.SubElement(root, name).text = _xml_text(value)
    pages = ElementTree.SubElement(root, "Pages")
    for index, panel in enumerate(book.panels):
        page = {"Image": str(index), "ImageWidth": str(panel.take.width), "ImageHeight": str(panel.take.height)}
        if index == 0:
            page["Type"] = "FrontCover"
        if panel.caption:
            page["Bookmark"] = _xml_text(panel.caption)
        ElementTree.SubElement(pages, "Page", page)
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True))


def _summary(book: Book) -> str:
    return "\n".join(panel.caption for panel in book.panels if panel.caption)


def _xml_text(text: str) -> str:
    """The text without characters that XML does not allow."""
    return _NOT_XML.sub("", text)
