"""The samplers that a request may name, on the noise schedule of the model's own."""

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

#: One U-Net call a step each, so that a step costs the same whichever is chosen.
SCHEDULERS: dict[str, type[Any]] = {
    "ddim": DDIMScheduler,
    "deis": DEISMultistepScheduler,
    "dpm++": DPMSolverMultistepScheduler,
    "euler": EulerDiscreteScheduler,
    "euler_a": EulerAncestralDiscreteScheduler,
    "unipc": UniPCMultistepScheduler,
}
#: The authors' own, of adapters that name it.
OFFICIAL = "realcustom"
NAMES = (*SCHEDULERS, OFFICIAL)


def new_scheduler(name: str, own: Any) -> Any:
    """A new scheduler of diffusers for one request.

    Args:
        name: one of `NAMES`.
        own: the pipeline's scheduler, whose noise schedule and prediction it takes over.

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
