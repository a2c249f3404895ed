"""Connects to Ray: to the cluster that ``RAY_ADDRESS`` names, or to a local Ray that it starts."""

from __future__ import annotations

import logging
import os
from typing import Literal

import ray

from components.errors import ConfigError

logger = logging.getLogger(__name__)


def connect(slots: int) -> None:
    """Connect to the cluster that ``RAY_ADDRESS`` names (a submitted job has it set), or start a local Ray.

    A local one gets at least ``slots`` CPU slots, however few cores there are: workers that hold all slots would wait
    for input that no process is left to read.

    Raises:
        ConfigError: no cluster answers at ``RAY_ADDRESS``.
    """
    if ray.is_initialized():
        return
    if address := os.environ.get("RAY_ADDRESS"):
        try:
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"RAY_ADDRESS={address}: no Ray cluster answers ({reason}); correct it, or unset it for a local Ray"
            ) from None
        return
    count = max(slots, os.cpu_count() or 1)
    logger.info("starting a local Ray with %d CPU slots; set RAY_ADDRESS to use a running cluster", count)
    ray.init(
        "local",  # not a Ray that already runs on this machine, nor the address file of an earlier one
        num_cpus=count,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
    )


def may_grow() -> bool:
    """Whether nodes may join the cluster: not where it is a local Ray."""
    return bool(os.environ.get("RAY_ADDRESS"))


def gpus_of_a_process(device: Literal["auto", "cpu", "cuda"]) -> int:
    """GPUs that a process of a pool asks for: with ``auto`` one if the cluster has any now, with ``cuda`` always one.

    Args:
        device: ``model.device``.
    """
    if device == "auto":
        return int(ray.cluster_resources().get("GPU", 0) >= 1)
    return int(device == "cuda")
