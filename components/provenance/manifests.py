"""C2PA manifests: signed provenance statements in image files (https://c2pa.org), with the extra ``c2pa``."""

from __future__ import annotations

import io
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


class ManifestSigner:
    """Signs images of one model; thread-safe.

    Raises:
        ConfigError: the library is missing, or certificates and key are unreadable or do not match.
    """

    def __init__(self, config: C2paConfig, model: ModelName) -> None:
        try:
            import c2pa
        except ImportError:
            raise ConfigError("serving.c2pa: signing needs the extra 'c2pa': pip install -e '.[c2pa]'") from None
        self._manifest, self._builder = _manifest(model), c2pa.Builder
        try:
            assert config.certificates is not None and config.key is not None
            certificates, key = config.certificates.read_bytes(), config.key.read_bytes()
            info = c2pa.C2paSignerInfo(config.algorithm, certificates, key, config.timestamp_url)
            settings = {"builder": {"thumbnail": {"enabled": False}}}
            self._context = c2pa.Context.from_dict(settings, signer=c2pa.Signer.from_info(info))
            picture = encode(Image.new("RGB", (8, 8)), Output())
            self._sign(picture, Output().mime)  # to fail at the start rather than at the first image
        except OSError as error:
            raise ConfigError(f"serving.c2pa: {error.filename} cannot be read") from None
        except c2pa.C2paError as error:
            raise ConfigError(f"serving.c2pa: certificates and key cannot sign pictures: {error}") from None

    def __call__(self, picture: bytes, mime: str) -> bytes:
        """The image file with its manifest."""
        return self._sign(picture, mime)

    def _sign(self, picture: bytes, mime: str) -> bytes:
        signed = io.BytesIO()
        with self._builder(self._manifest, context=self._context) as builder:
            builder.sign(mime, io.BytesIO(picture), signed)
        return signed.getvalue()


def picture_writer(config: ServingConfig, model: ModelName, with_prompt: bool | None = None) -> PictureWriter:
    """The configured writer of images of ``model``, with signatures if a key is configured.

    Args:
        with_prompt: whether files contain the prompt; by default as configured.

    Raises:
        ConfigError: see `ManifestSigner`.
    """
    sign = None if config.c2pa.key is None else ManifestSigner(config.c2pa, model)
    return PictureWriter(model, config.prompt_in_pictures if with_prompt is None else with_prompt, sign)


def _manifest(model: ModelName) -> dict[str, Any]:
    software = {"name": SOFTWARE, "version": software_version()}
    created = {
        "action": "c2pa.created",
        "digitalSourceType": MACHINE_MADE,
        "softwareAgent": software,
        "parameters": {"model": model.name, "model_version": model.version},
    }
    return {
        "claim_generator_info": [software],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
    }
