"""Serve a registered version on this machine, in the foreground."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import ray

from components.config import Config
from deploy import app


def _announce(url: str) -> None:
    print(f"serving at {url} until you press Ctrl-C", flush=True)


def run(config: Config, model: str | None = None, ready: Callable[[str], None] = _announce) -> None:
    """Serve ``model`` (a URI; by default the version of `registry.alias`) until SIGINT or SIGTERM, ready or not.

    Args:
        ready: called with the service's URL once it answers.
    """
    ended = threading.Event()

    def interrupt(*_: Any) -> None:
        if not ended.is_set():
            ended.set()
            raise KeyboardInterrupt  # the one exception that a call of Ray lets through

    try:
        _handle_signals(interrupt)
        app.start_ray()
        _handle_signals(interrupt)  # Ray has set a handler of its own
        url = app.start(config, model)
        _handle_signals(lambda *_: ended.set())
        ready(url)
        ended.wait()
    except KeyboardInterrupt:
        if not ended.is_set():
            raise
    finally:
        app.stop()
        ray.shutdown()


def _handle_signals(handler: Callable[..., None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
