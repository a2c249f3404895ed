"""Scoring generated images, whole and with the subject cut out; existing scores are reused.

Similarity metrics are named after their variant: ``dino_whole`` compares whole images with whole photographs,
``dino_masked`` cut-outs with cut-outs. Text is always compared with the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from components.config import Config
from components.cut_outs import cut_out
from components.evaluation.dreambench.image_store import ImageStore
from components.evaluation.dreambench.photographs import read_photographs, without_surroundings
from components.evaluation.dreambench.pool import run_pool
from components.evaluation.dreambench.protocol import ImageSpec, Protocol
from components.evaluation.encoders import Encoders, load_encoders

VARIANTS = ("whole", "masked")
#: Threshold of influence masks.
_INFLUENCE = 25
#: Side of cut-outs in pixels; at least the input size of every encoder.
_CUT_OUT_SIDE = 512

#: Vectors [n, d] of one subject's photographs, by metric and variant.
Vectors = dict[str, Tensor]


def score_missing(config: Config, protocol: Protocol, images: ImageStore) -> int:
    """Score images without a row; returns how many."""
    missing = [spec for spec in protocol.specs if not images.has_row(spec.name)]
    run_pool(config, "score", ScoreShots, (protocol, images), missing)
    return len(missing)


class ScoreShots:
    """Scores generated images, a batch at a time; the first batch loads the encoders."""

    def __init__(self, config: Config, protocol: Protocol, images: ImageStore) -> None:
        self._config, self._protocol, self._images = config, protocol, images
        self._real = lru_cache(maxsize=4)(self._embed_photographs)

    def __call__(self, specs: Sequence[ImageSpec]) -> None:
        """Store the scores of those of ``specs`` that have none."""
        specs = [spec for spec in specs if not self._images.has_row(spec.name)]
        if not specs:
            return
        pictures = [self._images.picture(spec) for spec in specs]
        generated = self._vectors(pictures, [self._cut(*pair) for pair in zip(specs, pictures, strict=True)])
        texts = self._encoders.agreement(pictures, [spec.text for spec in specs])
        for row, spec in enumerate(specs):
            real = self._real(spec.subject)
            scores = {metric: similarity(generated[metric][row], real[metric]) for metric in generated}
            text = None if np.isnan(texts[row]) else float(texts[row])
            self._images.save_row(spec.name, {**scores, self._encoders.text: text})

    @cached_property
    def _encoders(self) -> Encoders:
        return load_encoders(self._config)

    def _embed_photographs(self, name: str) -> Vectors:
        """The vectors of a subject's photographs, whose similarity among themselves is stored, too."""
        data = self._config.data
        real = read_photographs(data, self._protocol.store, self._protocol.subject(name).photographs)
        vectors = self._vectors(real, [without_surroundings(data, picture, _CUT_OUT_SIDE) for picture in real])
        if not self._images.has_row(real_row(name)):
            self._images.save_row(real_row(name), {metric: self_similarity(v) for metric, v in vectors.items()})
        return vectors

    def _vectors(self, whole: list[Image.Image], masked: list[Image.Image]) -> Vectors:
        seen = dict(zip(VARIANTS, (whole, masked), strict=True))
        return {
            f"{metric}_{variant}": vectors
            for variant, pictures in seen.items()
            for metric, vectors in self._encoders.embed(pictures).items()
        }

    def _cut(self, spec: ImageSpec, picture: Image.Image) -> Image.Image:
        if self._config.evaluation.dreambench.mask == "region":
            return without_surroundings(self._config.data, picture, _CUT_OUT_SIDE)
        mask = self._images.mask(spec).resize(picture.size).point(lambda value: 255 if value > _INFLUENCE else 0)
        return cut_out(picture, mask, _CUT_OUT_SIDE)


def real_row(subject: str) -> str:
    """The name of the row with the similarity among a subject's photographs."""
    return f"{subject}/photographs"


def similarity(generated: Tensor, real: Tensor) -> float:
    """Mean cosine of one picture's unit vector [d] to those of the photographs [n, d]."""
    return float((real @ generated).mean())


def self_similarity(real: Tensor) -> float | None:
    """Mean cosine of different photographs' unit vectors [n, d]; None if there is only one."""
    if len(real) < 2:
        return None
    pairs = real @ real.T
    return float(pairs[~torch.eye(len(real), dtype=torch.bool)].mean())
