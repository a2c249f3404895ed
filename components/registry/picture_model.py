"""A registered version as MLflow loads it anywhere: a table with prompts and references in, a table with pictures out.

    model = mlflow.pyfunc.load_model("models:/realcustom-tiny@champion")
    drawn = model.predict(pd.DataFrame([{"prompt": "a robot in the snow", "reference": file.read_bytes()}]))
    (folder / "robot.png").write_bytes(drawn["picture"][0])

Registered versions import `PictureModel` from this module (`components.registry.model_script`): it keeps its place and
its name. It needs this package and the base model and encoders that the version names; `components.registry.columns`
says what the columns hold. Where a part lies elsewhere, ``load_model(uri, model_config={"base": "/models/sdxl"})`` says
so.
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
from components.data.decode import decode_with_alpha
from components.data.region import region_finder
from components.errors import ConfigError, DataError
from components.model.naming import WordNamer
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.pictures import cut_out
from components.registry import checksums, origin, version_config
from components.registry.columns import ImageRow, png_bytes, read_rows


class _Seen(NamedTuple):
    """A reference's subject, cut out on white, and its vision tokens [n, d]."""

    picture: Image.Image
    tokens: Tensor


class PictureModel(PythonModel):
    """`RealCustomPipeline` with the adapter and the settings of one version."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the pipeline from the version's files.

        Raises:
            RegistryError: a file of the version was changed, or its configuration does not fit this release.
            ArtifactError: a part cannot be loaded, or is another than the adapter was trained for.
        """
        description = Path(context.artifacts["description"])
        checksums.check_files(description.parents[1])  # MLflow keeps what a model is given in a folder of its own
        described = json.loads(description.read_text())
        self._config = version_config.unpack(described["config"], context.model_config or {})
        origin.check_base(self._config.model.base, described["base_identity"])
        self._lock = threading.Lock()
        self._pipeline = RealCustomPipeline.from_config(self._config, adapter=context.artifacts["adapter"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Draw every row.

        Args:
            params: in place of the version's ``steps``, ``guidance_scale``, ``height`` and ``width``; and
                ``batch_size``, how many rows are drawn together.

        Raises:
            DataError, WordError: a row that cannot be drawn; its column is named. No row is drawn then.
            ConfigError: a parameter is out of range.
        """
        settings = dict(params or {})
        together = max(1, int(settings.pop("batch_size", 1)))
        sampling = _sampling(self._config.sampling, settings)
        orders = list(read_rows(model_input))
        drawn: list[dict[str, Any]] = []
        with self._lock:  # a pipeline draws for one caller at a time
            seen = self._look_at(orders)
            for first in range(0, len(orders), together):
                drawn += self._draw(orders[first : first + together], seen, sampling)
        return pd.DataFrame(drawn, index=model_input.index, columns=["picture", "prompt", "word"])

    def _look_at(self, orders: Sequence[ImageRow]) -> dict[bytes, _Seen]:
        seen: dict[bytes, _Seen] = {}
        for order in orders:
            if order.reference is not None and order.reference not in seen:
                picture = self._cut_out(order, order.reference)
                seen[order.reference] = _Seen(picture, self._pipeline.encode_subject([picture]))
        return seen

    def _draw(
        self, orders: Sequence[ImageRow], seen: Mapping[bytes, _Seen], sampling: SamplingConfig
    ) -> list[dict[str, Any]]:
        named = [self._named(order, seen) for order in orders]
        subjects = [
            [] if word is None or order.reference is None else [Subject(seen[order.reference].tokens, word)]
            for order, (_, word) in zip(orders, named, strict=True)
        ]
        generators = [torch.Generator().manual_seed(order.seed) for order in orders]
        prompts = [prompt for prompt, _ in named]
        images = self._pipeline(prompts, subjects=subjects, generator=generators, **sampling.arguments).images
        drawn = zip(images, named, strict=True)
        return [{"picture": png_bytes(image), "prompt": prompt, "word": word} for image, (prompt, word) in drawn]

    def _named(self, order: ImageRow, seen: Mapping[bytes, _Seen]) -> tuple[str, str | None]:
        """The prompt to draw and the word that stands for the subject; None where there is none."""
        if order.word is not None or order.reference is None:
            return order.prompt, order.word
        naming = self._namer.name(order.prompt, [seen[order.reference].picture])
        return naming.prompt, naming.word

    def _cut_out(self, order: ImageRow, reference: bytes) -> Image.Image:
        data = self._config.data
        try:
            decoded = decode_with_alpha(reference, data.max_pixels)
        except DataError as error:
            raise DataError(f"{order.place('reference')}: {error}") from None
        mask = decoded.mask or region_finder(data.region)(decoded.picture, None)
        return cut_out(decoded.picture, mask, self._pipeline.reference_size)

    @cached_property
    def _namer(self) -> WordNamer:
        return WordNamer.from_config(self._config.model, self._config.naming)


def _sampling(sampling: SamplingConfig, settings: dict[str, Any]) -> SamplingConfig:
    try:
        return SamplingConfig.model_validate(sampling.model_dump() | settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"params: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
