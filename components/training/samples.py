"""A grid of sample images with fixed seeds, for monitoring a training."""

from __future__ import annotations

import random

import torch
from PIL import Image
from torch import nn

from components.config import Config
from components.model.adapter import RealCustomAdapter
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.model.vision import VisionEncoder
from components.pictures import rows_of_pictures
from components.world.identities import KINDS, sample_identity
from components.world.places import PLACES
from components.world.scenes import draw_reference, write_caption


def sample_grid(config: Config, adapter: nn.Module, vision: VisionEncoder, columns: int = 6) -> Image.Image:
    """Rows of references, images without and with the subject, and masks; held-out identities, fixed seeds."""
    assert isinstance(adapter, RealCustomAdapter)
    pipeline = RealCustomPipeline.from_pretrained(config.model.base, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    device = next(adapter.parameters()).device
    pipeline.set_adapter(adapter, vision, config.sampling.guidance)
    pipeline.to(device)
    rng = random.Random(config.seed)
    identities = [sample_identity(rng, "held_out", KINDS[i % len(KINDS)]) for i in range(columns)]
    references = [draw_reference(identity, pipeline.reference_size, rng) for identity in identities]
    prompts = [write_caption(i.kind, rng.choice(sorted(PLACES))) for i in identities]
    subjects = [
        [Subject(pipeline.encode_subject([reference]), identity.kind)]
        for reference, identity in zip(references, identities, strict=True)
    ]

    def generate(with_subject: bool):  # type: ignore[no-untyped-def]
        return pipeline(
            prompts,
            subjects=subjects if with_subject else None,
            **config.sampling.arguments,
            generator=[torch.Generator().manual_seed(config.seed + i) for i in range(columns)],
        )

    stock, ours = generate(False), generate(True)
    return rows_of_pictures([references, stock.images, ours.images, [own[0] for own in ours.masks]])
