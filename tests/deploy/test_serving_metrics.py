"""What operators see: every number of every replica once, and nothing of what was asked for."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from components.config import PACKAGE_ROOT, Config, load_config
from components.engine.engine import Engine
from components.engine.throughput import Throughput
from components.jobs.job import QueueBusyError, QueueFullError, QueueStatus, State
from deploy.api.app import create_app
from deploy.api.operations.routes import served_model
from deploy.api.request_metrics import RequestMetrics
from deploy.api.schema import ModelResponse
from deploy.characters.service import CharacterService
from deploy.interfaces.errors import BusyError, OwnerLimitError, UnavailableError
from deploy.status.metrics import GeneratorMetrics, engine_families, exposition, job_families
from deploy.status.replica_status import LoadedVersion, ReplicaReport, ReplicaStatus
from tests.deploy.test_serving_app import photograph
from tests.deploy.test_serving_overload import asked
from tests.deploy.test_serving_rollout import configured
from tests.fakes.in_process_service import MODEL, RunningService, running_service
from tests.fakes.pipeline import FakePipeline

SECRET = "sekrit"


def numbers(page: str, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """The samples called ``name``, by their labels without the replica's."""
    return {
        tuple(sorted((k, v) for k, v in sample.labels.items() if k != "replica")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name
    }


def one(page: str, name: str, **labels: str) -> float:
    return numbers(page, name)[tuple(sorted(labels.items()))]


def test_a_page_holds_what_the_service_has_done(tmp_path: Path) -> None:
    config = configured(tmp_path, "serving.jobs.tick_s=0.02")

    async def work(service: RunningService) -> str:
        form = {"name": "Rob", "description": "a red robot"}
        created = await service.client.post(
            "/v1/characters", data=form, files=[("pictures", ("rob.png", photograph()))]
        )
        chosen = [{"id": created.json()["id"]}]
        for seed in range(3):
            assert (await service.draw(characters=chosen, seed=seed, n=2)).status_code == 200
        assert (await service.draw(prompt="")).status_code == 400
        assert (await service.client.get(f"/v1/jobs/{SECRET}")).status_code == 404
        assert (await service.client.get(f"/{SECRET}")).status_code == 404
        sent = await service.client.post("/v1/jobs", json={"prompt": "a robot", "steps": 3})
        while (await service.client.get(sent.headers["Location"])).json()["status"] != "done":
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        answer = await service.client.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return answer.text

    async def run() -> str:
        async with running_service(config) as service:
            return await work(service)

    page = asyncio.run(run())
    assert one(page, "realcustom_orders_total", version="7") == 4
    assert one(page, "realcustom_engine_ended_total", version="7", phase="done") == 7
    assert one(page, "realcustom_engine_step_pictures_total", version="7") == 21
    assert 3 <= one(page, "realcustom_engine_steps_total", version="7") <= 21
    assert one(page, "realcustom_first_step_seconds_count", version="7") == 7
    assert one(page, "realcustom_subject_tokens_total", source="computed") == 1
    assert one(page, "realcustom_subject_tokens_total", source="cached") == 2
    assert one(page, "realcustom_jobs", state="done") == 1 and one(page, "realcustom_jobs", state="queued") == 0
    assert one(page, "realcustom_model_info", model=MODEL, version="7", role="champion") == 1
    assert one(page, "realcustom_engine_pixel_budget", version="7") >= 64 * 64
    for phase in ("queued", "denoising", "decoding"):
        assert one(page, "realcustom_engine_requests", version="7", phase=phase) == 0
    route = {"method": "POST", "route": "/v1/images/generations"}
    assert one(page, "realcustom_request_seconds_count", **route, status="200") == 3
    assert one(page, "realcustom_request_seconds_count", **route, status="400") == 1
    assert one(page, "realcustom_request_seconds_count", method="GET", route="other", status="404") == 1
    p50, p99 = (
        one(page, "realcustom_request_quantile_seconds", route=route["route"], quantile=quantile)
        for quantile in ("0.5", "0.99")
    )
    assert 0 < p50 <= p99
    assert SECRET not in page and "robot" not in page, "paths and prompts are nobody's labels"
    replicas = {s.labels["replica"] for f in text_string_to_metric_families(page) for s in f.samples}
    assert replicas > {"generator-1", "jobs-1"} and len(replicas) == 3, "and the gateway"


def test_each_gateway_has_the_metrics_of_all(tmp_path: Path) -> None:
    config, status = load_config("tiny", [f"serving.store={tmp_path}"]), ReplicaStatus()
    model = ModelResponse(id=MODEL, version="7")

    def counts(client: TestClient) -> list[float]:
        """Requests of a route, by gateway."""
        families = text_string_to_metric_families(client.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        wanted = {"route": "/healthz", "status": "200"}
        found = [
            s for s in samples if s.name == "realcustom_request_seconds_count" and wanted.items() <= s.labels.items()
        ]
        assert len({s.labels["replica"] for s in found}) == len(found)
        return sorted(s.value for s in found)

    def gateway() -> TestClient:
        return TestClient(create_app(config, model, CharacterService(config), None, None, None, status))  # type: ignore[arg-type]

    with gateway() as first, gateway() as second:
        for client, requests in ((first, 1), (second, 3)):
            for _ in range(requests):
                assert client.get("/healthz").status_code == 200
        deadline = time.monotonic() + 20
        while counts(first) != [1, 3] or counts(second) != [1, 3]:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_the_guide_names_what_is_there() -> None:
    """Every metric of the guide, and in its alerts, is one that the service has; and the other way round."""
    pages = [PACKAGE_ROOT / "docs/reference/metrics.md", PACKAGE_ROOT / "docs/how-to/monitor.md"]
    reference, guide = (set(re.findall(r"realcustom_[a-z_]+", page.read_text())) for page in pages)
    named = reference | guide
    metrics, requests = GeneratorMetrics(), RequestMetrics()
    all_families = [*metrics.families("m", (), {}), *requests.families(), *job_families(QueueStatus({}))]
    there = {f"{f.name}_total" if f.type == "counter" else f.name for f in all_families}
    parts = {f"{f.name}{part}" for f in all_families if f.type == "histogram" for part in ("_count", "_bucket")}
    assert there <= reference
    assert named - there <= parts


class Refusing:
    """A generator that refuses, each time for another reason."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)

    async def generate(self, order: Any) -> Any:
        raise self._errors.pop(0)


def refused(config: Config, *errors: Exception, status: ReplicaStatus | None = None) -> tuple[list[Any], str]:
    """The answers to requests that fail with ``errors``, and the page afterwards."""
    model = ModelResponse(id=MODEL, version="7")
    app = create_app(config, model, CharacterService(config), Refusing(*errors), None, None, status)  # type: ignore[arg-type]
    with TestClient(app, raise_server_exceptions=False) as client:
        answers = [client.post("/v1/images/generations", json={"prompt": "a robot"}) for _ in errors]
        return answers, client.get("/metrics").text


def test_refusals_are_counted_by_their_reason_and_say_when_to_come_back(tmp_path: Path) -> None:
    status = ReplicaStatus()
    asyncio.run(status.report(ReplicaReport("generator", "1", backlog_s=20)))
    config = load_config("tiny", [f"serving.store={tmp_path}", "serving.max_queued_requests=8"])
    answers, page = refused(
        config,
        OwnerLimitError("too many of your own pictures are waiting", 3.2),
        BusyError("too many pictures are waiting", 0.01),
        BusyError("too many requests are waiting"),
        UnavailableError("a part of the service was restarted"),
        QueueFullError("too many jobs are waiting"),
        QueueBusyError("too many jobs of others are waiting"),
        OperationalError("select 1", {}, Exception("the server closed the connection")),
        status=status,
    )
    told = [(a.status_code, a.json()["error"]["code"], a.headers["Retry-After"]) for a in answers]
    assert told == [
        (429, "queue_full", "4"),
        (503, "overloaded", "1"),
        (503, "overloaded", "20"),  # as many wait in front of the engine as inside it: half of 2 x 20 s
        (503, "unavailable", "5"),
        (429, "queue_full", "5"),  # nothing is known of jobs
        (503, "overloaded", "5"),
        (503, "unavailable", "5"),
    ]
    assert "select" not in answers[-1].text
    assert answers[0].json()["error"]["type"] == "rate_limit_error"
    counted = {dict(labels)["reason"]: count for labels, count in numbers(page, "realcustom_rejections_total").items()}
    assert counted == {"queue_full": 2, "overloaded": 3, "unavailable": 2}


def families(count: float) -> tuple[Metric, ...]:
    registry = CollectorRegistry()
    Counter("things", "Things", ["kind"], registry=registry).labels("a").inc(count)
    return tuple(registry.collect())


def test_replicas_of_one_kind_share_families_and_keep_their_names() -> None:
    page = exposition(
        [ReplicaReport("generator", "x", metrics=families(1)), ReplicaReport("generator", "y", metrics=families(2))]
    )
    (family,) = text_string_to_metric_families(page.decode())
    assert (family.name, family.type) == ("things", "counter")
    assert {s.labels["replica"]: s.value for s in family.samples} == {"x": 1, "y": 2}
    assert page.decode().count("# TYPE") == 1


def test_reports_survive_the_way_between_processes() -> None:
    import ray.cloudpickle as way

    metrics = GeneratorMetrics()
    metrics.count_request("7")
    report = ReplicaReport(
        "generator", "x", versions=(LoadedVersion("7", "champion"),), metrics=metrics.families("m", (), {})
    )
    there = way.loads(way.dumps(report))
    assert there.versions == report.versions and exposition([there]) == exposition([report])


@given(st.lists(st.tuples(st.floats(0.001, 100), st.integers(1, 9), st.integers(1, 10**7)), max_size=50))
def test_the_pace_is_that_of_the_last_steps(steps: list[tuple[float, int, int]]) -> None:
    pace = Throughput()
    for seconds, pictures, pixels in steps:
        pace.count(seconds, pictures, pixels)
    assert pace.steps == len(steps) and pace.images == sum(p for _, p, _ in steps)
    assert pace.seconds == pytest.approx(sum(s for s, *_ in steps))
    recent = steps[-32:]
    if not recent:
        assert pace.step_s == pace.seconds_for(10**6) == 0
        return
    assert min(s for s, *_ in recent) * 0.999 <= pace.step_s <= max(s for s, *_ in recent) * 1.001
    done = sum(pixels for *_, pixels in recent)
    assert pace.seconds_for(done) == pytest.approx(sum(s for s, *_ in recent))
    assert pace.seconds_for(2 * done) == pytest.approx(2 * pace.seconds_for(done))


def test_an_engine_tells_of_every_phase() -> None:
    engine = Engine(FakePipeline(), 64 * 64)
    for handle in engine.submit_all([asked("a slow robot"), asked()]):
        handle.result(10)
    page = exposition([ReplicaReport("generator", "x", metrics=tuple(engine_families({"7": engine.stats()})))]).decode()
    assert one(page, "realcustom_engine_ended_total", version="7", phase="done") == 2
    assert one(page, "realcustom_engine_recent_step_seconds", version="7") > 0
    assert one(page, "realcustom_engine_step_time_seconds_total", version="7") >= 0.5
    assert engine.close(10)


def test_quantiles_are_of_the_durations_that_were_counted() -> None:
    metrics = RequestMetrics()
    for seconds in range(1, 101):
        metrics.count("GET", "/v1/jobs", 200, float(seconds), None)
    page = exposition([ReplicaReport("gateway", "g", metrics=metrics.families())]).decode()
    assert one(page, "realcustom_request_quantile_seconds", route="/v1/jobs", quantile="0.5") == 50
    assert one(page, "realcustom_request_quantile_seconds", route="/v1/jobs", quantile="0.99") == 99
    assert numbers(page, "realcustom_rejections_total") == {}


def test_jobs_are_there_by_state_also_where_there_are_none() -> None:
    page = exposition(
        [ReplicaReport("jobs", "j", metrics=job_families(QueueStatus({State.DONE: 3}, oldest_s=0.0)))]
    ).decode()
    counted = {dict(labels)["state"]: value for labels, value in numbers(page, "realcustom_jobs").items()}
    assert counted == {"queued": 0, "running": 0, "done": 3, "failed": 0, "cancelled": 0}


def test_the_served_model_is_what_most_generators_serve() -> None:
    model = ModelResponse(id=MODEL, version="7")
    assert served_model(model, []) == model
    old, new, kept = LoadedVersion("7", "champion"), LoadedVersion("8", "champion"), LoadedVersion("7", "kept")
    reports = [ReplicaReport("generator", "1", versions=(kept, new)), ReplicaReport("generator", "2", versions=(old,))]
    reports.append(ReplicaReport("generator", "3", versions=(new,)))
    found = served_model(model, reports)
    assert found.version == "8"
    assert [(v.version, v.role, v.replicas) for v in found.versions] == [
        ("8", "champion", 2),
        ("7", "champion", 1),
        ("7", "kept", 1),
    ]
