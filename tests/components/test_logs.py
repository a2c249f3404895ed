"""Log lines: JSON or text, with their context, and without the messages of exceptions."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Literal

import pytest

from components.config.serving import LoggingConfig
from components.logs import FIELDS, LogContext, amend, configure_logs, log_context, within
from deploy.carried_context import carried, within_callers_context


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("deploy", "components", "workflows")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def lines(kind: Literal["json", "text"], level: Literal["INFO", "WARNING"] = "INFO") -> io.StringIO:
    stream = io.StringIO()
    configure_logs(LoggingConfig(format=kind, level=level), stream)
    return stream


def test_json_lines_have_the_context_and_the_fields() -> None:
    stream, log = lines("json"), logging.getLogger("deploy.jobs.worker")
    with within(LogContext(request="r1", owner="ada")):
        amend(job="job-1")
        log.warning("a %s", "thing\nand a line", extra={FIELDS: {"status": 202}})
    log.info("outside")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first.pop("time").endswith("Z") and second.pop("time")
    about = {"request": "r1", "job": "job-1", "owner": "ada", "status": 202}
    assert first == {"level": "WARNING", "logger": "deploy.jobs.worker", "message": "a thing\nand a line"} | about
    assert second == {"level": "INFO", "logger": "deploy.jobs.worker", "message": "outside"}


def test_text_lines_have_them_too_and_levels_count() -> None:
    stream, log = lines("text", "WARNING"), logging.getLogger("components.jobs")
    with within(LogContext(key="k1")):
        log.info("quiet")
        log.error("loud")
    assert stream.getvalue().rstrip().endswith("ERROR loud key=k1") and "quiet" not in stream.getvalue()


@pytest.mark.parametrize("kind", ["json", "text"])
def test_an_exception_is_written_without_its_message(kind: Literal["json", "text"]) -> None:
    stream = lines(kind)
    try:
        raise ValueError("a prompt: " + "zebra" * 2)
    except ValueError:
        logging.getLogger("deploy").exception("it failed")
    written = stream.getvalue()
    assert "ValueError" in written and "test_logs.py" in written and "zebrazebra" not in written


@within_callers_context
class Part:
    async def seen(self, value: int) -> tuple[int, LogContext]:
        return value, await asyncio.to_thread(log_context)

    async def stream(self, count: int) -> AsyncGenerator[LogContext, None]:
        for _ in range(count):
            yield log_context()


def test_a_call_carries_the_context_of_its_caller() -> None:
    async def call() -> Any:
        with within(LogContext(request="r1", key="k1")):
            sent = carried()
        result = await Part().seen(7, **sent)  # type: ignore[arg-type]
        plain = await Part().seen(8)
        assert log_context() == LogContext()
        streamed = await asyncio.create_task(_all(Part().stream(2, **sent)))  # type: ignore[arg-type]
        return result, plain, streamed

    result, plain, streamed = asyncio.run(call())
    assert result == (7, LogContext(request="r1", key="k1")) and plain == (8, LogContext())
    assert streamed == [LogContext(request="r1", key="k1")] * 2


async def _all(items: AsyncGenerator[LogContext, None]) -> list[LogContext]:
    return [item async for item in items]
