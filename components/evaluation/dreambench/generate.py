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
from components.evaluation.dreambench.protocol import Protocol, Shot
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject


def generate_missing(config: Config, adapter: Path, protocol: Protocol, images: ImageStore) -> int:
    """Generate missing images of ``protocol`` with the ``adapter`` directory; returns how many."""
    missing = [shot for shot in protocol.shots if not images.has_picture(shot)]
    run_pool(config, "generate", GenerateShots, (adapter.absolute(), protocol, images), missing)
    return len(missing)


class GenerateShots:
    """Generates images, a batch at a time; the first batch loads the model."""

    def __init__(self, config: Config, adapter: Path, protocol: Protocol, images: ImageStore) -> None:
        self._config, self._adapter, self._protocol, self._images = config, adapter, protocol, images
        self._tokens = lru_cache(maxsize=4)(self._encode)

    def __call__(self, shots: Sequence[Shot]) -> None:
        """Generate the missing images of ``shots``."""
        shots = [shot for shot in shots if not self._images.has_picture(shot)]
        if not shots:
            return
        output = self._pipeline(
            [shot.text for shot in shots],
            subjects=[[Subject(self._tokens(shot.subject), shot.word)] for shot in shots],
            **self._config.sampling.arguments,
            generator=[torch.Generator().manual_seed(shot.seed) for shot in shots],
        )
        for shot, picture, masks in zip(shots, output.images, output.masks or [], strict=True):
            self._images.save(shot, picture, masks[0])

    @cached_property
    def _pipeline(self) -> RealCustomPipeline:
        return RealCustomPipeline.from_config(self._config, adapter=str(self._adapter))

    def _encode(self, name: str) -> Tensor:
        """The vision tokens [n, d] of a subject's reference, its first photograph."""
        subject, data = self._protocol.subject(name), self._config.data
        (photograph,) = read_photographs(data, self._protocol.store, [subject.reference])
        return self._pipeline.encode_subject([without_surroundings(data, photograph, self._pipeline.reference_size)])
