"""LoRA layers on a U-Net: added with PEFT, trained as one module, and written in diffusers' format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor, nn

#: Name of the file that diffusers' ``load_lora_weights`` looks for in a directory.
LORA_FILE = "pytorch_lora_weights.safetensors"
#: Layers that get a LoRA in diffusers' ``train_lcm_distill_lora_sdxl``: all of attention, feed-forward and residual
#: blocks. Without the residual blocks' convolutions a network with few attention layers hardly changes.
ALL_LAYERS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
    "conv_shortcut",
    "downsamplers.0.conv",
    "upsamplers.0.conv",
    "time_emb_proj",
)
#: PEFT's name of the layers that `add_adapter` adds.
_ADAPTER = "default"


class LoraLayers(nn.Module):
    """New LoRA layers of a U-Net, whose own parameters are frozen; they change nothing until they are trained.

    As a module it holds the LoRA's parameters alone, so that a training state or an average is as small as they are.

    Args:
        unet: gets the layers.
        rank: of every layer; alpha equals it, so that the layers act at full strength.
        targets: ends of the paths of the layers that get a LoRA.
    """

    def __init__(self, unet: UNet2DConditionModel, rank: int, targets: tuple[str, ...] = ALL_LAYERS) -> None:
        super().__init__()
        unet.requires_grad_(False)
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=[*targets]))
        trainable = {name: p for name, p in unet.named_parameters() if p.requires_grad}
        self.weights = nn.ParameterDict({name.replace(".", "/"): p for name, p in trainable.items()})

    @contextmanager
    def holding(self, other: nn.Module) -> Iterator[None]:
        """Within the block the U-Net computes with the values of ``other``, a copy such as an average."""
        own = {name: p.detach().clone() for name, p in self.named_parameters()}
        _copy(dict(other.named_parameters()), self)
        try:
            yield
        finally:
            _copy(own, self)


@contextmanager
def without_lora(unet: UNet2DConditionModel) -> Iterator[None]:
    """Within the block ``unet`` computes without its LoRA layers."""
    unet.disable_adapters()
    try:
        yield
    finally:
        unet.enable_adapters()


def save_lora(unet: UNet2DConditionModel, directory: Path, dtype: torch.dtype = torch.float16) -> Path:
    """Write the LoRA of ``unet`` to `LORA_FILE` in ``directory``, and return the file's path.

    Names are PEFT's for every layer. diffusers' `convert_state_dict_to_diffusers` renames those of attention alone, and
    its loader, which goes by the first name, then passes over them without an error.
    """
    layers = get_peft_model_state_dict(unet, adapter_name=_ADAPTER)
    StableDiffusionXLPipeline.save_lora_weights(
        directory,
        unet_lora_layers={name: tensor.to(dtype).contiguous() for name, tensor in layers.items()},
        **_collate_lora_metadata({"unet": unet}),
    )
    return directory / LORA_FILE


@torch.no_grad()
def _copy(values: dict[str, Tensor] | dict[str, nn.Parameter], module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        parameter.copy_(values[name])
