"""A grid of sample images with fixed seeds, for monitoring a training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Tensor

from components.config import Config
from components.errors import WordError
from components.model.adapter import RealCustomAdapter
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.model.vision import VisionFeatures
from components.pictures import rows_of_pictures
from components.training.sample_cases import SampleCase


@torch.no_grad()
def sample_grid(
    config: Config,
    unet: UNet2DConditionModel,
    adapter: RealCustomAdapter,
    cases: Sequence[SampleCase],
    black: VisionFeatures,
) -> Image.Image | None:
    """Rows of references, images without and with the subject, and masks; a column for each of ``cases``.

    Cases whose word stands beyond the text encoders' length are left out; None if none is left.

    Text encoders and autoencoder are loaded for the time of the call, in the precision of ``unet``, on its device. No
    vision encoder is needed. Images are generated one by one, so that memory is that of one.

    Args:
        unet: gets the attention processors of ``adapter``.
        adapter: not changed; copied if the U-Net has another precision.
        black: features of a black reference.
    """
    pipeline = RealCustomPipeline.from_pretrained(config.model.base, unet=unet, dtype=unet.dtype)
    pipeline.set_progress_bar_config(disable=True)
    own = _in_precision(adapter, unet.dtype)
    own.store_no_subject(_on(black, own), "")
    pipeline.set_adapter(own, None, config.sampling.guidance)
    pipeline.to(unet.device)
    columns = []
    for index, case in enumerate(cases):
        subject = Subject(own(_on(case.features, own)).flatten(0, 1), case.word)
        try:
            stock, ours = (
                pipeline(
                    case.prompt,
                    subjects=subjects,
                    generator=torch.Generator().manual_seed(config.seed + index),
                    **config.sampling.arguments,
                )
                for subjects in (None, subject)
            )
        except WordError:
            continue
        assert ours.masks is not None
        columns.append([_shown(pipeline, case.shown), stock.images[0], ours.images[0], ours.masks[0][0]])
    own.forget_no_subject()
    return rows_of_pictures(list(zip(*columns, strict=True))) if columns else None


def _shown(pipeline: RealCustomPipeline, shown: Image.Image | Tensor) -> Image.Image:
    if isinstance(shown, Image.Image):
        return shown
    image: Image.Image = pipeline.decode(shown[None].to(pipeline.unet.device))[0]
    return image


def _on(features: VisionFeatures, adapter: RealCustomAdapter) -> VisionFeatures:
    """``features`` on the device and in the precision of ``adapter``."""
    deep, local, *shallow = (
        each.to(adapter.device, adapter.dtype) for each in (features.deep, features.local, *features.shallow)
    )
    return VisionFeatures(deep, local, tuple(shallow))


def _in_precision(adapter: RealCustomAdapter, dtype: torch.dtype) -> RealCustomAdapter:
    if adapter.dtype == dtype:
        return adapter
    with torch.device("meta"):
        copied: RealCustomAdapter = RealCustomAdapter.from_config(adapter.config)
    copied.load_state_dict({name: value.to(dtype) for name, value in adapter.state_dict().items()}, assign=True)
    return copied
