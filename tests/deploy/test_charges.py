"""Charges: what the service does not deliver is refunded, and a repeated request is charged once."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from components.access.key import KeyLimits, Scope
from components.access.limits import UsageLedger
from components.access.store import KeyStore
from components.config import Config, load_config
from components.content import ContentError
from components.database import open_database
from components.jobs.store import JobStore
from components.object_store import StoreUnavailableError
from deploy.api import quotas
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.results import GenerationEvent, GenerationResult
from tests.deploy.test_redraw_api import hole
from tests.deploy.test_serving_api import photograph
from tests.fakes.pipeline import FakePipeline
from tests.fakes.service_process import QUICK, running
from tests.fixtures.error_envelope import error

SMALL = 64 * 64
PICTURE = {"prompt": "a robot", "size": "64x64", "steps": 1}
#: Takes three seconds.
SLUGGISH = {"prompt": "a sluggish robot", "size": "64x64", "steps": 60}


class Service:
    """A running service that requires keys, with a client whose key has a daily limit."""

    def __init__(self, config: Config, url: str, limit: int) -> None:
        self._engine = open_database(config.serving.store, None)
        _, key = KeyStore(self._engine).create("ada", "test", [Scope.ADMIN], KeyLimits(pixel_steps_per_day=limit))
        time.sleep(config.serving.access.refresh_s)
        self.client = httpx.Client(base_url=url, timeout=30, headers={"Authorization": f"Bearer {key}"})

    def spent(self) -> int:
        return sum(UsageLedger(self._engine).spent().values())

    def until_spent(self, amount: int, within_s: float = 5) -> None:
        deadline = time.monotonic() + within_s
        while self.spent() != amount:
            assert time.monotonic() < deadline, f"{self.spent()} pixel-steps are charged, not {amount}"
            time.sleep(0.02)

    def draw(self, key: str | None = None, **fields: Any) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.client.post("/v1/images/generations", json=PICTURE | fields, headers=headers)

    def ended(self, job: str) -> str:
        deadline = time.monotonic() + 10
        while (state := self.client.get(f"/v1/jobs/{job}").json()["status"]) in ("queued", "running"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return str(state)


@contextmanager
def serving(tmp_path: Path, *overrides: str, limit: int = 10**9, generator: Any = None) -> Iterator[Service]:
    settings = ["serving.access.keys=required", "serving.access.refresh_s=0.01", f"serving.store={tmp_path}/store"]
    config = load_config("tiny", [*settings, *QUICK, *overrides])
    with running(config, None if generator is None else generator(config)) as url:
        service = Service(config, url, limit)
        with service.client:
            yield service


def test_what_times_out_is_refunded(tmp_path: Path) -> None:
    with serving(tmp_path, "serving.request_timeout_s=0.5") as service:
        late = service.draw(**SLUGGISH)
        assert late.status_code == 503
        assert service.spent() == 0


def test_a_stream_that_times_out_is_refunded(tmp_path: Path) -> None:
    with serving(tmp_path, "serving.request_timeout_s=2") as service:
        asked = SLUGGISH | {"stream": True, "partial_images": 3}
        with service.client.stream("POST", "/v1/images/generations", json=asked) as answer:
            assert answer.status_code == 200 and service.spent() == 64 * 64 * 60
            assert b"event: error" in answer.read()
        service.until_spent(0)


def test_what_a_client_abandons_stays_charged(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with pytest.raises(httpx.ReadTimeout):
            service.client.post("/v1/images/generations", json=SLUGGISH, timeout=2)
        asked = SLUGGISH | {"stream": True, "partial_images": 3}
        with service.client.stream("POST", "/v1/images/generations", json=asked) as answer:
            next(answer.iter_lines())
        time.sleep(1)
        assert service.spent() == 2 * 64 * 64 * 60


def test_a_stream_that_was_delivered_stays_charged(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        assert "image_generation.completed" in service.draw(stream=True).text
        time.sleep(0.2)
        assert service.spent() == SMALL


class FaultyGenerator(GenerationService):
    """Raises ``fault`` in place of the result."""

    fault: Exception | None = None

    async def generate(self, request: GenerationRequest) -> GenerationResult:
        result = await super().generate(request)
        if self.fault is not None:
            raise self.fault
        return result

    async def stream(self, request: GenerationRequest, previews: int = 0) -> AsyncGenerator[GenerationEvent, None]:
        async for event in super().stream(request, previews):
            if self.fault is not None and isinstance(event, GenerationResult):
                raise self.fault
            yield event


def faulty(fault: Exception) -> Callable[[Config], GenerationService]:
    def make(config: Config) -> GenerationService:
        generator = FaultyGenerator(FakePipeline(), CharacterService(config))
        generator.fault = fault
        return generator

    return make


@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"stream": True, "partial_images": 2, "steps": 20}])
@pytest.mark.parametrize(
    ("fault", "share"), [(RuntimeError("a fault"), 0), (ContentError("the content policy refuses it"), 1)]
)
def test_what_fails_is_refunded_unless_the_policy_refuses_it(
    tmp_path: Path, fault: Exception, share: int, fields: dict[str, Any]
) -> None:
    with serving(tmp_path, generator=faulty(fault)) as service:
        service.draw(**fields)
        service.until_spent(share * SMALL * fields.get("steps", 1))


def test_candidates_that_cannot_be_stored_are_refunded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: Any) -> None:
        raise StoreUnavailableError("no space left")

    monkeypatch.setattr(CharacterService, "save_candidates", full)
    with serving(tmp_path) as service:
        answer = service.client.post("/v1/characters/candidates", json=PICTURE | {"n": 1})
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
        assert error(answer)["code"] == "unavailable" and "the store" in error(answer)["message"]
        assert service.spent() == 0


def test_uploads_are_charged_before_they_are_cut_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[str] = []
    cut_out_uploads = CharacterService.cut_out_uploads

    async def watched(*arguments: Any) -> Any:
        cut.append("uploads")
        return await cut_out_uploads(*arguments)

    monkeypatch.setattr(CharacterService, "cut_out_uploads", watched)

    def edit(service: Service, picture: bytes) -> httpx.Response:
        fields = {name: str(value) for name, value in PICTURE.items()}
        files = {"image": ("rob.png", io.BytesIO(picture))}
        return service.client.post("/v1/images/edits", data=fields, files=files)

    with serving(tmp_path, limit=SMALL) as service:
        assert edit(service, b"no picture").status_code == 400 and service.spent() == 0
        assert edit(service, photograph()).status_code == 200 and service.spent() == SMALL
        assert len(cut) == 2
        refused = edit(service, photograph())
        assert refused.status_code == 429 and error(refused)["code"] == "insufficient_quota"
        assert len(cut) == 2, "nothing was computed for it"


def watch_readers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods that decode uploads, as they are called."""
    called: list[str] = []

    def watched(name: str, method: Any) -> Any:
        async def call(*arguments: Any) -> Any:
            called.append(name)
            return await method(*arguments)

        return call

    for name in ("read_picture", "read_redraw_mask", "cut_out_uploads"):
        monkeypatch.setattr(CharacterService, name, watched(name, getattr(CharacterService, name)))
    return called


