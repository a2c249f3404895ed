"""How the pictures of a book were made, as XMP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

from components.provenance.image_files import MACHINE_MADE, NAMESPACE, SOFTWARE
from components.stories.export.book import Book


def book_xmp(book: Book) -> str:
    """The title, and model, version and seed of every picture; the source type says that a model made them."""
    made = json.dumps(list(_made(book)))
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        f' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:realcustom="{NAMESPACE}">'
        f'<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{escape(book.title)}</rdf:li></rdf:Alt></dc:title>'
        f"<xmp:CreatorTool>{SOFTWARE}</xmp:CreatorTool>"
        f"<Iptc4xmpExt:DigitalSourceType>{MACHINE_MADE}</Iptc4xmpExt:DigitalSourceType>"
        f"<realcustom:pictures>{escape(made)}</realcustom:pictures>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def _made(book: Book) -> Iterator[dict[str, Any]]:
    for panel in book.panels:
        take = panel.take
        yield {"model": take.model, "model_version": take.model_version, "seed": take.seed}
