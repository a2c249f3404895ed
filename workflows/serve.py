"""Serve a registered version on this machine, in the foreground."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import ray

from components.config import Config
from deploy import app


def _announce(url: str) -> None:
    print(f"serving at {url} until you press Ctrl-C", flush=True)


def run(config: Config, model: str | None = None, ready: Callable[[str], None] = _announce) -> None:
    """Serve ``model`` (a URI; by default the version of `registry.alias`) until SIGINT or SIGTERM.

    Args:
        ready: called with the service's URL once it answers.
    """
    ended = threading.Event()
    url = app.start(config, model)
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        ready(url)
        ended.wait()
    finally:
        app.stop()
        ray.shutdown()


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
