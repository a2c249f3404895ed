"""The MLflow model of a registered version: from a table of prompts and references to a table of images.

    model = mlflow.pyfunc.load_model("models:/realcustom-tiny@champion")
    generated = model.predict(pd.DataFrame([{"prompt": "a robot in the snow", "reference": file.read_bytes()}]))
    (folder / "robot.png").write_bytes(generated["picture"][0])

Registered versions import `PictureModel` from this module (`components.registry.model_script`), so its name and module
are stable. It needs this package, and the base model and encoders of the version; `components.registry.model_signature`
documents the columns. ``load_model(uri, model_config={"base": "/models/sdxl"})`` overrides paths of models.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from mlflow.pyfunc import PythonModel, PythonModelContext
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from components.config import SamplingConfig
from components.cut_outs import cut_out
from components.data.decode import decode_with_alpha
from components.data.region import find_mask
from components.errors import ConfigError, DataError
from components.model.naming import WordNamer
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.registry import checksums, origin, version_config
from components.registry.model_signature import ImageRow, png_bytes, read_rows


class _EncodedReference(NamedTuple):
    """The cut-out of a reference, and its vision tokens [n, d]."""

    picture: Image.Image
    tokens: Tensor


class PictureModel(PythonModel):
    """`RealCustomPipeline` with the adapter and the settings of one version."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the pipeline from the version's files.

        Raises:
            RegistryError: a file of the version was changed, or its configuration does not fit this release.
            ArtifactError: a model cannot be loaded, or differs from the one the adapter was trained for.
        """
        description = Path(context.artifacts["description"])
        checksums.check_files(description.parents[1])  # MLflow stores artifacts in a subfolder
        described = json.loads(description.read_text())
        self._config = version_config.unpack(described["config"], context.model_config or {})
        origin.check_base(self._config.model.base, described["base_identity"])
        self._lock = threading.Lock()
        self._pipeline = RealCustomPipeline.from_config(self._config, adapter=context.artifacts["adapter"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Generate an image for every row.

        Args:
            params: overrides of the version's ``steps``, ``guidance_scale``, ``height`` and ``width``; and
                ``batch_size``, the number of rows in a batch.

        Raises:
            DataError, WordError: a row is invalid; the message names its column. No image is generated then.
            ConfigError: a parameter is out of range.
        """
        settings = dict(params or {})
        together = max(1, int(settings.pop("batch_size", 1)))
        sampling = _sampling(self._config.sampling, settings)
        rows = list(read_rows(model_input))
        generated: list[dict[str, Any]] = []
        with self._lock:  # the pipeline is not thread-safe
            encoded = self._encode_references(rows)
            for first in range(0, len(rows), together):
                generated += self._generate(rows[first : first + together], encoded, sampling)
        return pd.DataFrame(generated, index=model_input.index, columns=["picture", "prompt", "word"])

    def _encode_references(self, rows: Sequence[ImageRow]) -> dict[bytes, _EncodedReference]:
        encoded: dict[bytes, _EncodedReference] = {}
        for row in rows:
            if row.reference is not None and row.reference not in encoded:
                picture = self._cut_out(row, row.reference)
                encoded[row.reference] = _EncodedReference(picture, self._pipeline.encode_subject([picture]))
        return encoded

    def _generate(
        self, rows: Sequence[ImageRow], encoded: Mapping[bytes, _EncodedReference], sampling: SamplingConfig
    ) -> list[dict[str, Any]]:
        named = [self._named(row, encoded) for row in rows]
        subjects = [
            [] if word is None or row.reference is None else [Subject(encoded[row.reference].tokens, word)]
            for row, (_, word) in zip(rows, named, strict=True)
        ]
        generators = [torch.Generator().manual_seed(row.seed) for row in rows]
        prompts = [prompt for prompt, _ in named]
        images = self._pipeline(prompts, subjects=subjects, generator=generators, **sampling.arguments).images
        generated = zip(images, named, strict=True)
        return [{"picture": png_bytes(image), "prompt": prompt, "word": word} for image, (prompt, word) in generated]

    def _named(self, row: ImageRow, encoded: Mapping[bytes, _EncodedReference]) -> tuple[str, str | None]:
        """The prompt with the subject's word, and the word; None without a subject."""
        if row.word is not None or row.reference is None:
            return row.prompt, row.word
        naming = self._namer.name(row.prompt, [encoded[row.reference].picture])
        return naming.prompt, naming.word

    def _cut_out(self, row: ImageRow, reference: bytes) -> Image.Image:
        data = self._config.data
        try:
            decoded = decode_with_alpha(reference, data.max_pixels)
        except DataError as error:
            raise DataError(f"{row.place('reference')}: {error}") from None
        return cut_out(decoded.picture, find_mask(decoded, data.region), self._pipeline.reference_size)

    @cached_property
    def _namer(self) -> WordNamer:
        return WordNamer.from_config(self._config.model, self._config.naming)


def _sampling(sampling: SamplingConfig, settings: dict[str, Any]) -> SamplingConfig:
    try:
        return SamplingConfig.model_validate(sampling.model_dump() | settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"params: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
