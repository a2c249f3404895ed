"""Whether a cluster has what the workers of a training and their encoder processes reserve.

What is missing is waited for without a word: Ray Data's log is silenced in workers, and its actors have no time limit.
Resources are summed over nodes; a process that fits on none of them, because what is left is scattered, is not found.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import floor

from components.config import TrainingConfig
from components.errors import ConfigError

logger = logging.getLogger(__name__)


def check_resources(training: TrainingConfig, there: Mapping[str, float], may_grow: bool) -> None:
    """Check that every worker, and one encoder process of each, finds its resources.

    Args:
        there: resources of the cluster, as `ray.cluster_resources` gives them.
        may_grow: nodes may join, so that the lack is only a warning.

    Raises:
        ConfigError: something is missing, and the cluster does not grow.
    """
    lack = _lack_of_workers(training, there) or _lack_of_encoders(training, there)
    if lack is None:
        return
    if not may_grow:
        raise ConfigError(lack)
    logger.warning("%s. The training waits until nodes with more join the cluster", lack)


def _lack_of_workers(training: TrainingConfig, there: Mapping[str, float]) -> str | None:
    least = training.min_workers or training.workers
    for name, each in worker_resources(training).items():
        if least * each > (found := there.get(name, 0)):
            key = f"training.{'workers' if training.min_workers is None else 'min_workers'}"
            other = "set training.use_gpu=false" if name == "GPU" else "lower training.cpus_per_worker"
            return (
                f"{key}={least} workers reserve {least * each:g} {name}s, but the cluster has {found:g}: lower {key}, "
                f"{other}, or add nodes"
            )
    return None


def _lack_of_encoders(training: TrainingConfig, there: Mapping[str, float]) -> str | None:
    if not training.encoders:
        return None
    own = worker_resources(training)
    fitting = min(int(there.get(name, 0) // each) for name, each in own.items())
    workers = min(training.workers, fitting)  # elastic ones take what there is, up to `training.workers`
    for name, key, each in (
        ("GPU", "encoder_gpus", training.encoder_gpus),
        ("CPU", "encoder_cpus", training.encoder_cpus),
    ):
        left = there.get(name, 0) - workers * own.get(name, 0)
        if each and _processes(name, left, each) < workers:
            instead = "training.encoder_gpus=0 to encode on CPUs" if name == "GPU" else f"training.{key} lower"
            return (
                f"training.{key}={each:g}: each of {workers} workers needs a process that encodes references, but of "
                f"the cluster's {there.get(name, 0):g} {name}s the workers leave {left:g}: set {instead}, or "
                f"training.encoders=0 to encode in the steps; or lower training.workers, or add nodes"
            )
    return None


def worker_resources(training: TrainingConfig) -> dict[str, float]:
    """What Ray reserves for a worker."""
    return {"CPU": float(training.cpus_per_worker)} | ({"GPU": 1.0} if training.use_gpu else {})


def _processes(name: str, left: float, each: float) -> int:
    """Processes that fit into ``left``; a fraction of a GPU lies on one GPU."""
    if name == "GPU" and each < 1:
        return int(left) * floor(1 / each + 1e-9)
    return floor(left / each + 1e-9)
