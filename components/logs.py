"""Log lines of the service, as JSON or text, with the request, job, owner and key that they are about.

Prompts, images and URLs of webhooks are in no line: an exception is written as its class and the places of its
traceback, without its message, which may quote a request.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, TextIO

from components.config.serving import LoggingConfig

#: The loggers of this project.
_OWN = ("deploy", "components", "workflows")
#: Attribute of a record with further fields: ``log.info(..., extra={"fields": {...}})``.
FIELDS = "fields"


@dataclass(frozen=True)
class LogContext:
    """What a line is about; empty where it is unknown."""

    request: str = ""
    job: str = ""
    owner: str = ""
    key: str = ""
    #: The character or story that was created.
    resource: str = ""


_NONE = LogContext()
_current: ContextVar[LogContext] = ContextVar("realcustom_log_context", default=_NONE)


def log_context() -> LogContext:
    """The context of this task or thread."""
    return _current.get()


@contextmanager
def within(context: LogContext) -> Iterator[None]:
    """Set the context of the block, and of the tasks and threads that it starts."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def amend(**values: str) -> None:
    """Change values of the context for the rest of the task."""
    _current.set(replace(_current.get(), **values))


class JsonFormatter(logging.Formatter):
    """A line of JSON: ``time`` (UTC), ``level``, ``logger``, ``message``, the context, and the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(log_context()).items() if value}
        line |= getattr(record, FIELDS, {})
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = traceback_without_messages(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Time, level and message, then the context and the fields as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        context = {name: value for name, value in vars(log_context()).items() if value} | getattr(record, FIELDS, {})
        said = " ".join(f"{name}={value}" for name, value in context.items())
        line = f"{_utc(record.created)} {record.levelname} {record.getMessage()} {said}".rstrip()
        if record.exc_info and record.exc_info[1] is not None:
            line += "\n" + traceback_without_messages(record.exc_info[1])
        return line


def configure_logs(config: LoggingConfig, stream: TextIO | None = None) -> None:
    """Write the lines of this project's loggers to ``stream``, by default standard error; others stay as they are.

    A second call replaces the first.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter())
    for name in _OWN:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(config.level)


def traceback_without_messages(error: BaseException) -> str:
    """The classes and tracebacks of an exception and of its causes."""
    causes = error.exceptions if isinstance(error, BaseExceptionGroup) else (error.__cause__ or error.__context__,)
    frames = "".join(traceback.format_tb(error.__traceback__))
    chain = [f"{type(error).__name__}\n{frames}", *(traceback_without_messages(e) for e in causes if e is not None)]
    return "caused by: ".join(chain)


def _utc(seconds: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds % 1 * 1000):03d}Z"
