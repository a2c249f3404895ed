"""A grid of sample images with fixed seeds, for monitoring a training."""

from __future__ import annotations

import random

import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from components.config import Config
from components.model.adapter import RealCustomAdapter
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.model.vision import VisionEncoder
from components.pictures import rows_of_pictures
from components.world.identities import KINDS, sample_identity
from components.world.places import PLACES
from components.world.scenes import draw_reference, write_caption


def sample_grid(
    config: Config, unet: UNet2DConditionModel, adapter: RealCustomAdapter, vision: VisionEncoder, columns: int = 6
) -> Image.Image:
    """Rows of references, images without and with the subject, and masks; held-out identities, fixed seeds.

    Text encoders and autoencoder are loaded for the time of the call, in the precision of ``unet``, on its device.

    Args:
        unet: gets the attention processors of ``adapter``.
        adapter: not changed; copied if the U-Net has another precision.
    """
    pipeline = RealCustomPipeline.from_pretrained(config.model.base, unet=unet, dtype=unet.dtype)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.set_adapter(_in_precision(adapter, unet.dtype), vision, config.sampling.guidance)
    pipeline.to(unet.device)
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


def _in_precision(adapter: RealCustomAdapter, dtype: torch.dtype) -> RealCustomAdapter:
    if adapter.dtype == dtype:
        return adapter
    with torch.device("meta"):
        copied: RealCustomAdapter = RealCustomAdapter.from_config(adapter.config)
    copied.load_state_dict({name: value.to(dtype) for name, value in adapter.state_dict().items()}, assign=True)
    return copied
