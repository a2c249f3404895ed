"""Requests and their jobs in the log: ids from the request to the job's end, and nothing that was sent."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.access.key import ApiKey, Scope
from components.access.store import KeyStore
from components.config import Config, load_config
from components.config.serving import LoggingConfig
from components.database import open_database
from components.logs import configure_logs
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from deploy.interfaces.requests import GenerationRequest
from tests.fakes.pipeline import FakePipeline
from tests.fakes.service_process import QUICK, running

PROMPT = "a zebra-striped secret robot"


class Failing(GenerationService):
    """Fails in the middle of a job."""

    async def stream(self, request: GenerationRequest, previews: int = 0) -> Any:
        raise RuntimeError(f"quoting {request.prompt}")
        yield


@pytest.fixture
def config(tmp_path: Path) -> Config:
    keys = ["serving.access.keys=required", "serving.access.refresh_s=0.01", "serving.jobs.max_attempts=1"]
    return load_config("tiny", [f"serving.store={tmp_path}/kept", *keys, *QUICK])


@pytest.fixture
def key(config: Config) -> tuple[ApiKey, str]:
    return KeyStore(open_database(config.serving.store, None)).create("ada", "x", [Scope.ADMIN])


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    loggers = [logging.getLogger(name) for name in ("deploy", "components", "workflows")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    configure_logs(LoggingConfig(), stream)
    yield stream
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def lines(log: io.StringIO, **values: Any) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in found if values.items() <= line.items()]


def test_a_job_is_followed_from_its_request_to_its_end(
    config: Config, key: tuple[ApiKey, str], log: io.StringIO
) -> None:
    headers = {"Authorization": f"Bearer {key[1]}", "X-Request-Id": "order-17"}
    with running(config, Failing(FakePipeline(), CharacterService(config))) as url:
        answer = httpx.post(f"{url}/v1/jobs?prompt=zebra", json={"prompt": PROMPT}, headers=headers)
        assert answer.status_code == 202 and answer.headers["x-request-id"] == "order-17"
        job = answer.json()["id"]
        deadline = time.monotonic() + 20
        while not lines(log, level="ERROR", job=job):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    about = {"request": "order-17", "owner": "ada", "key": key[0].id}
    (request,) = lines(log, logger="deploy.api.request_log", **about)
    assert request["method"] == "POST" and request["route"] == "/v1/jobs" and request["status"] == 202
    assert lines(log, logger="deploy.api.jobs.routes", job=job, **about)
    (failure,) = lines(log, level="ERROR", job=job, **about)
    assert "RuntimeError" in failure["message"]
    assert "zebra" not in log.getvalue() and key[1] not in log.getvalue()


@pytest.mark.parametrize("given", [None, "with space", "x" * 200, 'quo"te'])
def test_an_id_is_made_where_none_can_be_used(config: Config, log: io.StringIO, given: str | None) -> None:
    with running(config) as url:
        answer = httpx.get(f"{url}/v1/jobs", headers={} if given is None else {"X-Request-Id": given})
    made = answer.headers["x-request-id"]
    assert answer.status_code == 401 and len(made) == 32 and made != given
    (line,) = lines(log, request=made)
    assert line["status"] == 401 and "owner" not in line and line["route"] == "other"
