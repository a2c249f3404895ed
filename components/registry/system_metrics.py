"""System metrics of the machine that executes a run, logged every few seconds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from components.config import RegistryConfig

logger = logging.getLogger(__name__)

#: Maximum wait in seconds, at the end of the block, for an unresponsive store.
_TIMEOUT = 10.0


@contextmanager
def system_metrics(
    registry: RegistryConfig, run_id: str, node: str | None = None, every_s: float = 10.0
) -> Iterator[None]:
    """Log ``system/…`` metrics of this machine to the run ``run_id`` for the length of the block.

    Processors, memory, disk and network always; GPUs where the package ``nvidia-ml-py`` is installed. A resumed
    run continues after its last step. The block does not wait for the store, and does not fail with it.

    Args:
        node: part of the metrics' names, ``system/<node>/…``, if several machines log to one run.
        every_s: interval of samples in seconds.
    """
    finished = threading.Event()
    watcher = threading.Thread(target=_watch, args=(registry, run_id, node, every_s, finished), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join(_TIMEOUT)


def _watch(registry: RegistryConfig, run_id: str, node: str | None, every_s: float, finished: threading.Event) -> None:
    uri = registry.absolute_uri
    try:
        monitor = SystemMetricsMonitor(run_id, every_s, resume_logging=True, node_id=node, tracking_uri=uri)
        monitor.start()
        finished.wait()
        monitor.finish()
    except Exception as error:  # monitoring must not stop the work
        logger.warning("system metrics are not logged: %s", str(error).partition("\n")[0])