def test_redrawing_is_charged_before_its_uploads_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, sides = watch_readers(monkeypatch), 160 * 160

    def redraw(service: Service, picture: bytes, mask: bytes, size: str = "auto") -> httpx.Response:
        fields = {"prompt": "a robot", "steps": "1", "size": size, "redraw_strength": "1"}
        sent = [("image", ("0.png", picture)), ("image", ("1.png", photograph())), ("mask", ("mask.png", mask))]
        return service.client.post("/v1/images/edits", data=fields, files=sent)

    everything = ["read_picture", "read_redraw_mask", "cut_out_uploads"]
    with serving(tmp_path, limit=sides) as service:
        assert redraw(service, b"no picture", hole((160, 160))).status_code == 400 and decoded == []
        assert redraw(service, photograph()[:-40], hole((160, 160))).status_code == 400 and service.spent() == 0
        assert redraw(service, photograph(), hole((64, 64))).status_code == 400 and service.spent() == 0
        decoded.clear()
        assert redraw(service, photograph(), hole((160, 160))).status_code == 200 and service.spent() == sides
        assert decoded == everything
        for size in ("auto", "160x160", "64x64"):
            refused = redraw(service, photograph(), hole((160, 160)), size)
            assert refused.status_code == 429 and error(refused)["code"] == "insufficient_quota"
        assert decoded == everything, "nothing was decoded for them"


def test_the_control_of_a_job_is_decoded_if_the_key_can_pay_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = watch_readers(monkeypatch)
    control = {"name": "pose", "image": base64.b64encode(photograph()).decode()}
    with serving(tmp_path, "model.controls={pose: controls/pose}", limit=SMALL) as service:
        accepted, refused = (service.client.post("/v1/jobs", json=PICTURE | {"control": control}) for _ in range(2))
        assert accepted.status_code == 202, accepted.text
        assert refused.status_code == 429 and error(refused)["code"] == "insufficient_quota"
        assert decoded == ["read_picture"]


def test_a_refund_outlasts_a_database_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refund, away = UsageLedger.refund, [True, True]

    def interrupted(*arguments: Any) -> None:
        if away:
            away.pop()
            raise OperationalError("UPDATE", {}, Exception("gone"))
        refund(*arguments)

    monkeypatch.setattr(UsageLedger, "refund", interrupted)
    monkeypatch.setattr(quotas, "_REFUND_PAUSES_S", (0.05, 0.05, 0.05))
    with serving(tmp_path, generator=faulty(RuntimeError())) as service:
        assert service.draw().status_code == 500
        service.until_spent(0)


