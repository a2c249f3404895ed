"""ControlNets and T2I-Adapters beside the subjects: a picture (pose, depth, scribble, ...) guides the composition.

A ControlNet is called in every step for the rows that it controls, a T2I-Adapter once. Their residuals enter the common
U-Net call; rows without control get zeros, so that requests with any control, or none, share it.

Shapes: b images, r rows of a U-Net call, (H, W) pixels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import ControlNetModel, T2IAdapter
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from torch import Tensor

from components.errors import ArtifactError, ConfigError
from components.model.text import TextFeatures

ControlModel: TypeAlias = ControlNetModel | T2IAdapter
_KINDS: dict[str, type[Any]] = {"ControlNetModel": ControlNetModel, "T2IAdapter": T2IAdapter}


@dataclass(frozen=True, eq=False)
class Control:
    """The control of a request.

    Args:
        name: of a model that `load_controls` has loaded.
        image: what it was trained to follow, such as a pose; resized to the size of the generated image.
        scale: factor of its residuals.
        start, end: shares of the steps between which it acts.

    Raises:
        ValueError: ``start`` and ``end`` are not in order between 0 and 1.
    """

    name: str
    image: Image.Image
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(f"control: start {self.start} and end {self.end} are not in order between 0 and 1")


@dataclass(frozen=True, eq=False)
class ActiveControl:
    """The control of a conditioning, with what does not change between steps.

    Args:
        picture: [b, 3, H, W] in [0, 1].
        features: a T2I-Adapter's, one [b, c, h, w] a U-Net level; empty for a ControlNet.
        steps: number of steps.
    """

    model: ControlModel
    picture: Tensor
    features: tuple[Tensor, ...]
    scale: float
    start: float
    end: float
    steps: int

    def acts(self, step: int) -> bool:
        """Whether it acts in ``step``, by the rule of diffusers' pipelines."""
        return not (step / self.steps < self.start or (step + 1) / self.steps > self.end)


def load_controls(paths: Mapping[str, str], device: torch.device, dtype: torch.dtype) -> dict[str, ControlModel]:
    """Load ControlNets and T2I-Adapters in the layout of diffusers, by name.

    Raises:
        ArtifactError: one is neither, or cannot be loaded.
    """
    loaded = {}
    for name, path in paths.items():
        try:
            kind = _KINDS.get(_class_name(path))
            if kind is None:
                raise ArtifactError(f"model.controls.{name}: {path} is no ControlNetModel and no T2IAdapter")
            loaded[name] = kind.from_pretrained(path, torch_dtype=dtype).to(device).requires_grad_(False).eval()
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ArtifactError(f"model.controls.{name} cannot be loaded: {str(error).splitlines()[0]}") from None
    return loaded


def control_shares(models: Mapping[str, ControlModel], unet: torch.nn.Module) -> dict[str, float]:
    """The share of a U-Net call by which each lengthens a step: that of its parameters.

    A T2I-Adapter, which is called once an image, has 0.
    """
    whole = sum(each.numel() for each in unet.parameters())

    def share(model: ControlModel) -> float:
        if isinstance(model, T2IAdapter):
            return 0.0
        return float(sum(each.numel() for each in model.parameters()) / whole)

    return {name: share(model) for name, model in models.items()}


def prepare_control(
    control: Control,
    models: Mapping[str, ControlModel],
    size: tuple[int, int],
    count: int,
    steps: int,
    like: Tensor,
) -> ActiveControl:
    """The control of ``count`` images of ``size`` (height, width) in pixels.

    Args:
        like: a tensor of the U-Net's device and precision.

    Raises:
        ValueError: there is no such control.
        ConfigError: a T2I-Adapter does not take pictures of ``size``.
    """
    model = models.get(control.name)
    if model is None:
        known = ", ".join(models) or "none (model.controls names them)"
        raise ValueError(f"control: {control.name!r} is not loaded; choose from: {known}")
    if isinstance(model, T2IAdapter) and any(side % model.downscale_factor for side in size):
        needed = model.downscale_factor
        raise ConfigError(f"size: the control {control.name!r} takes sides that are multiples of {needed}")
    processor = VaeImageProcessor(do_convert_rgb=True, do_normalize=False)
    picture = processor.preprocess(control.image, *size).to(like).repeat_interleave(count, 0)
    features = () if isinstance(model, ControlNetModel) else tuple(each * control.scale for each in model(picture))
    return ActiveControl(model, picture, features, control.scale, control.start, control.end, steps)


def control_residuals(
    rows: Sequence[tuple[ActiveControl | None, int, int]],
    latents: Tensor,
    timesteps: Tensor,
    text: TextFeatures,
    time_ids: Tensor,
) -> dict[str, Any]:
    """The arguments of the U-Net call that hold the residuals of all controls; empty if none acts.

    Args:
        rows: the control, the step and the number of images of what the call's rows belong to, in order.
    """
    acting: dict[int, list[tuple[ActiveControl, range]]] = {}
    first = 0
    for control, step, count in rows:
        if control is not None and control.acts(step):
            acting.setdefault(id(control.model), []).append((control, range(first, first + count)))
        first += count
    nets: list[Tensor] | None = None
    adapters: list[Tensor] | None = None
    for group in acting.values():
        index = torch.tensor([row for _, span in group for row in span], device=latents.device)
        model = group[0][0].model
        if isinstance(model, ControlNetModel):
            nets = _added(nets, _call(model, group, index, latents, timesteps, text, time_ids), index, len(latents))
        else:
            levels = zip(*(control.features for control, _ in group), strict=True)
            adapters = _added(adapters, [torch.cat(level) for level in levels], index, len(latents))
    arguments: dict[str, Any] = {}
    if nets is not None:
        *down, middle = nets
        arguments |= {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
    if adapters is not None:
        arguments["down_intrablock_additional_residuals"] = adapters
    return arguments


def _call(
    model: ControlNetModel,
    group: Sequence[tuple[ActiveControl, range]],
    index: Tensor,
    latents: Tensor,
    timesteps: Tensor,
    text: TextFeatures,
    time_ids: Tensor,
) -> list[Tensor]:
    """The residuals of a ControlNet for its rows, those of the middle block last."""
    down, middle = model(
        latents[index],
        timesteps[index],
        encoder_hidden_states=text.tokens[index],
        controlnet_cond=torch.cat([control.picture for control, _ in group]),
        added_cond_kwargs={"text_embeds": text.pooled[index], "time_ids": time_ids[index]},
        return_dict=False,
    )
    scale = torch.cat([control.picture.new_full((len(span),), control.scale) for control, span in group])
    return [each * scale[:, None, None, None] for each in (*down, middle)]


def _added(sums: list[Tensor] | None, residuals: Sequence[Tensor], index: Tensor, rows: int) -> list[Tensor]:
    """``sums`` plus the residuals of the rows ``index``, zero in all others."""
    if sums is None:
        sums = [each.new_zeros(rows, *each.shape[1:]) for each in residuals]
    return [total.index_add(0, index, each) for total, each in zip(sums, residuals, strict=True)]


def _class_name(path: str) -> str:
    if Path(path).is_dir():
        return str(json.loads((Path(path) / "config.json").read_text()).get("_class_name"))
    return str(ControlNetModel.load_config(path).get("_class_name"))
