"""Drawing the benchmark's pictures in a pool of processes; what is already there is not drawn again."""

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


def draw_missing(config: Config, adapter: Path, protocol: Protocol, album: ImageStore) -> int:
    """Draw the shots of ``protocol`` that ``album`` lacks, with the ``adapter`` directory; returns how many."""
    missing = [shot for shot in protocol.shots if not album.has_picture(shot)]
    run_pool(config, "draw", DrawShots, (adapter.absolute(), protocol, album), missing)
    return len(missing)


class DrawShots:
    """Draws shots, a batch at a time; the first one loads the model."""

    def __init__(self, config: Config, adapter: Path, protocol: Protocol, album: ImageStore) -> None:
        self._config, self._adapter, self._protocol, self._album = config, adapter, protocol, album
        self._tokens = lru_cache(maxsize=4)(self._encode)

    def __call__(self, shots: Sequence[Shot]) -> None:
        """Draw what is missing of ``shots``; a batch that was cut short goes on in its middle."""
        shots = [shot for shot in shots if not self._album.has_picture(shot)]
        if not shots:
            return
        output = self._pipeline(
            [shot.text for shot in shots],
            subjects=[[Subject(self._tokens(shot.subject), shot.word)] for shot in shots],
            **self._config.sampling.arguments,
            generator=[torch.Generator().manual_seed(shot.seed) for shot in shots],
        )
        for shot, picture, masks in zip(shots, output.images, output.masks or [], strict=True):
            self._album.save(shot, picture, masks[0])

    @cached_property
    def _pipeline(self) -> RealCustomPipeline:
        return RealCustomPipeline.from_config(self._config, adapter=str(self._adapter))

    def _encode(self, name: str) -> Tensor:
        """The vision tokens [n, d] of a subject's reference, its first photograph."""
        subject, data = self._protocol.subject(name), self._config.data
        (photograph,) = read_photographs(data, self._protocol.store, [subject.reference])
        return self._pipeline.encode_subject([without_surroundings(data, photograph, self._pipeline.reference_size)])
