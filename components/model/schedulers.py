"""The samplers that a request may name: diffusers' schedulers with their settings, on the model's noise schedule.

Only the noise schedule is taken from the model's own scheduler. What belongs to another algorithm is not: diffusers'
`from_config` would, for instance, let `ddim` clamp latents to [-1, 1] wherever the model's own scheduler has no
``clip_sample``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

from components.errors import ConfigError
from components.model.official import OfficialScheduler

_KARRAS = {"use_karras_sigmas": True}
_EXPONENTIAL = {"use_exponential_sigmas": True}
_SDE = {"algorithm_type": "sde-dpmsolver++"}
#: Without it the first-order step to sigma 0, which `final_sigmas_type` asks for, is refused or diverges.
_LOWER_ORDER_FINAL = {"lower_order_final": True}
#: For bases and LoRAs of few steps (SDXL-Lightning, SDXL-Turbo, Hyper-SD): the first step begins at noise alone.
_TRAILING = {"timestep_spacing": "trailing"}
#: Values that diffusers' schedulers keep of a noise schedule.
_NOISE = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "steps_offset",
    "set_alpha_to_one",
)
#: The last alpha of a schedule with zero terminal SNR where a scheduler divides by it, as in diffusers.
_SMALLEST_ALPHA = 2.0**-24


@dataclass(frozen=True)
class Sampler:
    """A scheduler's class and settings.

    Args:
        kind: a diffusers scheduler.
        settings: arguments of ``kind`` beside the noise schedule.
        most_steps: upper limit of steps, if there is one: of those that a base was distilled to.
        calls: U-Net calls a step; the last step has one.
    """

    kind: type[Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    most_steps: int | None = None
    calls: int = 1


#: Samplers by name.
SAMPLERS: dict[str, Sampler] = {
    "ddim": Sampler(DDIMScheduler, {"clip_sample": False}),
    "ddim_trailing": Sampler(DDIMScheduler, {"clip_sample": False} | _TRAILING),
    "deis": Sampler(DEISMultistepScheduler),
    "dpmpp_2m": Sampler(DPMSolverMultistepScheduler),
    "dpmpp_2m_karras": Sampler(DPMSolverMultistepScheduler, _KARRAS),
    "dpmpp_2m_exponential": Sampler(DPMSolverMultistepScheduler, _EXPONENTIAL),
    "dpmpp_2m_sde": Sampler(DPMSolverMultistepScheduler, _SDE),
    "dpmpp_2m_sde_karras": Sampler(DPMSolverMultistepScheduler, _SDE | _KARRAS),
    "dpmpp_sde": Sampler(DPMSolverSinglestepScheduler, _SDE | _LOWER_ORDER_FINAL),
    "dpmpp_sde_karras": Sampler(DPMSolverSinglestepScheduler, _SDE | _LOWER_ORDER_FINAL | _KARRAS),
    "euler": Sampler(EulerDiscreteScheduler),
    "euler_karras": Sampler(EulerDiscreteScheduler, _KARRAS),
    "euler_trailing": Sampler(EulerDiscreteScheduler, _TRAILING),
    "euler_a": Sampler(EulerAncestralDiscreteScheduler),
    "euler_a_trailing": Sampler(EulerAncestralDiscreteScheduler, _TRAILING),
    "heun": Sampler(HeunDiscreteScheduler, calls=2),
    "heun_karras": Sampler(HeunDiscreteScheduler, _KARRAS, calls=2),
    "lcm": Sampler(LCMScheduler, {"clip_sample": False}, most_steps=50),
    "tcd": Sampler(TCDScheduler, {"clip_sample": False}, most_steps=50),
    "unipc": Sampler(UniPCMultistepScheduler),
    "unipc_karras": Sampler(UniPCMultistepScheduler, _KARRAS),
    # The name of dpmpp_2m in earlier releases.
    "dpm++": Sampler(DPMSolverMultistepScheduler),
}
#: The sampler of the authors' release, for adapters that were trained with it.
OFFICIAL = "realcustom"
NAMES = (*SAMPLERS, OFFICIAL)


def new_scheduler(name: str, own: Any) -> Any:
    """A new diffusers scheduler for one request.

    Args:
        name: one of `NAMES`.
        own: the pipeline's scheduler, whose noise schedule and prediction type are used.

    Raises:
        ConfigError: there is no such sampler, or it does not fit the model: it is `OFFICIAL` and the adapter was not
            trained with it, or it spaces noise levels and the schedule ends in noise alone (zero terminal SNR).
    """
    if name == OFFICIAL:
        if not isinstance(own, OfficialScheduler):
            raise ConfigError(f"scheduler: this adapter does not name {OFFICIAL!r}; leave it out for the model's own")
        return OfficialScheduler.from_config(own.config)
    if name not in SAMPLERS:
        raise ConfigError(f"scheduler: choose one of {', '.join(NAMES)}")
    sampler = SAMPLERS[name]
    if has_zero_terminal_snr(own) and not sampler.settings.keys().isdisjoint(_KARRAS | _EXPONENTIAL):
        plain = name.removesuffix("_karras").removesuffix("_exponential")
        reason = f"{name} spaces noise levels, which have no end on this model's schedule"
        raise ConfigError(f"scheduler: {reason}; use {plain}")
    accepted = sampler.kind().config.keys()
    settings = _noise_schedule(own, "rescale_betas_zero_snr" in accepted) | dict(sampler.settings)
    return sampler.kind(**{key: value for key, value in settings.items() if key in accepted})


def unet_calls(name: str | None, steps: int) -> int:
    """U-Net calls of ``steps`` steps; ``name`` None is the model's own sampler, which makes one a step."""
    calls = SAMPLERS[name].calls if name in SAMPLERS else 1
    return calls * (steps - 1) + 1


