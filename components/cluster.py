"""Joining Ray: the cluster this process was submitted to, or a local one."""

from __future__ import annotations

import logging
import os

import ray


def connect(slots: int) -> None:
    """Join the cluster that ``RAY_ADDRESS`` names (as in a submitted job), else start one here.

    A local cluster gets at least ``slots`` CPU slots, however few cores there are: if workers held all of them, no slot
    would be left for the tasks that read their data, and the workers would wait forever.
    """
    if ray.is_initialized():
        return
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    else:
        ray.init(
            "local",  # not another cluster that runs, or ran, on this machine
            num_cpus=max(slots, os.cpu_count() or 1),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
