"""Authentication: which keys are accepted, their rate limits and quotas, and that a service without keys is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import openai
import pytest
import yaml
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from components.access.key import KeyLimits, Scope, new_key
from components.access.limits import UsageLedger
from components.access.store import KeyStore
from components.config import PACKAGE_ROOT, Config, load_config
from components.database import open_database
from components.errors import ConfigError
from deploy import app as serve_app
from deploy.api import authentication
from deploy.api.app import create_app
from deploy.api.schema import ModelResponse
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from deploy.interfaces.errors import UnavailableError
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.results import GenerationResult
from deploy.interfaces.stories import Stories
from deploy.jobs.service import JobService
from tests.fakes.pipeline import FakePipeline
from tests.fakes.service_process import running
from tests.fixtures.error_envelope import error

#: What the smallest picture costs: 64 x 64 pixels, one step.
SMALL = 64 * 64
DAY = 86_400


class FailingGenerator(GenerationService):
    """Generates images, or raises ``failing`` if it is set."""

    failing: Exception | None = None

    async def generate(self, request: GenerationRequest) -> GenerationResult:
        if self.failing is not None:
            raise self.failing
        return await super().generate(request)


@dataclass
class Service:
    """A gateway that requires keys, with its stores and generator."""

    config: Config
    store: KeyStore
    generator: FailingGenerator
    client: TestClient
    another: Callable[[], TestClient]

    def key(self, *scopes: Scope, owner: str = "ada", **limits: int) -> dict[str, str]:
        """The header of a new key."""
        _, text = self.store.create(owner, "test", scopes or [Scope.ADMIN], KeyLimits(**limits))
        time.sleep(self.config.serving.access.refresh_s)
        return {"Authorization": f"Bearer {text}"}

    def spent(self) -> list[int]:
        engine = open_database(self.config.serving.store, None)
        return list(UsageLedger(engine).spent().values())


@pytest.fixture
def config(tmp_path: Path) -> Config:
    overrides = ["serving.access.keys=required", "serving.access.refresh_s=0.01", f"serving.store={tmp_path}/kept"]
    return load_config("tiny", overrides)


@pytest.fixture
def service(config: Config) -> Iterator[Service]:
    characters = CharacterService(config)
    generator = FailingGenerator(FakePipeline(), characters)
    jobs = JobService(config, generator)
    model = ModelResponse(id="realcustom-tiny", version="7")

    def gateway() -> TestClient:
        app = create_app(config, model, characters, generator, jobs, cast(Stories, None))
        return TestClient(app, raise_server_exceptions=False)

    store = KeyStore(open_database(config.serving.store, None))
    yield Service(config, store, generator, gateway(), gateway)


def draw(client: TestClient, headers: dict[str, str], **fields: Any) -> httpx.Response:
    body = {"prompt": "a robot", "size": "64x64", "steps": 1} | fields
    return client.post("/v1/images/generations", json=body, headers=headers)


def submit(client: TestClient, headers: dict[str, str], **fields: Any) -> httpx.Response:
    body = {"prompt": "a robot", "size": "64x64", "steps": 1} | fields
    return client.post("/v1/jobs", json=body, headers=headers)


def routes(service: Service) -> set[tuple[str, str]]:
    """Method and path of every route, as the interface's document has them."""
    paths = service.client.app.openapi()["paths"]  # type: ignore[attr-defined]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


# Keys and scopes


def test_every_route_asks_for_a_key(service: Service) -> None:
    asked = routes(service) | {("GET", path) for path in ("/docs", "/redoc", "/openapi.json", "/nothing")}
    assert ("POST", "/v1/images/generations") in asked and len(asked) > 15
    for method, path in asked:
        answer = service.client.request(method, path, content=b"{nonsense")
        if path in authentication.PUBLIC_PATHS:
            assert answer.status_code in (200, 503), path
            continue
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"] == 'Bearer realm="realcustom"'
        assert error(answer)["code"] == "invalid_api_key"