def check_steps(name: str | None, steps: int) -> None:
    """Refuse more steps than a sampler has.

    Raises:
        ConfigError: there are too many.
    """
    most = SAMPLERS[name].most_steps if name in SAMPLERS else None
    if most is not None and steps > most:
        raise ConfigError(f"steps: the sampler {name} has at most {most}; it is meant for 1 to 8")


def has_zero_terminal_snr(own: Any) -> bool:
    """Whether the last timestep of a scheduler's noise schedule is noise alone."""
    return bool(own.config.get("rescale_betas_zero_snr", False))


def _noise_schedule(own: Any, knows_zero_snr: bool) -> dict[str, Any]:
    """Arguments for the noise schedule of ``own``; a scheduler that does not know zero terminal SNR gets its betas."""
    schedule = {key: own.config[key] for key in _NOISE if key in own.config}
    zero_snr = has_zero_terminal_snr(own)
    # From the last timestep on, where the schedule ends in noise alone or the adapter was trained to begin there.
    trailing = zero_snr or isinstance(own, OfficialScheduler)
    schedule["timestep_spacing"] = "trailing" if trailing else own.config.get("timestep_spacing", "leading")
    if zero_snr and knows_zero_snr:
        schedule["rescale_betas_zero_snr"] = True
    elif zero_snr:
        schedule["trained_betas"] = _zero_snr_betas(schedule)
    return schedule


def _zero_snr_betas(schedule: Mapping[str, Any]) -> list[float]:
    """The betas of a schedule, rescaled to zero terminal SNR but for what schedulers divide by."""
    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
    betas = DDPMScheduler(**{name: schedule[name] for name in names if name in schedule}).betas
    alphas = torch.cumprod(1 - rescale_zero_terminal_snr(betas).double(), 0)
    alphas[-1] = _SMALLEST_ALPHA
    return [float(1 - alphas[0]), *(1 - alphas[1:] / alphas[:-1]).tolist()]
