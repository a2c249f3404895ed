"""Generating the benchmark's images in a pool of processes; existing images are reused."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from components.config import Config
from components.evaluation.dreambench.image_store import ImageStore
from components.evaluation.dreambench.photographs import read_photographs, without_surroundings
from components.evaluation.dreambench.pool import run_pool
from components.evaluation.dreambench.protocol import ImageSpec, Protocol
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject


def generate_missing(config: Config, adapter: Path, protocol: Protocol, images: ImageStore) -> int:
    """Generate missing images of ``protocol`` with the ``adapter`` directory; returns how many."""
    missing = [spec for spec in protocol.specs if not images.has_picture(spec)]
    run_pool(config, "generate", GenerateShots, (adapter.absolute(), protocol, images), missing)
    return len(missing)


class GenerateShots:
    """Generates images, a batch at a time; the first batch loads the model."""

    def __init__(self, config: Config, adapter: Path, protocol: Protocol, images: ImageStore) -> None:
        self._config, self._adapter, self._protocol, self._images = config, adapter, protocol, images
        self._tokens = lru_cache(maxsize=4)(self._encode)

    def __call__(self, specs: Sequence[ImageSpec]) -> None:
        """Generate the missing images of ``specs``."""
        specs = [spec for spec in specs if not self._images.has_picture(spec)]
        if not specs:
            return
        output = self._pipeline(
            [spec.text for spec in specs],
            subjects=[[Subject(self._tokens(spec.subject), spec.word)] for spec in specs],
            **self._config.sampling.arguments,
            generator=[torch.Generator().manual_seed(spec.seed) for spec in specs],
        )
        for spec, picture, masks in zip(specs, output.images, output.masks or [], strict=True):
            self._images.save(spec, picture, masks[0])

    @cached_property
    def _pipeline(self) -> RealCustomPipeline:
        return RealCustomPipeline.from_config(self._config, adapter=str(self._adapter))

    def _encode(self, name: str) -> Tensor:
        """The vision tokens [n, d] of a subject's reference, its first photograph."""
        subject, data = self._protocol.subject(name), self._config.data
        (photograph,) = read_photographs(data, self._protocol.store, [subject.reference])
        return self._pipeline.encode_subject([without_surroundings(data, photograph, self._pipeline.reference_size)])
