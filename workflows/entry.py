"""The one boundary between a command line and a workflow: config in, and errors out as one line with exit code 2."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from components.config import Config, load_config
from components.errors import RealCustomError
from components.progress import quiet_libraries

USER_ERROR = 2


def launch(run: Callable[..., None], preset: str, overrides: Sequence[str], **arguments: Any) -> None:
    """Call ``run(config, **arguments)`` with the resolved configuration, progress on stderr and quiet libraries."""
    with one_line_errors():
        config = load_config(preset, overrides)
        _log_to_stderr()
        quiet_libraries()
        run(config, **arguments)


def resolve(preset: str, overrides: Sequence[str]) -> Config:
    """The configuration alone, for commands that only show it."""
    with one_line_errors():
        return load_config(preset, overrides)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a `RealCustomError` into one line on stderr and exit code 2; any other error keeps its traceback."""
    try:
        yield
    except RealCustomError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