def test_every_route_says_what_it_needs(service: Service) -> None:
    """What nobody has thought of needs the scope ``admin``; no route is there by oversight."""
    asked = {(method, path) for method, path in routes(service) if path not in authentication.PUBLIC_PATHS}
    needs_admin = {each for each in asked if authentication.required_scope(*each) is Scope.ADMIN}
    assert needs_admin == {each for each in asked if each[1].startswith("/v1/admin/")} != set()
    assert authentication.required_scope("GET", "/v1/anything") is Scope.ADMIN
    assert authentication.required_scope("GET", "/v1/charactersX") is Scope.ADMIN
    assert authentication.required_scope("DELETE", "/v1/models") is Scope.ADMIN


def test_all_that_is_wrong_with_a_key_is_answered_alike(service: Service) -> None:
    ended, revoked = (service.store.create("ada", "x", [Scope.ADMIN], lifetime_s=s) for s in (0.001, None))
    service.store.revoke(revoked[0].id)
    good, text = service.store.create("ada", "x", [Scope.ADMIN])
    wrong = f"rc-{good.id}-{'0' * 48}"
    time.sleep(0.05)
    answers = [
        service.client.get("/v1/models", headers={"Authorization": f"Bearer {sent}"})
        for sent in (ended[1], revoked[1], wrong, new_key()[1], "rc-nonsense", "x" * 5000, text + " ")
    ]
    last = answers.pop()
    assert last.status_code == 200, "spaces around it are no part of it"
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert {answer.headers["www-authenticate"] for answer in answers} == {
        'Bearer realm="realcustom", error="invalid_token"'
    }
    assert "rc-" not in answers[0].text


@pytest.mark.parametrize(
    ("header", "status"),
    [("Bearer {}", 200), ("bearer {}", 200), ("Basic {}", 401), ("{}", 401), ("Bearer", 401), ("", 401)],
)
def test_a_key_is_sent_as_a_bearer_token(service: Service, header: str, status: int) -> None:
    text = service.key()["Authorization"].split()[1]
    answer = service.client.get("/v1/models", headers={"Authorization": header.format(text)})
    assert answer.status_code == status
    assert service.client.get(f"/v1/models?key={text}").status_code == 401, "nothing in the address is a key"


READ_CHARACTERS = ("GET", "/v1/characters")
WRITE_CHARACTERS = ("DELETE", "/v1/characters/char-0")
DRAW = ("POST", "/v1/images/generations")
READ_JOBS = ("GET", "/v1/jobs")
WRITE_JOBS = ("POST", "/v1/jobs")
METRICS = ("GET", "/metrics")
MODELS = ("GET", "/v1/models")
ALL = {READ_CHARACTERS, WRITE_CHARACTERS, DRAW, READ_JOBS, WRITE_JOBS, METRICS, MODELS}


@pytest.mark.parametrize(
    ("scopes", "open_to"),
    [
        ([Scope.CHARACTERS_READ], {READ_CHARACTERS}),
        ([Scope.CHARACTERS_WRITE], {WRITE_CHARACTERS}),
        ([Scope.IMAGES, Scope.JOBS_READ], {DRAW, READ_JOBS}),
        ([Scope.JOBS_WRITE], {WRITE_JOBS}),
        ([Scope.METRICS], {METRICS}),
        ([Scope.ADMIN], ALL),
    ],
)
def test_a_key_permits_its_scopes_routes(service: Service, scopes: list[Scope], open_to: set[tuple[str, str]]) -> None:
    headers = service.key(*scopes)
    for method, path in ALL:
        answer = service.client.request(method, path, headers=headers, content=b"" if method == "POST" else None)
        if (method, path) in open_to | {MODELS}:
            assert answer.status_code not in (401, 403), (method, path)
        else:
            assert answer.status_code == 403 and error(answer)["code"] == "missing_scope", (method, path)
            assert 'error="insufficient_scope", scope="' in answer.headers["www-authenticate"]


def test_owners_do_not_see_each_other_and_keys_of_one_owner_do(service: Service) -> None:
    ada, also_ada, bob = service.key(), service.key(), service.key(owner="bob")
    job = submit(service.client, ada)
    assert job.status_code == 202
    path = job.headers["location"]
    assert [service.client.get(path, headers=who).status_code for who in (ada, also_ada, bob)] == [200, 200, 404]
    assert service.client.get("/v1/jobs", headers=bob).json()["data"] == []
    assert service.client.delete(path, headers=bob).status_code == 404


