"""Finished pictures as files: PNG, JPEG or WebP, marked as machine-made, with what made them.

The marks are XMP, which all three formats hold: the IPTC's digital source type of pictures by trained models, and
seed, model, version, words, steps, guidance scale and scheduler; PNG has them as text chunks too. The prompt is among
them only where that is wanted.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple
from xml.sax.saxutils import quoteattr

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from components import __version__

SOFTWARE = "RealCustom Studio"
#: The IPTC's term for media made by a model that was trained.
MACHINE_MADE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
#: Namespace of our marks in XMP, and their key in PNG's text chunks.
NAMESPACE, TEXT_KEY = "urn:realcustom:picture#", "realcustom"
_NAMESPACES = {
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "realcustom": NAMESPACE,
}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Output:
    """The format of a picture's file, and how much of it is kept, 0 to 100, where the format loses anything."""

    format: Literal["png", "jpeg", "webp"] = "png"
    quality: int = 100

    @property
    def mime(self) -> str:
        return f"image/{self.format}"


class ModelName(NamedTuple):
    """A model and its version, as the registry calls them."""

    name: str = ""
    version: str = ""


@dataclass(frozen=True)
class Marks:
    """How one picture was made."""

    seed: int
    target_words: tuple[str, ...]
    steps: int
    guidance_scale: float
    #: None is the model's own.
    scheduler: str | None
    prompt: str


class PictureWriter:
    """Writes pictures of one model; may be called from several threads.

    Args:
        with_prompt: the prompt is one of the marks.
        sign: adds a signed manifest to the bytes of a picture of a MIME type, see `components.provenance.manifests`.
    """

    def __init__(
        self,
        model: ModelName = ModelName(),
        with_prompt: bool = False,
        sign: Callable[[bytes, str], bytes] | None = None,
    ) -> None:
        self.model, self._with_prompt, self._sign = model, with_prompt, sign

    def __call__(self, picture: Image.Image, output: Output, marks: Marks, **more: Any) -> bytes:
        """The bytes of a file, which says ``more`` beside its marks."""
        said = self._said(marks) | more
        extra: dict[str, Any] = {"xmp": _xmp(said)}
        if output.format == "png":
            extra = {"pnginfo": _chunks(said)}
        data = encode(picture, output, **extra)
        return data if self._sign is None else self._sign(data, output.mime)

    def _said(self, marks: Marks) -> dict[str, Any]:
        said = {"model": self.model.name, "model_version": self.model.version} | vars(marks)
        if not self._with_prompt:
            del said["prompt"]
        return {key: value for key, value in said.items() if value not in (None, "", ())}


def encode(picture: Image.Image, output: Output, **extra: Any) -> bytes:
    """The bytes of ``picture`` alone, with what Pillow is to write beside it."""
    buffer = io.BytesIO()
    lossy = {} if output.format == "png" else {"quality": output.quality}
    picture.save(buffer, output.format.upper(), **lossy, **extra)
    return buffer.getvalue()


@cache
def software_version() -> str:
    return __version__


def _chunks(said: dict[str, Any]) -> PngInfo:
    chunks = PngInfo()
    chunks.add_text("Software", f"{SOFTWARE} {software_version()}")
    chunks.add_text(TEXT_KEY, json.dumps(said))
    chunks.add_itxt("XML:com.adobe.xmp", _xmp(said).decode())
    return chunks


def _xmp(said: dict[str, Any]) -> bytes:
    """An XMP packet; what is more than a text or a number is in it as JSON."""
    properties = {
        "xmp:CreatorTool": f"{SOFTWARE} {software_version()}",
        "Iptc4xmpExt:DigitalSourceType": MACHINE_MADE,
    }
    for key, value in said.items():
        properties[f"realcustom:{key}"] = json.dumps(value) if isinstance(value, tuple) else str(value)
    names = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in _NAMESPACES.items())
    attributes = " ".join(f"{key}={quoteattr(_NOT_XML.sub('', value))}" for key, value in properties.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {names} {attributes}/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()
