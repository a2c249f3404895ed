"""Latent consistency distillation as pure functions of tensors (Luo et al. 2023, arXiv 2310.04378 and 2311.05556).

A consistency function maps a noisy latent of any timestep to the sample at the start of its trajectory:
``f(x, t) = c_skip(t) x + c_out(t) x0(x, t)``, where x0 is the network's prediction. The student's f at a timestep of a
coarse grid is trained to equal its own f at the grid's previous timestep, which the teacher's guided prediction leads
to by one DDIM step. Scalings and grid are those of diffusers' `LCMScheduler`, which samples from the student.

Shapes: b latents, [b, 4, h, w] each; timesteps int64 [b].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SIGMA_DATA = 0.5
#: Factor on timesteps in the boundary scalings, `LCMScheduler`'s ``timestep_scaling``.
TIMESTEP_SCALING = 10.0


@dataclass(frozen=True)
class NoiseLevels:
    """The signal ``alpha`` and noise ``sigma`` of every timestep, [steps] each, and what the network predicts.

    Args:
        alphas_cumprod: of a diffusers scheduler, [steps].
        prediction_type: ``epsilon`` or ``v_prediction``.

    Raises:
        ValueError: the prediction type is another one.
    """

    alphas_cumprod: Tensor
    prediction_type: str

    def __post_init__(self) -> None:
        if self.prediction_type not in ("epsilon", "v_prediction"):
            raise ValueError(f"a base that predicts {self.prediction_type!r} cannot be distilled: epsilon or v only")

    @property
    def steps(self) -> int:
        return len(self.alphas_cumprod)

    def at(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma at ``timesteps``, [b, 1, 1, 1] each."""
        squared = self.alphas_cumprod.to(timesteps.device)[timesteps][:, None, None, None]
        return squared.sqrt(), (1 - squared).sqrt()

    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """``alpha x0 + sigma noise``."""
        alpha, sigma = self.at(timesteps)
        return alpha * clean + sigma * noise

    def split(self, noisy: Tensor, prediction: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """The sample x0 and the noise that the network's ``prediction`` for ``noisy`` latents stands for."""
        alpha, sigma = self.at(timesteps)
        if self.prediction_type == "epsilon":
            return (noisy - sigma * prediction) / alpha, prediction
        return alpha * noisy - sigma * prediction, alpha * prediction + sigma * noisy


def timestep_grid(train_steps: int, grid_steps: int) -> Tensor:
    """The timesteps at which the student is trained, ascending: every k-th, the last one being the noisiest.

    Raises:
        ValueError: there are more grid steps than timesteps.
    """
    spacing = train_steps // grid_steps
    if spacing < 1:
        raise ValueError(f"distillation.grid_steps: {grid_steps} is more than the base's {train_steps} timesteps")
    return torch.arange(1, grid_steps + 1) * spacing - 1


def previous_timesteps(timesteps: Tensor, spacing: int) -> Tensor:
    """The grid's previous timesteps; 0 before the first."""
    return (timesteps - spacing).clamp_min(0)


def boundary_scalings(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """c_skip and c_out, [b, 1, 1, 1] each: 1 and 0 at timestep 0, where f must be the identity."""
    scaled = (timesteps.float() * TIMESTEP_SCALING)[:, None, None, None]
    total = scaled**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / total, scaled / total.sqrt()


def consistency_function(noisy: Tensor, sample: Tensor, timesteps: Tensor) -> Tensor:
    """``c_skip x + c_out x0`` for the predicted ``sample`` x0."""
    c_skip, c_out = boundary_scalings(timesteps)
    return c_skip * noisy + c_out * sample


def guide(unconditional: Tensor, conditional: Tensor, scale: Tensor) -> Tensor:
    """Classifier-free guidance with one ``scale`` [b] a latent; 1 is the conditional prediction."""
    return unconditional + scale[:, None, None, None] * (conditional - unconditional)


def ddim_step(levels: NoiseLevels, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """The latents at the earlier ``timesteps`` of a trajectory that points to ``sample`` and ``noise``."""
    return levels.add_noise(sample, noise, timesteps)


def pseudo_huber(predicted: Tensor, target: Tensor, width: float) -> Tensor:
    """Mean of ``sqrt((predicted - target)^2 + width^2) - width``: squared within ``width``, linear outside."""
    return (((predicted.float() - target.float()) ** 2 + width**2).sqrt() - width).mean()
