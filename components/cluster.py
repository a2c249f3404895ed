"""Joining Ray: the cluster this process was submitted to, or a local one."""

from __future__ import annotations

import logging
import os

import ray


def connect(slots: int) -> None:
    """Join the cluster that ``RAY_ADDRESS`` names (as in a submitted job), else start one here.

    A local one gets at least ``slots`` CPU slots, however few cores there are: workers that hold all of them would wait
    for ever for data that nobody is left to read.
    """
    if ray.is_initialized():
        return
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    else:
        ray.init(
            "local",  # rather than any that happens to run on this machine, or left its address behind
            num_cpus=max(slots, os.cpu_count() or 1),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
