"""Load and memory of the machine that works for a run, logged to it every few seconds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from components.config import RegistryConfig

logger = logging.getLogger(__name__)

#: Longest wait at the end of the block, in seconds, for a store that does not answer.
_PATIENCE = 10.0


@contextmanager
def system_metrics(
    registry: RegistryConfig, run_id: str, node: str | None = None, every_s: float = 10.0
) -> Iterator[None]:
    """Log ``system/…`` metrics of this machine to the run ``run_id`` for the length of the block.

    Processors, memory, disk and network always; GPUs where the package ``nvidia-ml-py`` is installed. A run that is
    resumed goes on after its last step. The block neither waits for the store nor fails with it.

    Args:
        node: goes into the metrics' names, ``system/<node>/…``, where several machines log to one run.
        every_s: seconds between two samples; the first is logged after as many.
    """
    finished = threading.Event()
    watcher = threading.Thread(target=_watch, args=(registry, run_id, node, every_s, finished), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join(_PATIENCE)


def _watch(registry: RegistryConfig, run_id: str, node: str | None, every_s: float, finished: threading.Event) -> None:
    uri = registry.absolute_uri
    try:
        monitor = SystemMetricsMonitor(run_id, every_s, resume_logging=True, node_id=node, tracking_uri=uri)
        monitor.start()
        finished.wait()
        monitor.finish()
    except Exception as error:  # whatever it is, the work that is watched goes on
        logger.warning("system metrics are not logged: %s", str(error).partition("\n")[0])