def test_a_key_that_is_revoked_stops_to_work(service: Service) -> None:
    headers = service.key()
    assert service.client.get("/v1/models", headers=headers).status_code == 200
    (key,) = service.store.valid()
    service.store.revoke(key.id)
    time.sleep(0.05)
    assert service.client.get("/v1/models", headers=headers).status_code == 401


def test_web_sockets_need_a_key_too(service: Service) -> None:
    with pytest.raises(WebSocketDisconnect) as refused, service.client.websocket_connect("/v1/jobs"):
        pass
    assert refused.value.code == 1008


def test_a_body_is_not_read_without_a_valid_key(service: Service) -> None:
    async def ask() -> int:
        answered: list[int] = []

        async def receive() -> Any:
            raise AssertionError("the body was asked for")

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answered.append(message["status"])

        scope = {"type": "http", "method": "POST", "path": "/v1/characters", "headers": [], "query_string": b""}
        await service.client.app(scope, receive, send)
        return answered[0]

    assert asyncio.run(ask()) == 401


def test_the_document_says_that_keys_are_sent(service: Service, config: Config) -> None:
    document = service.client.get("/openapi.json", headers=service.key(Scope.METRICS)).json()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert document["paths"]["/v1/images/generations"]["post"]["security"]
    assert service.client.get("/openapi.json").status_code == 401


def test_without_keys_everybody_is_one_caller(tmp_path: Path) -> None:
    config = load_config("tiny", [f"serving.store={tmp_path}/kept"])
    characters = CharacterService(config)
    model = ModelResponse(id="realcustom-tiny", version="7")
    generator = GenerationService(FakePipeline(), characters)
    jobs = JobService(config, generator)
    open_app = create_app(config, model, characters, generator, jobs, cast(Stories, None))
    assert draw(TestClient(open_app), {}).status_code == 200
    assert "securitySchemes" not in TestClient(open_app).get("/openapi.json").json().get("components", {})


# How often, and at what cost


def test_requests_a_minute_are_counted_key_by_key(service: Service) -> None:
    hasty, calm = service.key(requests_per_minute=3), service.key()
    assert [service.client.get("/v1/models", headers=hasty).status_code for _ in range(3)] == [200] * 3
    refused = service.client.get("/v1/models", headers=hasty)
    assert refused.status_code == 429 and error(refused)["code"] == "rate_limit_exceeded"
    assert error(refused)["type"] == "rate_limit_error"
    assert 18 <= int(refused.headers["retry-after"]) <= 20, "three a minute is one in twenty seconds"
    assert service.client.get("/v1/models", headers=calm).status_code == 200


def limits_told(answer: httpx.Response) -> dict[str, int]:
    begin = "x-ratelimit-"
    return {name.removeprefix(begin): int(value) for name, value in answer.headers.items() if name.startswith(begin)}


def test_answers_tell_what_is_left(service: Service) -> None:
    headers = service.key(requests_per_minute=3, pixel_steps_per_day=5 * SMALL)
    told = limits_told(draw(service.client, headers, n=2))
    assert 0 < told.pop("reset-pixel-steps") <= DAY and told.pop("reset-requests") == 20
    assert told == {
        "limit-requests": 3,
        "remaining-requests": 2,
        "limit-pixel-steps": 5 * SMALL,
        "remaining-pixel-steps": 3 * SMALL,
    }
    assert limits_told(submit(service.client, headers))["remaining-pixel-steps"] == 2 * SMALL
    wrong = draw(service.client, headers, size="64x65")
    assert wrong.status_code == 400 and limits_told(wrong)["remaining-requests"] == 0
    refused = draw(service.client, headers)
    assert refused.status_code == 429 and limits_told(refused)["remaining-requests"] == 0
    only_images = service.key(Scope.IMAGES, requests_per_minute=3)
    forbidden = service.client.get("/v1/jobs", headers=only_images)
    assert forbidden.status_code == 403 and limits_told(forbidden).keys() == {
        "limit-requests",
        "remaining-requests",
        "reset-requests",
    }
    assert limits_told(service.client.get("/v1/models", headers=service.key())) == {}
    assert limits_told(service.client.get("/v1/models")) == {}


