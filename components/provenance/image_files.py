"""Generated images as PNG, JPEG or WebP files with metadata of their origin.

The metadata is XMP, which all three formats support: the IPTC's digital source type of AI-generated media, and seed,
model, version, words, steps, guidance scale and scheduler. PNG files have it as text chunks, too. The prompt is
included only if configured.
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
#: The IPTC's digital source type of media that a trained model generated.
MACHINE_MADE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
#: Namespace of the metadata in XMP, and its key in PNG's text chunks.
NAMESPACE, TEXT_KEY = "urn:realcustom:picture#", "realcustom"
_NAMESPACES = {
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "realcustom": NAMESPACE,
}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Output:
    """The format of an image file, and the quality, 0 to 100, of lossy formats."""

    format: Literal["png", "jpeg", "webp"] = "png"
    quality: int = 100

    @property
    def mime(self) -> str:
        return f"image/{self.format}"


class ModelName(NamedTuple):
    """Name and version of a model in the registry."""

    name: str = ""
    version: str = ""


@dataclass(frozen=True)
class GenerationParameters:
    """Generation parameters of one image."""

    seed: int
    target_words: tuple[str, ...]
    steps: int
    guidance_scale: float
    #: None: the model's default.
    scheduler: str | None
    prompt: str


class PictureWriter:
    """Encodes images of one model with metadata; thread-safe.

    Args:
        with_prompt: include the prompt in the metadata.
        sign: adds a signed manifest to an image file of a MIME type, see `components.provenance.manifests`.
    """

    def __init__(
        self,
        model: ModelName = ModelName(),
        with_prompt: bool = False,
        sign: Callable[[bytes, str], bytes] | None = None,
    ) -> None:
        self.model, self._with_prompt, self._sign = model, with_prompt, sign

    def __call__(self, picture: Image.Image, output: Output, parameters: GenerationParameters, **more: Any) -> bytes:
        """The bytes of the image file, with ``more`` as additional metadata."""
        said = self._metadata(parameters) | more
        extra: dict[str, Any] = {"xmp": _xmp(said)}
        if output.format == "png":
            extra = {"pnginfo": _chunks(said)}
        data = encode(picture, output, **extra)
        return data if self._sign is None else self._sign(data, output.mime)

    def _metadata(self, parameters: GenerationParameters) -> dict[str, Any]:
        said = {"model": self.model.name, "model_version": self.model.version} | vars(parameters)
        if not self._with_prompt:
            del said["prompt"]
        return {key: value for key, value in said.items() if value not in (None, "", ())}


def encode(picture: Image.Image, output: Output, **extra: Any) -> bytes:
    """Encode ``picture``, with additional arguments for Pillow's encoder."""
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
    """An XMP packet; values other than text and numbers are JSON."""
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
