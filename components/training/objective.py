"""The training objective: the noise-prediction error of the U-Net with the vision branch; all else is frozen.

Paper section 3.4. In training the influence mask is 1 everywhere. Beyond the paper, and off by default: the error on
the subject may have a larger weight, and a row may be trained with its face or body tokens only
(`components.training.token_groups`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from components.config import TrainingConfig
from components.model.adapter import RealCustomAdapter
from components.model.attention import SubjectAttention, SubjectContext
from components.model.unconditional_inputs import UnconditionalInputs
from components.model.vision import VisionFeatures
from components.training.curriculum import choose_multi_view
from components.training.timesteps import stratified_timesteps
from components.training.token_groups import drop_groups, kept_positions, subject_weights, token_gain
from components.training.transfer import to_device

#: Encodes rows of pixels, with references of another view for flagged rows.
Encode = Callable[[dict[str, Tensor], Tensor, float, torch.Generator], dict[str, Tensor]]


@dataclass(frozen=True)
class Example:
    """A batch of U-Net inputs in float32, on the training's device; reference features [b, n, d] / [b, 4 n, d].

    ``gain`` [b, n] scales the tokens of each patch of the reference, ``weight`` [b, h, w] the error at every latent
    position; None is 1.
    """

    latents: Tensor
    text_tokens: Tensor
    text_pooled: Tensor
    time_ids: Tensor
    reference: VisionFeatures
    gain: Tensor | None = None
    weight: Tensor | None = None


class SubjectDenoiser(nn.Module):
    """Adapter and frozen U-Net as one module, for distributed wrappers.

    A U-Net in bfloat16 needs autocast around the call: the adapter's parameters stay in float32.
    """

    def __init__(self, unet: UNet2DConditionModel, adapter: RealCustomAdapter) -> None:
        super().__init__()
        self.unet, self.adapter = unet.requires_grad_(False).eval(), adapter
        adapter.attach(unet)

    def forward(self, noisy: Tensor, timesteps: Tensor, example: Example) -> Tensor:
        """Predict from ``noisy`` latents [b, 4, h, w] at ``timesteps`` [b]."""
        gain = None if example.gain is None else example.gain.repeat(1, self.adapter.token_sets)
        subjects = [SubjectAttention(self.adapter(example.reference), gain)]
        context = SubjectContext((noisy.shape[-2], noisy.shape[-1]), subjects)
        dtype = self.unet.dtype
        pooled = example.text_pooled.to(dtype)
        predicted: Tensor = self.unet(
            noisy.to(dtype),
            timesteps,
            example.text_tokens.to(dtype),
            added_cond_kwargs={"text_embeds": pooled, "time_ids": example.time_ids},
            cross_attention_kwargs={"subject": context},
            return_dict=False,
        )[0]
        return predicted


class ChosenRows(NamedTuple):
    """Rows [b] that show another picture of their subject, none, and no caption."""

    other: Tensor
    drop_reference: Tensor
    drop_caption: Tensor

    def to(self, device: torch.device) -> ChosenRows:
        """The same on ``device``."""
        return ChosenRows(*(to_device(flags, device) for flags in self))


def choose_rows(count: int, config: TrainingConfig, progress: float, generator: torch.Generator) -> ChosenRows:
    """The random choices of a micro-batch of ``count`` rows, the first that its generator makes."""
    other = choose_multi_view(count, progress, config.curriculum, generator)
    drop_reference = torch.rand(count, generator=generator) < config.condition_dropout
    return ChosenRows(other, drop_reference, torch.rand(count, generator=generator) < config.text_dropout)


def draw_example(
    rows: dict[str, Tensor],
    absent: UnconditionalInputs,
    config: TrainingConfig,
    progress: float,
    generator: torch.Generator,
    encode: Encode | None = None,
) -> Example:
    """Choose references by the curriculum, and randomly drop references, captions and token groups.

    Random numbers come from the CPU, everything else is computed where the rows are.

    Args:
        rows: columns of the prepared dataset, stacked, on the training's device as ``absent`` is.
        progress: finished share of the training, in [0, 1].
        encode: encodes rows of pixels into latents and features.
    """
    count, device = len(rows["time_ids"]), rows["time_ids"].device
    other, drop_reference, drop_caption = choose_rows(count, config, progress, generator).to(device)
    if encode is not None:
        rows = encode(rows, other, progress, generator)

    def reference(name: str, missing: Tensor) -> Tensor:
        dimensions = rows[name].dim()
        chosen = torch.where(_rows(other, dimensions), rows[f"other_{name}"].float(), rows[name].float())
        return torch.where(_rows(drop_reference, dimensions), missing, chosen)

    gain = weight = None
    if config.subject_weight != 1:
        weight = subject_weights(rows["mask"].float(), config.subject_weight)
    if config.group_dropout:
        face = reference("face", torch.zeros((), device=device))
        dropped = drop_groups(face, config.group_dropout, generator)
        kept = kept_positions(rows["mask"], rows["head"], dropped)
        gain, weight = token_gain(face, dropped), kept if weight is None else weight * kept
    shallow: tuple[Tensor, ...] = ()
    if "shallow" in rows:
        shallow = reference("shallow", torch.stack(absent.vision.shallow, 1)).unbind(1)
    return Example(
        latents=rows["latents"].float(),
        text_tokens=torch.where(_rows(drop_caption, 3), absent.text_tokens, rows["text_tokens"].float()),
        text_pooled=torch.where(_rows(drop_caption, 2), absent.text_pooled, rows["text_pooled"].float()),
        time_ids=rows["time_ids"].float(),
        reference=VisionFeatures(
            reference("deep", absent.vision.deep), reference("local", absent.vision.local), shallow
        ),
        gain=gain,
        weight=weight,
    )


def diffusion_loss(
    denoiser: nn.Module,
    example: Example,
    scheduler: DDPMScheduler,
    generator: torch.Generator,
    device: torch.device,
    min_snr: float | None = None,
) -> Tensor:
    """Mean squared error of the prediction (of noise, or of v where the base predicts v), weighted by the example.

    Weights are not renormalised for positions that a dropped group excludes: such a row has a smaller weight. Noise and
    timesteps are sampled with a CPU ``generator``, so that a step is the same on every device.

    Args:
        example: on ``device``.
        min_snr: gamma of the min-SNR weighting of timesteps (Hang et al. 2023, section 3.4); None: uniform weights.
    """
    clean = example.latents
    noise = to_device(torch.randn(clean.shape, generator=generator), device)
    uniform = torch.rand(len(clean), generator=generator)
    timesteps = to_device(stratified_timesteps(uniform, scheduler.config.num_train_timesteps), device)
    noisy = scheduler.add_noise(clean, noise, timesteps)
    v_prediction = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(clean, noise, timesteps) if v_prediction else noise
    predicted = denoiser(noisy, timesteps, example)
    if example.weight is None and min_snr is None:
        return F.mse_loss(predicted.float(), target)
    squared = F.mse_loss(predicted.float(), target, reduction="none")
    if example.weight is not None:
        squared = example.weight[:, None] * squared
    if min_snr is not None:
        squared = snr_weights(scheduler, timesteps, min_snr)[:, None, None, None] * squared
    return squared.mean()


def snr_weights(scheduler: DDPMScheduler, timesteps: Tensor, gamma: float) -> Tensor:
    """Weights [b] of ``timesteps`` [b]: min(SNR, gamma) / SNR on the error of noise, / (SNR + 1) on that of v."""
    kept = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    snr = kept / (1 - kept)
    v_prediction = scheduler.config.prediction_type == "v_prediction"
    return snr.clamp(max=gamma) / (snr + 1 if v_prediction else snr.clamp(min=1e-8))


def _rows(flags: Tensor, dimensions: int) -> Tensor:
    return flags.view(-1, *[1] * (dimensions - 1))