def test_a_database_that_does_not_answer_hides_what_is_left(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = service.key(pixel_steps_per_day=5 * SMALL)

    def hang(*_: object) -> int:
        raise OperationalError("", {}, Exception())

    monkeypatch.setattr(UsageLedger, "spent_by", hang)
    answer = service.client.get("/v1/models", headers=headers)
    assert answer.status_code == 200 and limits_told(answer) == {}


def test_owners_see_their_usage(service: Service) -> None:
    ada, also_ada, bob = (
        service.key(),
        service.key(Scope.METRICS, pixel_steps_per_day=9 * SMALL),
        service.key(owner="b"),
    )
    assert draw(service.client, ada, n=2, steps=3).status_code == 200
    assert draw(service.client, ada, stream=True).status_code == 200
    service.generator.failing = UnavailableError("busy")
    assert draw(service.client, ada).status_code == 503
    usage = service.client.get("/v1/usage", headers=also_ada).json()
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert usage["data"] == [{"date": today, "requests": 4, "pixel_steps": 7 * SMALL, "images": 3}]
    assert usage["storage"]["characters"] == usage["storage"]["bytes"] == 0
    assert usage["limits"] == {"characters": 1000, "pictures": 4000, "stories": 1000, "bytes": 5_000_000_000}
    (of_bob,) = service.client.get("/v1/usage", headers=bob).json()["data"]
    assert of_bob == {"date": today, "requests": 1, "pixel_steps": 0, "images": 0}
    refused = service.client.get("/v1/usage?days=0", headers=bob)
    assert refused.status_code == 400 and error(refused)["param"] == "days"


def test_what_is_drawn_is_charged_and_what_is_refused_is_not(service: Service) -> None:
    headers = service.key(pixel_steps_per_day=10 * SMALL)
    assert draw(service.client, headers, n=2, steps=2).status_code == 200
    assert service.spent() == [4 * SMALL]
    for wrong in ({"size": "64x65"}, {"prompt": ""}, {"model": "other"}, {"characters": [{"id": "char-0"}]}):
        assert draw(service.client, headers, **wrong).status_code in (400, 404)
    assert service.spent() == [4 * SMALL]
    for failure, status in ((UnavailableError("busy"), 503), (RuntimeError("a fault"), 500)):
        service.generator.failing = failure
        assert draw(service.client, headers).status_code == status
    assert service.spent() == [4 * SMALL], "what was not drawn is given back"
    service.generator.failing = None
    too_many = draw(service.client, headers, n=7)
    assert too_many.status_code == 429 and error(too_many)["code"] == "insufficient_quota"
    assert 0 < int(too_many.headers["retry-after"]) <= DAY
    assert int(too_many.headers["retry-after"]) == pytest.approx(DAY - time.time() % DAY, abs=5)
    assert service.spent() == [4 * SMALL]
    never = draw(service.client, headers, n=10, steps=2)
    assert never.status_code == 400 and error(never)["code"] == "beyond_quota" and "retry-after" not in never.headers
    assert draw(service.client, headers, n=6).status_code == 200
    assert service.spent() == [10 * SMALL]


def test_streams_are_charged_too(service: Service) -> None:
    headers = service.key(pixel_steps_per_day=3 * SMALL)
    streamed = draw(service.client, headers, stream=True, n=2)
    assert streamed.status_code == 200 and streamed.text.count("image_generation.completed") >= 2
    assert service.spent() == [2 * SMALL]
    refused = draw(service.client, headers, stream=True, n=2)
    assert refused.status_code == 429 and error(refused)["code"] == "insufficient_quota"


def test_several_gateways_share_a_quota(service: Service) -> None:
    headers, other = service.key(pixel_steps_per_day=2 * SMALL), service.another()
    assert [draw(client, headers).status_code for client in (service.client, other, service.client, other)] == [
        200,
        200,
        429,
        429,
    ]


def test_a_job_is_charged_once(service: Service) -> None:
    headers = service.key(pixel_steps_per_day=2 * SMALL) | {"Idempotency-Key": "one"}
    first = submit(service.client, headers, n=2)
    assert first.status_code == 202 and service.spent() == [2 * SMALL]
    again = submit(service.client, headers, n=2)
    assert again.status_code == 202 and again.headers["idempotent-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"], "it is known, although nothing is left"
    assert service.spent() == [2 * SMALL]
    assert submit(service.client, headers | {"Idempotency-Key": "two"}).status_code == 429


def test_a_queue_that_is_full_costs_nothing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = service.key(pixel_steps_per_day=5 * SMALL)
    small = service.config.model_copy(
        update={
            "serving": service.config.serving.model_copy(
                update={"jobs": service.config.serving.jobs.model_copy(update={"max_queued": 1})}
            )
        }
    )
    jobs = JobService(small, service.generator)
    model = ModelResponse(id="realcustom-tiny", version="7")
    client = TestClient(create_app(small, model, CharacterService(small), service.generator, jobs, cast(Stories, None)))
    assert [submit(client, headers).status_code for _ in range(3)] == [202, 429, 429]
    assert service.spent() == [SMALL]


def test_the_official_client_is_told_what_to_do(config: Config) -> None:
    store = KeyStore(open_database(config.serving.store, None))
    _, text = store.create("ada", "x", [Scope.IMAGES], KeyLimits(pixel_steps_per_day=SMALL))
    _, other = store.create("ada", "x", [Scope.METRICS])
    with running(config) as url:
        sent: list[httpx.Request] = []
        watching = httpx.Client(event_hooks={"request": [sent.append]})

        def client(key: str) -> openai.OpenAI:
            return openai.OpenAI(base_url=f"{url}/v1", api_key=key, http_client=watching)

        def ask(key: str) -> Any:
            return client(key).images.generate(prompt="a robot", size="64x64", extra_body={"steps": 1})

        assert ask(text).data
        with pytest.raises(openai.RateLimitError) as spent:
            ask(text)
        assert spent.value.code == "insufficient_quota"
        with pytest.raises(openai.AuthenticationError):
            ask("sk-wrong")
        with pytest.raises(openai.PermissionDeniedError):
            ask(other)
        assert len(sent) == 4, "it does not try again what cannot succeed"


# The service does not stand open


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_alone_needs_no_keys(host: str) -> None:
    authentication.require_authentication(load_config("tiny"), host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.org", "localhost.example.org", "", None])
def test_a_network_address_needs_keys_or_an_explicit_setting(host: str | None) -> None:
    with pytest.raises(ConfigError, match=r"serving\.access\.keys.*realcustom key create.*open_to_network=true"):
        authentication.require_authentication(load_config("tiny"), host)
    authentication.require_authentication(load_config("tiny", ["serving.access.keys=required"]), host)
    authentication.require_authentication(load_config("tiny", ["serving.access.open_to_network=true"]), host)


def test_neither_start_nor_build_opens_the_service_to_the_network() -> None:
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 is open"):
        serve_app.start(load_config("tiny", ["serving.host=0.0.0.0"]))
    with pytest.raises(ConfigError, match=r"serving\.access\.keys"):
        serve_app.build({})


def test_the_config_file_asks_for_keys() -> None:
    tree = yaml.safe_load((PACKAGE_ROOT / "deploy/serve.yaml").read_text())
    args = tree["applications"][0]["args"]
    config = load_config(args["preset"], args["overrides"])
    assert config.serving.access.keys == "required"
    authentication.require_authentication(config, tree["http_options"]["host"])


def test_every_node_of_a_cluster_asks_for_rays_token() -> None:
    cluster = yaml.safe_load((PACKAGE_ROOT / "ray_cluster.yaml").read_text())
    heads, workers = (
        [command for command in cluster[name] if "ray start" in command]
        for name in ("head_start_ray_commands", "worker_start_ray_commands")
    )
    assert heads and workers and all("RAY_AUTH_MODE=token" in command for command in heads + workers)
    assert all("--dashboard-host=127.0.0.1" in command or "--dashboard-host 127.0.0.1" in command for command in heads)
