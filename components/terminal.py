"""Redirects the output of libraries to a log file, while progress stays in the terminal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

_STDOUT, _STDERR = 1, 2
#: Packages whose log lines stay in the terminal.
_OURS = ("components", "deploy", "workflows")


@dataclass(frozen=True)
class Terminal:
    """The streams of the process as they were before a redirection."""

    out: TextIO
    err: TextIO


_redirected: list[Terminal] = []


def progress_stream() -> TextIO:
    """The stream for progress bars: the terminal's stderr, also while stderr is redirected."""
    return _redirected[-1].err if _redirected else sys.stderr


@contextmanager
def output_in_log(log: Path) -> Iterator[Terminal]:
    """Redirect stdout and stderr of this process and its child processes to the file ``log``, which is overwritten.

    File descriptors are redirected, since Ray writes with native code too. Progress bars and the log lines of this
    project still reach the terminal; other text has to be written to the `Terminal` that is yielded.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        file = stack.enter_context(log.open("w"))
        terminal = Terminal(*(_duplicate(descriptor, stack) for descriptor in (_STDOUT, _STDERR)))
        for descriptor in (_STDOUT, _STDERR):
            stack.enter_context(_redirect(descriptor, file.fileno()))
        handler = logging.StreamHandler(terminal.err)
        handler.addFilter(lambda record: record.name.split(".")[0] in _OURS)
        stack.enter_context(_handling(handler))
        _redirected.append(terminal)
        stack.callback(_redirected.pop)
        yield terminal


def _duplicate(descriptor: int, stack: ExitStack) -> TextIO:
    return stack.enter_context(os.fdopen(os.dup(descriptor), "w", buffering=1))


@contextmanager
def _redirect(descriptor: int, target: int) -> Iterator[None]:
    _flush()
    kept = os.dup(descriptor)
    os.dup2(target, descriptor)
    try:
        yield
    finally:
        _flush()
        os.dup2(kept, descriptor)
        os.close(kept)


@contextmanager
def _handling(handler: logging.Handler) -> Iterator[None]:
    """Add ``handler`` to the root logger, with the formatter of its existing handlers."""
    root = logging.getLogger()
    handler.setFormatter(next((each.formatter for each in root.handlers), None))
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
