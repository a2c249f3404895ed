"""Converts the authors' released weights to an adapter directory, and defines the scheduler they were released with.

The file is untrusted: it is read without unpickling code, and all names and shapes are checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverSinglestepScheduler, SchedulerMixin, UNet2DConditionModel  # noqa: F401 - a saved pipeline loads with it: diffusers looks for the base class beside ours
from safetensors.torch import load_file
from torch import Tensor

from components.config import AdapterConfig, ConditioningConfig
from components.errors import ArtifactError
from components.model.adapter import RealCustomAdapter

#: Configuration of SDXL base's U-Net, as far as it differs from diffusers' defaults.
SDXL_UNET: dict[str, Any] = {
    "sample_size": 128,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [320, 640, 1280],
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
#: Channels of SigLIP so400m and DINOv2 large, concatenated.
VISION_CHANNELS = 1152 + 1024
#: Conditioning that the released weights were trained with.
CONDITIONING = ConditioningConfig(text_pooling="unprojected", scheduler="realcustom")
#: Most names that an error message lists.
_MAX_LISTED = 8


class OfficialScheduler(DPMSolverSinglestepScheduler):
    """Second-order single-step DPM-Solver++ as in the authors' code.

    The timesteps are *trailing* (999, 959, ... 39 for 25 steps), the orders 1, 1, 2, 1, 2, ... The last step is of
    first order to sigma 0: the final sample is the last predicted x0, which the authors decode.
    """

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        mu: float | None = None,
        timesteps: list[int] | None = None,
    ) -> None:
        """Set ``num_inference_steps`` trailing timesteps, or the given ``timesteps``."""
        if timesteps is None and num_inference_steps is not None:
            total = self.config.num_train_timesteps
            spaced = np.arange(total, 0, -total / num_inference_steps)[:num_inference_steps]
            num_inference_steps, timesteps = None, (spaced.round() - 1).astype(np.int64).tolist()
        super().set_timesteps(num_inference_steps, device=device, mu=mu, timesteps=timesteps)

    def get_order_list(self, num_inference_steps: int) -> list[int]:
        """The orders 1, 1, 2, 1, 2, ..., with 1 at the end."""
        orders = [1, *(1 + i % 2 for i in range(num_inference_steps - 1))]
        return [*orders[:-1], 1]


def official_scheduler() -> OfficialScheduler:
    """The scheduler of the release with SDXL's noise schedule."""
    return OfficialScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        solver_order=2,
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        lower_order_final=True,
        final_sigmas_type="zero",
    )


def convert(
    source: Path | str,
    target: Path | str,
    *,
    unet: Mapping[str, Any] = SDXL_UNET,
    vision_channels: int = VISION_CHANNELS,
    sizes: AdapterConfig = AdapterConfig(),
) -> RealCustomAdapter:
    """Convert released weights to an adapter directory.

    Args:
        source: a ``.pth`` or ``.safetensors`` file of named tensors, with the highres or the shallow projector.
        target: the directory to write.
        unet: configuration of the U-Net that the weights belong to.
        vision_channels: width of the vision features.
        sizes: widths of the projector; its kind is derived from the names in the file.

    Raises:
        ArtifactError: the file cannot be read, or a parameter is missing, unexpected or of another shape.
    """
    tensors = read_tensors(Path(source))
    config = sizes.model_copy(update=_projector_of(tensors))
    adapter = meta_adapter(meta_unet(unet), vision_channels, config)
    if wrong := differences(adapter.official_state_dict(), tensors):
        raise ArtifactError(f"{source} does not hold {config.projector} RealCustom weights: {'; '.join(wrong)}")
    adapter.load_official_state_dict(tensors, assign=True)
    adapter.save_pretrained(target)
    return adapter


def read_tensors(source: Path) -> dict[str, Tensor]:
    """Read the named tensors of a ``.safetensors`` or torch file.

    Raises:
        ArtifactError: the file is missing or damaged, or contains anything but named tensors.
    """
    if not source.is_file():
        raise ArtifactError(f"{source} does not exist: name the released .pth or .safetensors file")
    try:
        if source.suffix == ".safetensors":
            return load_file(source)
        tensors = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # the type depends on the damage
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"{source} is no file of weights: {first}") from None
    if not isinstance(tensors, dict) or not all(isinstance(v, Tensor) for v in tensors.values()):
        raise ArtifactError(f"{source} holds something else than named tensors: give the state dict itself")
    return tensors


@cache
def _cached_meta_unet(config: tuple[tuple[str, Any], ...]) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(**dict(config))


def meta_unet(config: Mapping[str, Any] = SDXL_UNET) -> UNet2DConditionModel:
    """A U-Net of this configuration on the meta device: names and shapes, without storage."""
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    return _cached_meta_unet(tuple(sorted(frozen.items())))


def meta_adapter(
    unet: UNet2DConditionModel, vision_channels: int = VISION_CHANNELS, config: AdapterConfig = AdapterConfig()
) -> RealCustomAdapter:
    """The released adapter for ``unet`` on the meta device."""
    with torch.device("meta"):
        return RealCustomAdapter.for_unet(unet, vision_channels, config, None, CONDITIONING)


def differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Differences in names and shapes, one sentence for each kind; empty if there are none."""
    missing = [k for k in expected if k not in found]
    unexpected = [k for k in found if k not in expected]
    misshaped = [
        f"{k} is {list(found[k].shape)}, not {list(v.shape)}"
        for k, v in expected.items()
        if k in found and found[k].shape != v.shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "misshaped": misshaped}
    return [f"{len(names)} {kind}: {_listed(names)}" for kind, names in kinds.items() if names]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def _projector_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The adapter configuration that the names belong to; the released code ignores the shallow one's local views."""
    shallow = any(".min_attention2." in name or ".projector2." in name for name in tensors)
    adaptive = any(name.endswith(".scale_value.value") for name in tensors)
    kind = {"projector": "shallow", "shallow_fusion": "code"} if shallow else {"projector": "highres"}
    return kind | {"adaptive_scale": adaptive}
