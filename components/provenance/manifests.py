"""C2PA manifests: signed provenance statements in files (https://c2pa.org), with the extra ``c2pa``."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from components.config import C2paConfig, ServingConfig
from components.errors import ConfigError
from components.provenance.image_files import (
    MACHINE_MADE,
    SOFTWARE,
    ModelName,
    Output,
    PictureWriter,
    encode,
    software_version,
)

#: Reads an image file.
Picture = Callable[[], bytes]
#: The IPTC's digital source type of a composite of which at least one element was generated, and of one without any.
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeSynthetic"
_WITHOUT_PICTURES = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCreation"


class _Signer:
    """Signs with the configured key; thread-safe.

    Raises:
        ConfigError: the library is missing, or certificates and key are unreadable or do not match.
    """

    def __init__(self, config: C2paConfig) -> None:
        try:
            import c2pa
        except ImportError:
            raise ConfigError("serving.c2pa: signing needs the extra 'c2pa': pip install -e '.[c2pa]'") from None
        self._builder = c2pa.Builder
        try:
            assert config.certificates is not None and config.key is not None
            certificates, key = config.certificates.read_bytes(), config.key.read_bytes()
            info = c2pa.C2paSignerInfo(config.algorithm, certificates, key, config.timestamp_url)
            settings = {"builder": {"thumbnail": {"enabled": False}}}
            self._context = c2pa.Context.from_dict(settings, signer=c2pa.Signer.from_info(info))
            picture = encode(Image.new("RGB", (8, 8)), Output())
            made = _manifest([_created(MACHINE_MADE)])
            self._sign(made, picture, Output().mime)  # to fail at the start rather than at the first file
        except OSError as error:
            raise ConfigError(f"serving.c2pa: {error.filename} cannot be read") from None
        except c2pa.C2paError as error:
            raise ConfigError(f"serving.c2pa: certificates and key cannot sign pictures: {error}") from None

    def _sign(self, manifest: dict[str, Any], data: bytes, mime: str, pictures: Sequence[Picture] = ()) -> bytes:
        """The file with its manifest.

        Args:
            pictures: read the PNG files that it is composed of; its manifest includes theirs.
        """
        signed = io.BytesIO()
        with self._builder(manifest, context=self._context) as builder:
            for number, picture in enumerate(pictures):
                part = {"title": f"{number + 1:03}.png", "relationship": "componentOf", "label": _label(number)}
                builder.add_ingredient(json.dumps(part), "image/png", io.BytesIO(picture()))
            builder.sign(mime, io.BytesIO(data), signed)
        return signed.getvalue()


class ManifestSigner(_Signer):
    """Signs images of one model."""

    def __init__(self, config: C2paConfig, model: ModelName) -> None:
        super().__init__(config)
        self._made = _manifest(
            [_created(MACHINE_MADE, parameters={"model": model.name, "model_version": model.version})]
        )

    def __call__(self, picture: bytes, mime: str) -> bytes:
        """The image file with its manifest."""
        return self._sign(self._made, picture, mime)


class CompositeSigner(_Signer):
    """Signs PNG and PDF files that are composed of generated images."""

    def __call__(self, data: bytes, mime: str, pictures: Sequence[Picture]) -> bytes:
        """The file with its manifest, which includes those of the images.

        Args:
            pictures: read the PNG files that it shows, in order; those without a manifest are listed, too.
        """
        created = _created(COMPOSITE if pictures else _WITHOUT_PICTURES)
        placed = [
            {"action": "c2pa.placed", "parameters": {"ingredientIds": [_label(number)]}}
            for number in range(len(pictures))
        ]
        return self._sign(_manifest([created, *placed]), data, mime, pictures)


def composite_signer(config: ServingConfig) -> CompositeSigner | None:
    """The configured signer of composed files; None if no key is configured.

    Raises:
        ConfigError: as `ManifestSigner`.
    """
    return None if config.c2pa.key is None else CompositeSigner(config.c2pa)


def picture_writer(config: ServingConfig, model: ModelName, with_prompt: bool | None = None) -> PictureWriter:
    """The configured writer of images of ``model``, with signatures if a key is configured.

    Args:
        with_prompt: whether files contain the prompt; by default as configured.

    Raises:
        ConfigError: see `ManifestSigner`.
    """
    sign = None if config.c2pa.key is None else ManifestSigner(config.c2pa, model)
    return PictureWriter(model, config.prompt_in_pictures if with_prompt is None else with_prompt, sign)


def _label(number: int) -> str:
    return f"picture-{number}"


def _software() -> dict[str, str]:
    return {"name": SOFTWARE, "version": software_version()}


def _created(source: str, **more: Any) -> dict[str, Any]:
    return {"action": "c2pa.created", "digitalSourceType": source, "softwareAgent": _software()} | more


def _manifest(actions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "claim_generator_info": [_software()],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
    }
