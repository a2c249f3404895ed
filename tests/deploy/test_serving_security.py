"""Untrusted input does no harm, is not logged, and is refused if a policy says so."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import httpx
import matplotlib
import pytest
import uvicorn
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFile, PngImagePlugin, WebPImagePlugin
from starlette.testclient import TestClient

from components.access.key import KeyLimits, Scope
from components.access.limits import UsageLedger
from components.access.store import KeyStore
from components.config import Config, ContentConfig, load_config
from components.content import ContentCheck, NudityCheck, input_check, output_check
from components.database import open_database
from components.errors import ConfigError
from deploy.api.app import create_app
from deploy.api.schema import ModelResponse
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.results import GenerationResult
from deploy.interfaces.stories import Stories
from deploy.jobs.service import JobService
from tests.data.test_data_fuzz import SEEDS, encoded, noise
from tests.fakes.pipeline import FakePipeline
from tests.fixtures.error_envelope import error
from tests.fixtures.job_stores import database

__all__ = ["database"]

MODEL = ModelResponse(id="realcustom-tiny", version="7")
PORTRAIT = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
#: Those of the seeds that are still pictures in a format that is taken.
TAKEN = {name: data for name, data in SEEDS.items() if name.partition("-")[0] in ("png", "jpeg", "webp")} | {
    "mpo": SEEDS["mpo"]
}
TAKEN.pop("webp-animated")


def service(
    config: Config,
    generator: Any = None,
    inputs: ContentCheck | None = None,
    outputs: ContentCheck | None = None,
) -> tuple[Any, JobService]:
    """The application, and the jobs behind it."""
    characters = CharacterService(config, content=inputs)
    generator = generator or GenerationService(FakePipeline(), characters, content=outputs)
    jobs = JobService(config, generator)
    return create_app(config, MODEL, characters, generator, jobs, cast(Stories, None)), jobs


@pytest.fixture
def config(tmp_path: Path) -> Config:
    overrides = ["serving.max_upload_bytes=300000", "serving.max_upload_pixels=1000000"]
    return load_config("tiny", [f"serving.store={tmp_path}/kept", *overrides])


@pytest.fixture
def client(config: Config) -> TestClient:
    return TestClient(service(config)[0], raise_server_exceptions=False)


def upload(client: Any, data: bytes, name: str = "a.png", **headers: str) -> httpx.Response:
    form = {"name": "Rob", "target_word": "robot"}
    return client.post("/v1/characters", data=form, files=[("pictures", (name, data))], headers=headers)  # type: ignore[no-any-return]


def photograph(colour: str = "red", form: str = "PNG", **options: Any) -> bytes:
    picture = Image.new("RGB", (160, 160), "lightgreen")
    ImageDraw.Draw(picture).ellipse((30, 30, 130, 130), fill=colour)
    return encoded(picture, form, **options)


# Uploads


@pytest.mark.parametrize("name", TAKEN)
def test_still_pictures_of_three_formats_are_taken(client: TestClient, name: str) -> None:
    assert upload(client, TAKEN[name]).status_code == 201


@pytest.mark.parametrize("name", sorted(SEEDS.keys() - TAKEN.keys()))
def test_animations_and_other_formats_are_not(client: TestClient, name: str) -> None:
    answer = upload(client, SEEDS[name], "a.png")  # what it is called does not matter
    assert answer.status_code == 400 and error(answer)["code"] == "invalid_picture"
    assert error(answer)["message"].startswith("pictures[0]: ") and "PNG, JPEG or WebP" in error(answer)["message"]
    assert client.get("/v1/characters").json()["data"] == []


def test_programs_and_documents_are_not_pictures(client: TestClient) -> None:
    svg = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    pdf, ps, html = b"%PDF-1.7\n", b"%!PS-Adobe-3.0\n(/etc/passwd) run", b"<html><script>alert(1)</script></html>"
    archive = b"PK\x03\x04" + bytes(60)
    for data in (svg, pdf, ps, html, archive, b"", b"\0" * 100, b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"):
        answer = upload(client, data)
        assert answer.status_code == 400, data[:10]


def test_pixels_are_counted_before_they_are_decoded(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[tuple[int, int]] = []
    for kind in (ImageFile.ImageFile, WebPImagePlugin.WebPImageFile):
        load = kind.load
        monkeypatch.setattr(kind, "load", lambda image, load=load: decoded.append(image.size) or load(image))
    for form in ("PNG", "JPEG", "WEBP"):
        answer = upload(client, encoded(Image.new("RGB", (1001, 1000)), form))
        assert answer.status_code == 400 and error(answer)["message"] == "pictures[0]: more than 1,000,000 pixels"
    assert (1001, 1000) not in decoded
    assert upload(client, encoded(Image.new("RGB", (1000, 1000)), "PNG")).status_code == 201
    assert (1000, 1000) in decoded


def bomb(kind: bytes, inflated: int) -> bytes:
    """A PNG with a chunk that grows a thousandfold when it is read."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    swollen = zlib.compress(b"\0" * inflated, 9)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
    inside = {b"IDAT": swollen, b"zTXt": b"a\0\0" + swollen, b"iCCP": b"a\0\0" + swollen}[kind]
    return b"\x89PNG\r\n\x1a\n" + header + chunk(kind, inside) + chunk(b"IDAT", zlib.compress(b"\0" * 64 * 193))


