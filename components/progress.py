"""Progress for a user: a progress bar or a few log lines, without the libraries' own output."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from components.terminal import progress_stream

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Read by the libraries when they are imported, and inherited by every Ray process that this one starts.
_ENVIRONMENT = {
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
#: Messages below these levels are not actionable for a user.
_LEVELS = {
    "alembic": logging.WARNING,
    "httpx": logging.WARNING,
    "huggingface_hub": logging.ERROR,
    "mlflow": logging.WARNING,
    "ray": logging.WARNING,
    # "Token authentication is enabled": Ray's default for a local cluster.
    "ray._private.authentication": logging.ERROR,
}


def quiet_libraries() -> None:
    """Silence the load reports, bars and notices of diffusers, transformers, MLflow and Ray, here and in Ray's workers.

    Works before and after those libraries are imported, and imports none of them. A variable that the environment
    already sets wins: ``TRANSFORMERS_VERBOSITY=info`` brings the load reports back.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name, level in _LEVELS.items():
        logging.getLogger(name).setLevel(level)
    # Ray announces changes of its defaults to those who write programs with it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"ray\.")
    for name in ("diffusers", "transformers"):
        if loaded := sys.modules.get(f"{name}.utils.logging"):
            level_name = os.environ[f"{name.upper()}_VERBOSITY"]
            loaded.set_verbosity(loaded.log_levels[level_name])
            loaded.disable_progress_bar()


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield from ``iterable`` and show progress: a bar in a terminal, otherwise a log line every tenth.

    ``total`` defaults to the iterable's length; without one, only the end is logged.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    return _bar(iterable, description, total) if progress_stream().isatty() else _lines(iterable, description, total)


def _bar(iterable: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(iterable, description, total=total, console=Console(file=progress_stream()))


def _lines(iterable: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    done = 0
    for done, item in enumerate(iterable, start=1):
        yield item
        if total and done * 10 // total > (done - 1) * 10 // total:
            logger.info("%s %d/%d", description, done, total)
    if not total:
        logger.info("%s %d", description, done)
