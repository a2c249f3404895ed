"""Checks an adapter directory against the configured base model and vision encoders, without loading their weights."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import AutoConfig

from components.config import Config
from components.errors import ArtifactError
from components.model.adapter import RealCustomAdapter
from components.model.base_model import base_layout
from components.model.vision import encoder_identity


def check_adapter(config: Config, directory: Path) -> RealCustomAdapter:
    """Load the adapter in ``directory``, and check it against `config.model` and `config.vision`.

    Raises:
        ArtifactError: the directory holds no sound adapter, the base or an encoder cannot be found, or the adapter
            belongs to another U-Net or to other encoders.
    """
    if not directory.is_dir():
        raise ArtifactError(f"--adapter {directory}: there is no such directory; `realcustom convert` writes one")
    adapter = RealCustomAdapter.from_pretrained(directory)
    _check_unet(config, adapter)
    _check_encoders(config, adapter)
    return adapter


def _check_unet(config: Config, adapter: RealCustomAdapter) -> None:
    base = config.model.base
    try:
        described = UNet2DConditionModel.load_config(base_layout(config.model), subfolder="unet")
    except (OSError, ValueError) as error:
        raise ArtifactError(f"model.base: {base} has no U-Net that can be read: {_first_line(error)}") from None
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(described)
        expected = RealCustomAdapter.for_unet(unet, adapter.vision_channels, adapter.projector_config, None).layer_dims
    if expected == adapter.layer_dims:
        return
    wrong = sorted(
        path
        for path in expected.keys() | adapter.layer_dims.keys()
        if expected.get(path) != adapter.layer_dims.get(path)
    )
    raise ArtifactError(
        f"the adapter belongs to another U-Net than that of model.base {base}: {len(wrong)} cross-attention layers "
        f"differ, the first is {wrong[0]}; set model.base (or --preset) to the model that it was trained on"
    )


def _check_encoders(config: Config, adapter: RealCustomAdapter) -> None:
    channels = sum(_channels(config, name) for name in ("siglip", "dinov2"))
    if adapter.vision_channels != channels:
        raise ArtifactError(
            f"the adapter reads {adapter.vision_channels} vision channels, but model.siglip and model.dinov2 have "
            f"{channels}: set both to the encoders that it was trained with"
        )
    if adapter.encoder_identity not in (None, encoder_identity(config.model, config.vision)):
        raise ArtifactError(
            "the adapter was trained with other vision encoders or blocks: set model.siglip, model.dinov2 and vision "
            "as in its training"
        )
    if adapter.projector_config.projector == "shallow" and not config.vision.siglip_shallow:
        raise ArtifactError(
            "the adapter reads shallow features: set vision.siglip_shallow and vision.dinov2_shallow to the blocks of "
            "its training (the authors': [7, 13, 19] and [4, 10, 16])"
        )


def _channels(config: Config, name: str) -> int:
    part = str(getattr(config.model, name))
    try:
        described = AutoConfig.from_pretrained(part)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"model.{name}: {part} cannot be read: {_first_line(error)}") from None
    return int(getattr(described, "vision_config", described).hidden_size)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