@pytest.mark.parametrize("kind", [b"IDAT", b"zTXt", b"iCCP"])
def test_chunks_that_swell_do_not_fill_the_memory(client: TestClient, kind: bytes) -> None:
    import tracemalloc

    data = bomb(kind, 100_000_000)
    assert len(data) < 300_000
    tracemalloc.start()
    answer = upload(client, data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.status_code in (201, 400), answer.text
    assert peak < 50_000_000


@pytest.mark.parametrize("size", [(16, 5_000), (5_000, 16), (16, 16)])
def test_extreme_shapes_are_pictures_too(client: TestClient, size: tuple[int, int]) -> None:
    assert upload(client, encoded(noise(size=size), "JPEG")).status_code == 201


def test_links_are_not_followed(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("somebody looks for a host")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    sound = base64.b64encode(photograph()).decode()
    for link in ("http://169.254.169.254/latest", "HTTPS://example.org/a.png"):
        answer = client.post("/v1/characters", json={"name": "R", "target_word": "r", "pictures": [link]})
        assert answer.status_code == 400 and "nothing is fetched" in error(answer)["message"]
        assert error(answer)["param"] == "pictures[0]" and link not in answer.text
    for other in ("file:///etc/passwd", "ftp://example.org/a", "s3://bucket/a", "/etc/passwd", "data:text/html,<b>"):
        answer = client.post("/v1/characters", json={"name": "R", "target_word": "r", "pictures": [other]})
        assert answer.status_code == 400, other
    good = client.post(
        "/v1/characters", json={"name": "R", "target_word": "r", "pictures": [f"data:image/png;base64,{sound}"]}
    )
    assert good.status_code == 201


def test_names_of_files_lead_nowhere(client: TestClient, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if "kept" not in path.parts}
    for name in ("../../../etc/passwd", "/etc/passwd", "a\0b.png", "a" * 5000, "..\\..\\a.png", "%2e%2e%2fa"):
        assert upload(client, photograph(), name).status_code in (201, 400)
    assert {path for path in tmp_path.rglob("*") if "kept" not in path.parts} == before


#: Bytes that are overwritten, and where.
CHANGES = st.lists(st.tuples(st.integers(0), st.binary(max_size=6)), max_size=8)
FUZZ = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(
    name=st.sampled_from(sorted(SEEDS)), changes=st.lists(st.tuples(st.integers(0), st.binary(max_size=6)), max_size=8)
)
@example(name="png", changes=[(8, b"\0\0\0\0")])
def test_damaged_pictures_are_never_a_fault_of_the_service(
    client: TestClient, name: str, changes: list[tuple[int, bytes]]
) -> None:
    data = bytearray(SEEDS[name])
    for place, new in changes:
        at = place % len(data)
        data[at : at + len(new)] = new
    answer = upload(client, bytes(data))
    assert answer.status_code in (201, 400), answer.text
    if answer.status_code == 201:
        shown = client.get(answer.json()["reference"])
        assert shown.status_code == 200 and shown.content.startswith(b"\x89PNG")
        assert client.delete(f"/v1/characters/{answer.json()['id']}").status_code == 200


@FUZZ
@given(name=st.sampled_from(sorted(TAKEN)), cut=st.floats(0, 1), tail=st.binary(max_size=64))
def test_pictures_that_are_cut_short_or_grown_are_never_a_fault(
    client: TestClient, name: str, cut: float, tail: bytes
) -> None:
    data = TAKEN[name]
    edited = client.post(
        "/v1/images/edits",
        data={"prompt": "a robot", "target_word": "robot", "size": "64x64", "steps": "1"},
        files=[("image", ("a.png", data[: int(cut * len(data))] + tail))],
    )
    assert edited.status_code in (200, 400), edited.text


@FUZZ
@given(body=st.binary(max_size=400), boundary=st.sampled_from(["x", "", '"', "x" * 80, "ü"]))
@example(body=b"--x\r\nContent-Disposition: form-data; name=pictures; filename=a\r\n\r\n", boundary="x")
@example(body=b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n' + b"a" * 300, boundary="x")
def test_malformed_forms_are_never_a_fault(client: TestClient, body: bytes, boundary: str) -> None:
    kind = f"multipart/form-data; boundary={boundary}".encode("latin-1")
    for path in ("/v1/characters", "/v1/images/edits"):
        answer = client.post(path, content=body, headers={b"content-type": kind})  # type: ignore[dict-item]
        assert answer.status_code == 400, answer.text


@pytest.mark.parametrize(
    "odd", ["\0", "a\0b", "\ud800", "\u202e", "ﷺ" * 20, "'; DROP TABLE characters; --", "%00", "\x1b[2J"]
)
def test_odd_texts_are_no_fault_of_the_service_over_either_database(tmp_path: Path, database: str, odd: str) -> None:
    config = load_config("tiny", [f"serving.store={tmp_path}/kept", f"serving.database={database}"])
    client = TestClient(service(config)[0], raise_server_exceptions=False)
    sound = base64.b64encode(photograph()).decode()
    answers = []

    def post(path: str, body: dict[str, Any]) -> None:
        sent = json.dumps(body).encode()
        answers.append(client.post(path, content=sent, headers={"content-type": "application/json"}))

    for field in ("name", "description", "target_word"):
        post("/v1/characters", {"name": "R", "target_word": "robot", "pictures": [sound], field: odd})
    for field in ("prompt", "negative_prompt", "user"):
        post("/v1/images/generations", {"prompt": "a robot", "size": "64x64", "steps": 1, field: odd})
        post("/v1/jobs", {"prompt": "a robot", "size": "64x64", "steps": 1, field: odd})
    post("/v1/images/generations", {"prompt": "a @robot", "characters": [{"id": odd}]})
    place = quote(odd.encode("utf-8", "surrogatepass"), safe="")
    for path in ("/v1/characters", "/v1/jobs"):
        answers += [client.get(f"{path}/{place}"), client.delete(f"{path}/{place}")]
        answers += [client.get(f"{path}?after={place}"), client.get(f"{path}?limit={place}")]
    there = f"/v1/characters/{upload(client, photograph()).json()['id']}/pictures/{place}"
    answers += [client.delete(there), client.get(f"{there}/cutout.png")]
    post("/v1/characters", {"name": "R", "target_word": "robot", "candidates": odd, "choice": 0})
    answers.append(client.get("/v1/characters", headers={"Authorization": odd.encode("utf-8", "surrogatepass")}))
    assert {answer.status_code for answer in answers} <= {200, 201, 202, 307, 400, 404}, [a.text for a in answers]


@pytest.mark.parametrize("deep", ["[" * 100_000, "[" * 100_000 + "]" * 100_000, "1" * 100_000, "[1e999]", "[NaN]"])
def test_json_that_is_deep_or_long_is_no_fault(client: TestClient, deep: str) -> None:
    as_json = {"content-type": "application/json"}
    for path in ("/v1/characters", "/v1/images/generations", "/v1/jobs"):
        assert client.post(path, content=deep.encode(), headers=as_json).status_code == 400
        body = f'{{"prompt": "a robot", "seed": {deep}}}'.encode()
        assert client.post(path, content=body, headers=as_json).status_code == 400
    form = {"name": "R", "target_word": "robot", "faces": deep}
    assert client.post("/v1/characters", data=form, files=[("pictures", ("a.png", photograph()))]).status_code == 400


# Logs

MARK = "zanzibar"


class Broken:
    """Fails with the words that it was given."""

    async def generate(self, request: GenerationRequest) -> GenerationResult:
        try:
            raise ValueError(f"cannot draw {request.prompt}")
        except ValueError as error:
            raise RuntimeError(f"no picture of {request.prompt}") from error

    async def stream(self, request: GenerationRequest, previews: int = 0) -> Any:
        await self.generate(request)
        yield


@contextmanager
def listening(app: Any, jobs: JobService) -> Iterator[str]:
    """The application under Uvicorn, as talkative as it can be, whose loggers are the test's to hear."""
    line = socket.socket()
    line.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="trace", timeout_graceful_shutdown=2))

    async def serve() -> None:
        jobs.start()
        try:
            await server.serve([line])
        finally:
            await jobs.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    line.listen()
    thread.start()
    try:
        yield "http://{}:{}".format(*line.getsockname())
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def marked() -> bytes:
    """A picture that has the word in every place for words."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", MARK)
    entries = Image.Exif()
    entries[0x010E] = MARK
    return encoded(noise(size=(64, 64)), "PNG", pnginfo=texts, exif=entries)


def send_marks(client: httpx.Client, key: dict[str, str]) -> list[int]:
    """The word in every part of a request: taken, refused and failed. Returns the statuses."""
    encoded_mark = base64.b64encode(marked()).decode()
    character = {"name": MARK, "description": f"a {MARK}", "target_word": MARK}

    def post(path: str, **sent: Any) -> int:
        return client.post(path, headers=key | sent.pop("headers", {}), **sent).status_code

    def form(data: bytes, **fields: str) -> int:
        return post("/v1/characters", data=character | fields, files=[("pictures", (f"{MARK}.png", data))])

    answers = [
        form(marked()),
        form(MARK.encode() * 10),
        form(marked()[:-40]),
        form(marked(), **{MARK: MARK}),
        post("/v1/characters", json=character | {"pictures": [encoded_mark]}),
        post("/v1/characters", json=character | {"pictures": [f"https://{MARK}.example/{MARK}.png"]}),
        post("/v1/characters", content=MARK.encode() * 50_000, headers={"content-type": "application/json"}),
        post("/v1/images/generations", json={"prompt": MARK, "size": "64x64", "steps": 1}),
        post("/v1/images/generations", json={"prompt": MARK, "size": "64x64", "steps": 1, "stream": True}),
        post("/v1/images/generations", json={"prompt": MARK, "negative_prompt": MARK, "size": MARK}),
        post("/v1/images/generations", json={"prompt": MARK, MARK: MARK}),
        post("/v1/images/generations", content=f'{{"prompt": "{MARK}'.encode(), headers={"content-type": MARK}),
        post(
            "/v1/images/edits",
            data={"prompt": MARK, "target_word": MARK, "size": "64x64", "steps": "1"},
            files=[("image", (f"{MARK}.png", marked()))],
        ),
        post("/v1/jobs", json={"prompt": MARK, "size": "64x64", "steps": 1}),
        client.get("/v1/models", headers={"Authorization": f"Bearer {MARK}"}).status_code,
    ]
    deadline = time.monotonic() + 10
    while any(job["status"] in ("queued", "running") for job in client.get("/v1/jobs", headers=key).json()["data"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answers


@pytest.mark.parametrize("broken", [False, True])
def test_what_is_asked_for_and_sent_is_in_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], broken: bool
) -> None:
    """Also where the service fails, and the libraries' own words are heard from INFO on."""
    overrides = ["serving.access.keys=required", "serving.access.refresh_s=0.01", "serving.max_upload_bytes=300000"]
    overrides += ["serving.jobs.tick_s=0.05", "serving.jobs.lease_s=0.5", "serving.jobs.max_attempts=1"]
    config = load_config("tiny", [f"serving.store={tmp_path}/kept", *overrides])
    _, text = KeyStore(open_database(config.serving.store, None)).create("ada", "x", [Scope.ADMIN])
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.WARNING, "httpx")  # the test's own client
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "fastapi", "starlette", "deploy", "components"):
        caplog.set_level(logging.DEBUG, name)
    caplog.handler.setLevel(0)
    with listening(*service(config, Broken() if broken else None)) as url, httpx.Client(base_url=url) as client:
        statuses = send_marks(client, {"Authorization": f"Bearer {text}"})
    assert {400, 401, 413} <= set(statuses) and (500 if broken else 200) in statuses
    heard = caplog.text + "".join(str(record.__dict__) for record in caplog.records) + "".join(capfd.readouterr())
    assert "POST /v1/images/generations" in heard, "the log is not just empty"
    assert ("RuntimeError" in heard and "ValueError" in heard) == broken, "an error is named, and where it was raised"
    hidden = base64.b64encode(marked()).decode()[20:60]
    for secret in (MARK, MARK.upper(), hidden, text, text.rpartition("-")[2]):
        assert secret not in heard, secret


