"""The schedulers that a request may name, with the noise schedule of the model."""

from __future__ import annotations

from typing import Any

from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from components.errors import ConfigError
from components.model.official import OfficialScheduler

#: Schedulers with one U-Net call a step, so that a step costs the same with each.
SCHEDULERS: dict[str, type[Any]] = {
    "ddim": DDIMScheduler,
    "deis": DEISMultistepScheduler,
    "dpm++": DPMSolverMultistepScheduler,
    "euler": EulerDiscreteScheduler,
    "euler_a": EulerAncestralDiscreteScheduler,
    "unipc": UniPCMultistepScheduler,
}
#: The scheduler of the authors' release, for adapters that were trained with it.
OFFICIAL = "realcustom"
NAMES = (*SCHEDULERS, OFFICIAL)


def new_scheduler(name: str, own: Any) -> Any:
    """A new diffusers scheduler for one request.

    Args:
        name: one of `NAMES`.
        own: the pipeline's scheduler, whose noise schedule and prediction type are used.

    Raises:
        ConfigError: there is no such scheduler, or it is `OFFICIAL` and the adapter was not trained with it.
    """
    if name == OFFICIAL:
        if not isinstance(own, OfficialScheduler):
            raise ConfigError(f"scheduler: this adapter does not name {OFFICIAL!r}; leave it out for the model's own")
        return OfficialScheduler.from_config(own.config)
    if name not in SCHEDULERS:
        raise ConfigError(f"scheduler: choose one of {', '.join(NAMES)}")
    return SCHEDULERS[name].from_config(own.config)