def test_a_charge_that_nobody_waits_for_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    charge = UsageLedger.charge

    def slow(*arguments: Any) -> Any:
        time.sleep(0.5)
        return charge(*arguments)

    monkeypatch.setattr(UsageLedger, "charge", slow)
    with serving(tmp_path, "serving.request_timeout_s=0.2") as service:
        assert service.draw().status_code == 503
        time.sleep(0.5)
        service.until_spent(0)


# Repeated requests


def test_a_repeated_request_is_charged_once_and_answered_alike(tmp_path: Path) -> None:
    with serving(tmp_path, limit=2 * SMALL) as service:
        first, again = service.draw("one", n=2), service.draw("one", n=2)
        assert (first.status_code, again.status_code) == (200, 200)
        assert first.json()["data"] == again.json()["data"] and first.json()["seed"] == again.json()["seed"]
        assert service.spent() == 2 * SMALL
        other = service.draw("one", n=1)
        assert other.status_code == 409 and error(other)["code"] == "idempotency_key_reused"
        assert service.draw("two").status_code == 429
        candidates = service.client.post(
            "/v1/characters/candidates", json=PICTURE | {"n": 2}, headers={"Idempotency-Key": "one"}
        )
        assert candidates.status_code == 409, "it is another request"


def test_the_retry_of_what_timed_out_for_the_client_is_charged_once(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        for _ in range(2):
            with pytest.raises(httpx.ReadTimeout):
                service.client.post(
                    "/v1/images/generations", json=SLUGGISH, headers={"Idempotency-Key": "one"}, timeout=0.3
                )
        assert service.draw("one", **SLUGGISH).status_code == 200
        assert service.spent() == 64 * 64 * 60


def test_repeated_candidates_and_edits_are_charged_once(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        for _ in range(2):
            key = {"Idempotency-Key": "candidates"}
            drawn = service.client.post("/v1/characters/candidates", json=PICTURE | {"n": 2}, headers=key)
            assert drawn.status_code == 201
        assert service.spent() == 2 * SMALL
        fields = {name: str(value) for name, value in PICTURE.items()}
        for picture, status in ((photograph(), 200), (photograph(), 200), (photograph() + b"x", 409)):
            edited = service.client.post(
                "/v1/images/edits",
                data=fields,
                files={"image": ("rob.png", io.BytesIO(picture))},
                headers={"Idempotency-Key": "edit"},
            )
            assert edited.status_code == status, edited.text
        assert service.spent() == 3 * SMALL


# Jobs


def test_a_job_that_fails_is_refunded(tmp_path: Path) -> None:
    with serving(tmp_path, "serving.jobs.max_attempts=1", generator=faulty(RuntimeError())) as service:
        submitted = service.client.post("/v1/jobs", json=PICTURE)
        assert service.ended(submitted.json()["id"]) == "failed"
        assert service.spent() == 0


def test_a_job_that_the_policy_refuses_stays_charged(tmp_path: Path) -> None:
    with serving(tmp_path, generator=faulty(ContentError("refused"))) as service:
        submitted = service.client.post("/v1/jobs", json=PICTURE)
        assert service.ended(submitted.json()["id"]) == "failed"
        assert service.spent() == SMALL


def test_a_job_that_is_cancelled_before_it_starts_is_refunded(tmp_path: Path) -> None:
    with serving(tmp_path, "serving.jobs.concurrency=1") as service:
        running_job = service.client.post("/v1/jobs", json=SLUGGISH).json()["id"]
        while service.client.get(f"/v1/jobs/{running_job}").json()["status"] != "running":
            time.sleep(0.02)
        waiting = service.client.post("/v1/jobs", json=PICTURE).json()["id"]
        assert service.spent() == 61 * SMALL
        assert service.client.delete(f"/v1/jobs/{waiting}").json()["status"] == "cancelled"
        assert service.spent() == 60 * SMALL
        service.client.delete(f"/v1/jobs/{running_job}")
        assert service.ended(running_job) == "cancelled" and service.spent() == 60 * SMALL


def test_a_submission_that_times_out_charges_what_it_accepts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submit, slow = JobStore.submit, [True]

    def delayed(*arguments: Any) -> Any:
        accepted = submit(*arguments)
        if slow:
            slow.pop()
            time.sleep(2)
        return accepted

    monkeypatch.setattr(JobStore, "submit", delayed)
    with serving(tmp_path, "serving.request_timeout_s=1") as service:
        key = {"Idempotency-Key": "one"}
        assert service.client.post("/v1/jobs", json=PICTURE, headers=key).status_code == 503
        assert service.spent() == SMALL, "the job is there"
        again = service.client.post("/v1/jobs", json=PICTURE, headers=key)
        assert again.status_code == 202 and again.headers["idempotent-replayed"] == "true"
        assert service.spent() == SMALL
