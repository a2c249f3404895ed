"""Runs a workflow from a command line: loads the configuration, and prints errors as one line with exit code 2."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from components.errors import RealCustomError
from components.progress import quiet_libraries
from workflows.options import Settings

USER_ERROR = 2


def launch(run: Callable[..., None], settings: Settings, **arguments: Any) -> None:
    """Call ``run(config, **arguments)`` with the resolved configuration, progress on stderr and quiet libraries."""
    with one_line_errors():
        config = settings.load()
        log_to_stderr()
        run(config, **arguments)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a `RealCustomError` into one line on stderr and exit code 2; any other error keeps its traceback."""
    try:
        yield
    except RealCustomError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None


def log_to_stderr() -> None:
    """Progress as lines on stderr, and quiet libraries."""
    quiet_libraries()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