# Content


def refuses(colour: tuple[int, int, int]) -> Callable[[Image.Image], bool]:
    """A check that refuses pictures with this colour in the middle."""
    return lambda picture: picture.convert("RGB").getpixel((picture.width // 2, picture.height // 2)) != colour


def nothing_passes(_: Image.Image) -> bool:
    return False


def draw(client: Any, **fields: Any) -> httpx.Response:
    body = {"prompt": "a robot", "size": "64x64", "steps": 4} | fields
    return client.post("/v1/images/generations", json=body)  # type: ignore[no-any-return]


def test_uploads_that_the_policy_refuses_are_not_kept(config: Config) -> None:
    app, _ = service(config, inputs=refuses((255, 0, 0)))
    client = TestClient(app)
    assert upload(client, photograph("blue")).status_code == 201
    files = [("pictures", ("a.png", photograph("blue"))), ("pictures", ("b.png", photograph("red")))]
    refused = client.post("/v1/characters", data={"name": "R", "target_word": "r"}, files=files)
    assert refused.status_code == 400
    assert error(refused) == {
        "message": "pictures[1]: refused by the content policy of this service",
        "type": "invalid_request_error",
        "param": None,
        "code": "content_policy",
    }
    assert len(client.get("/v1/characters").json()["data"]) == 1
    form = {"prompt": "a robot", "target_word": "robot", "size": "64x64", "steps": "1"}
    edited = client.post("/v1/images/edits", data=form, files=[("image", ("a.png", photograph("red")))])
    assert edited.status_code == 400 and error(edited)["code"] == "content_policy"
    assert draw(client).status_code == 200, "what is drawn is not looked at"


def test_drawn_pictures_that_the_policy_refuses_are_not_delivered(config: Config) -> None:
    client = TestClient(service(config, outputs=nothing_passes)[0])
    refused = draw(client, n=2)
    assert refused.status_code == 400 and error(refused)["code"] == "content_policy"
    assert "b64_json" not in refused.text
    assert upload(client, photograph()).status_code == 201, "what is sent is not looked at"
    streamed = draw(client, stream=True, partial_images=3)
    assert "b64_json" not in streamed.text and "content_policy" in streamed.text


def test_one_refused_picture_refuses_its_request(config: Config) -> None:
    client = TestClient(service(config)[0])
    pictures = draw(client, n=3, seed=5).json()["data"]
    shown = [Image.open(io.BytesIO(base64.b64decode(p["b64_json"]))).convert("RGB") for p in pictures]
    colours = [picture.getpixel((32, 32)) for picture in shown]
    assert len(set(colours)) == 3
    client = TestClient(service(config, outputs=refuses(colours[1]))[0])  # type: ignore[arg-type]
    assert draw(client, n=1, seed=5).status_code == 200
    assert draw(client, n=3, seed=5).status_code == 400


def test_previews_that_the_policy_refuses_are_left_out(config: Config) -> None:
    gray = (128, 128, 128)
    client = TestClient(service(config)[0])
    slow: dict[str, Any] = {"prompt": "a slow robot", "stream": True, "partial_images": 2, "steps": 8}
    assert "partial_image" in draw(client, **slow).text
    client = TestClient(service(config, outputs=refuses(gray))[0])
    streamed = draw(client, **slow)
    assert "partial_image" not in streamed.text and "completed" in streamed.text


def test_a_job_that_the_policy_refuses_fails_and_shows_nothing(config: Config) -> None:
    quick = config.serving.jobs.model_copy(update={"tick_s": 0.02, "lease_s": 5.0})
    config = config.model_copy(update={"serving": config.serving.model_copy(update={"jobs": quick})})
    looked: list[tuple[int, int]] = []

    def passes_while_small(picture: Image.Image) -> bool:
        looked.append(picture.size)
        return picture.width < 64

    with listening(*service(config, outputs=passes_while_small)) as url, httpx.Client(base_url=url) as client:
        job = client.post("/v1/jobs", json={"prompt": "a slow robot", "size": "64x64", "steps": 8}).json()["id"]
        told = client.get(f"/v1/jobs/{job}/events").text
        ended = client.get(f"/v1/jobs/{job}").json()
    assert ended["status"] == "failed" and ended["error"]["code"] == "content_policy" and "result" not in ended
    assert "event: failed" in told and (64, 64) in looked and len(looked) > 1


def test_what_was_drawn_and_refused_stays_charged(tmp_path: Path) -> None:
    overrides = ["serving.access.keys=required", "serving.access.refresh_s=0.01", f"serving.store={tmp_path}/kept"]
    config = load_config("tiny", overrides)
    engine = open_database(config.serving.store, None)
    _, text = KeyStore(engine).create("ada", "x", [Scope.IMAGES], KeyLimits(pixel_steps_per_day=10**6))
    client = TestClient(service(config, outputs=nothing_passes)[0], headers={"Authorization": f"Bearer {text}"})
    assert draw(client).status_code == 400
    assert list(UsageLedger(engine).spent().values()) == [64 * 64 * 4]


@pytest.mark.parametrize(
    ("policy", "looks"), [("off", (0, 0)), ("inputs", (1, 0)), ("outputs", (0, 1)), ("both", (1, 1))]
)
def test_the_policy_says_what_is_looked_at(policy: str, looks: tuple[int, int]) -> None:
    pytest.importorskip("nudenet", reason="the extra 'content' is not installed")
    config = load_config("tiny", [f"serving.content.policy={policy}"]).serving.content
    assert (input_check(config) is not None, output_check(config) is not None) == tuple(map(bool, looks))


def test_the_real_detector_looks_for_what_the_policy_names() -> None:
    """A portrait passes, until faces are refused."""
    pytest.importorskip("nudenet", reason="the extra 'content' is not installed")
    from nudenet.nudenet import __labels as labels

    known = ContentConfig.model_fields["refused"].annotation
    assert set(known.__args__[0].__args__) == set(labels)  # type: ignore[union-attr]
    with Image.open(PORTRAIT) as portrait:
        portrait.load()
    assert NudityCheck(ContentConfig().refused)(portrait)
    faces = {"FACE_FEMALE": 0.35, "FACE_MALE": 0.35}
    assert not NudityCheck(faces)(portrait)
    assert NudityCheck(faces)(Image.new("RGB", (200, 200), "green"))
    assert NudityCheck(dict.fromkeys(faces, 1.0))(portrait), "no score is so high"


def test_the_whole_service_with_the_real_detector(config: Config) -> None:
    pytest.importorskip("nudenet", reason="the extra 'content' is not installed")
    content = ContentConfig(policy="both", refused={"FACE_FEMALE": 0.35, "FACE_MALE": 0.35})
    config = config.model_copy(update={"serving": config.serving.model_copy(update={"content": content})})
    characters = CharacterService(config)
    generator = GenerationService(FakePipeline(), characters, content=output_check(content))
    jobs = JobService(config, generator)
    client = TestClient(create_app(config, MODEL, characters, generator, jobs, cast(Stories, None)))
    refused = upload(client, PORTRAIT.read_bytes())
    assert refused.status_code == 400 and error(refused)["code"] == "content_policy"
    assert upload(client, photograph()).status_code == 201
    assert draw(client).status_code == 200


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nudenet", None)
    with pytest.raises(ConfigError, match=r"serving\.content.*'\.\[content\]"):
        NudityCheck({"FACE_MALE": 0.5})


@pytest.mark.parametrize("override", ["serving.content.policy=yes", "serving.content.refused={FACES: 0.5}"])
def test_a_policy_that_cannot_be_is_refused_by_field(override: str) -> None:
    with pytest.raises(ConfigError, match=r"serving\.content\.(policy|refused)"):
        load_config("tiny", [override])
