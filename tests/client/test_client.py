"""The client of the service, and the commands that use it, over real HTTP."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from components.client import Choice, Client, ServiceError
from components.client.transport import Transport
from components.config import Config, load_config
from components.errors import DataError
from tests.deploy.test_serving_api import photograph
from tests.fakes.service_process import QUICK, running
from workflows import serve, service
from workflows.cli import app


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config("tiny", [f"serving.store={tmp_path}/characters", *QUICK])


@pytest.fixture
def url(config: Config) -> Iterator[str]:
    with running(config) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_characters_and_pictures(client: Client, tmp_path: Path) -> None:
    (tmp_path / "rob.png").write_bytes(photograph())
    rob = client.characters.create("Rob", tmp_path / "rob.png", description="a red robot")
    assert (rob.name, rob.target_word) == ("Rob", "robot") and isinstance(rob.advice, list)
    assert client.characters.get(rob.id) == rob
    drawn = client.generate("a robot on the beach", [rob], n=2, seed=7, return_masks=True, output_format="webp")
    assert [picture.seed for picture in drawn] == [7, 8] and len(drawn) == 2
    assert all(opened(picture.data).format == "WEBP" and len(picture.masks) == 1 for picture in drawn)
    assert (drawn.model_version, drawn.target_words, drawn.notes) == ("7", ["robot"], [])
    assert drawn.revised_prompt is None
    assert Image.open(drawn[0].save(tmp_path / "beach.webp")).size == (64, 64)
    told = client.generate("@rob", [Choice(rob.id, "machine", 0.5)])
    assert (told.revised_prompt, told.target_words) == ("machine", ["machine"])
    assert client.characters.rename(rob.id, "Bob").name == "Bob"
    client.characters.delete(rob.id)
    with pytest.raises(ServiceError) as gone:
        client.generate("a robot", [rob.id])
    assert (gone.value.status, gone.value.param) == (404, "characters[0].id")


def test_characters_are_listed_over_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.client.pages._PAGE", 2)
    made = [client.characters.create(f"c{i}", [photograph()], target_word="thing").id for i in range(5)]
    assert [character.id for character in client.characters.list()] == made[::-1]


def test_one_step_pictures(client: Client) -> None:
    drawn = client.edit(photograph(), "sitting on the beach", seed=3)
    assert (drawn.target_words, drawn.revised_prompt) == (["robot"], "a robot sitting on the beach")
    assert client.edit([photograph(), photograph("blue")], "a cat", target_word="cat").target_words == ["cat"]
    with pytest.raises(DataError, match="cannot be read"):
        client.edit("missing.png", "a robot")


def two_discs(folder: Path) -> tuple[Path, Path]:
    """A red disc on the left and a blue one on the right, and the mask of the blue one."""
    picture, mask = Image.new("RGB", (240, 160), "lightgreen"), Image.new("L", (240, 160))
    ImageDraw.Draw(picture).ellipse((20, 40, 100, 120), fill="red")
    for each, color in ((picture, "blue"), (mask, 255)):
        ImageDraw.Draw(each).ellipse((140, 40, 220, 120), fill=color)
    picture.save(folder / "two.png")
    mask.save(folder / "mask.png")
    return folder / "two.png", folder / "mask.png"


def test_regions_are_sent_with_pictures(client: Client, url: str, tmp_path: Path) -> None:
    picture, mask = two_discs(tmp_path)
    box = (10, 30, 110, 130)
    made = client.characters.create(
        "Two", [picture, picture], target_word="robot", boxes=[box, None], masks=[None, mask]
    )
    client.characters.add_pictures(made.id, picture, masks=[mask.read_bytes()])
    pictures = httpx.get(f"{url}/v1/characters/{made.id}").json()["pictures"]
    middles = [opened(httpx.get(url + each["cutout"]).content).convert("RGB").getpixel((32, 32)) for each in pictures]
    assert middles == [(255, 0, 0), (0, 0, 255), (0, 0, 255)]
    for region, color in (({"boxes": [box]}, (255, 0, 0)), ({"masks": [mask]}, (0, 0, 255))):
        drawn = client.edit(picture, "a robot", "robot", size="64x64", **region)  # type: ignore[arg-type]
        assert opened(drawn[0].data).getpixel((32, 32)) == color
    again = client.characters.cut_out_again(made.id, pictures[0]["id"], mask=mask)
    assert [each.id for each in again.pictures[1:]] == [each["id"] for each in pictures[1:]]
    again = client.characters.cut_out_again(made.id, again.pictures[1].id, box=box)
    assert (again.pictures[0].width, again.pictures[0].height) == (240, 160)
    shown = [f"{url}/v1/characters/{made.id}/pictures/{each.id}/cutout.png" for each in again.pictures[:2]]
    middles = [opened(httpx.get(each).content).convert("RGB").getpixel((32, 32)) for each in shown]
    assert middles == [(0, 0, 255), (255, 0, 0)]
    left = client.characters.remove_picture(made.id, again.pictures[0].id)
    assert [each.id for each in left.pictures] == [each.id for each in again.pictures[1:]]
    changed = client.characters.change(made.id, description="two balls", target_word="ball")
    assert (changed.name, changed.description, changed.target_word) == ("Two", "two balls", "ball")
    with pytest.raises(ServiceError, match=r"boxes\[0\]"):
        client.edit(picture, "a robot", "robot", boxes=[(0, 0, 999, 10)])


def test_jobs(client: Client) -> None:
    job = client.jobs.submit("a slow robot", seed=3, steps=12, key="once")
    assert client.jobs.submit("a slow robot", seed=3, steps=12, key="once").id == job.id
    events = list(client.jobs.events(job.id))
    assert events[-1].kind == "done" and {event.kind for event in events} <= {"progress", "preview", "done"}
    assert all(opened(event.png).format == "PNG" for event in events if event.png)
    drawn = client.jobs.wait(job.id, timeout_s=10)
    assert drawn[0].data == client.generate("a slow robot", seed=3, steps=12)[0].data
    assert [each.id for each in client.jobs.list()] == [job.id]
    client.jobs.cancel(job.id)
    with pytest.raises(ServiceError, match="no such job"):
        client.jobs.get(job.id)


def test_a_job_that_does_not_end_well_is_told(client: Client) -> None:
    job = client.jobs.submit("a sluggish robot")
    with pytest.raises(TimeoutError):
        client.jobs.wait(job.id, timeout_s=0, look_every_s=0.01)
    client.jobs.cancel(job.id)
    with pytest.raises(ServiceError, match="cancelled"):
        client.jobs.wait(job.id, timeout_s=10, look_every_s=0.05)


# --- what is tried again


def answering(*answers: httpx.Response, retries: int = 5) -> tuple[Transport, list[float], list[httpx.Request]]:
    """A transport that is given these answers in turn, its pauses, and the requests."""
    left, pauses, seen = list(answers), [], []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return left.pop(0)

    http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer))
    return Transport("http://service", "rc-key", retries=retries, pause=pauses.append, http=http), pauses, seen


def refusal(status: int, **headers: str) -> httpx.Response:
    error = {"message": "wait", "type": "server_error", "param": None, "code": "busy"}
    return httpx.Response(status, json={"error": error}, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_a_busy_service_is_asked_again_when_it_says() -> None:
    answers = [
        refusal(503, retry_after="7"),
        refusal(429),
        refusal(429, retry_after="5000"),
        httpx.Response(200, json={}),
    ]
    transport, pauses, seen = answering(*answers)
    files = [("image", ("a.png", photograph()))]
    assert transport.json("POST", "/v1/images/edits", data={"prompt": "x"}, files=files) == {}
    assert pauses == [7.0, 2.0, 60.0]
    assert all(photograph() in request.read() for request in seen)
    assert {request.headers["authorization"] for request in seen} == {"Bearer rc-key"}


def test_what_will_not_succeed_is_not_tried_again() -> None:
    for refused in (refusal(400), refusal(500), refusal(429, x_should_retry="false")):
        transport, pauses, _ = answering(refused)
        with pytest.raises(ServiceError, match="wait") as error:
            transport.json("GET", "/")
        assert error.value.code == "busy" and pauses == []
    transport, pauses, _ = answering(*[refusal(503)] * 3, retries=2)
    with pytest.raises(ServiceError):
        transport.json("GET", "/")
    assert len(pauses) == 2


def test_answers_of_others_and_no_answer_are_told() -> None:
    transport, _, _ = answering(httpx.Response(502, text="<html>bad gateway"))
    with pytest.raises(ServiceError, match="502"):
        transport.json("GET", "/")
    with pytest.raises(ServiceError, match="cannot be reached"):
        Client("http://127.0.0.1:9").characters.get("x")


class BreakingStream(httpx.SyncByteStream):
    """Events, after which the connection breaks off."""

    def __init__(self, *events: str) -> None:
        self._events = events

    def __iter__(self) -> Iterator[bytes]:
        yield from (event.encode() for event in self._events)
        raise httpx.ReadError("the connection was reset")


def _event(kind: str, number: int | None, **data: Any) -> str:
    identifier = "" if number is None else f"id: {number}\n"
    return f"event: {kind}\ndata: {json.dumps(data)}\n{identifier}\n"


def test_events_are_resumed_after_the_last_one() -> None:
    progress = _event("progress", 4, id="job-1", status="running")
    preview = _event("preview", None, picture=0, step=3, b64_json=base64.b64encode(b"png").decode())
    limit = _event("error", None, error={"message": "the request was not done within 300 s"})
    answers = [
        httpx.Response(200, stream=BreakingStream(progress, preview)),
        refusal(503),
        httpx.Response(200, text=preview + limit),
        httpx.Response(200, text=_event("done", 5, id="job-1", status="done")),
    ]
    transport, pauses, seen = answering(*answers)
    events = list(Client("", transport=transport).jobs.events("job-1"))
    assert [event.kind for event in events] == ["progress", "preview", "done"]
    assert [request.headers.get("last-event-id") for request in seen] == [None, "4", "4", "4"]
    assert len(pauses) == 3

    transport, _, seen = answering(httpx.Response(200, stream=BreakingStream(progress)), httpx.Response(204))
    assert [event.kind for event in Client("", transport=transport).jobs.events("job-1")] == ["progress"]
    transport, _, seen = answering(*(httpx.Response(200, stream=BreakingStream()) for _ in range(3)), retries=2)
    with pytest.raises(ServiceError, match="reset"):
        list(Client("", transport=transport).jobs.events("job-1"))
    assert len(seen) == 3
    transport, pauses, _ = answering(refusal(404))
    with pytest.raises(ServiceError):
        list(Client("", transport=transport).jobs.events("job-1"))
    assert pauses == []


# --- the commands


def run(*words: str, code: int = 0, **env: str) -> Any:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200", **env})
    assert result.exit_code == code, result.output
    return result


def test_commands_speak_to_a_service(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rob.png").write_bytes(photograph())
    made = run("character", "create", "Rob", "rob.png", "--description", "a red robot", "--url", url)
    identifier = made.stdout.split()[0]
    listed = run("character", "list", REALCUSTOM_URL=url)
    assert identifier in listed.stdout and "Rob" in listed.stdout
    assert "target_word: robot" in run("character", "show", "rob", "--url", url).stdout
    drawn = run("generate", "--prompt", "a robot", "--character", "rob", "--output", "a.jpg", REALCUSTOM_URL=url)
    assert "wrote a.jpg" in drawn.stdout and Image.open("a.jpg").format == "JPEG"
    told = run("generate", "--prompt", "@rob at home", "--output", "b.webp", "--url", url)
    assert "revised prompt: 'robot at home'" in told.stdout and Image.open("b.webp").format == "WEBP"
    once = run("generate", "--prompt", "on the beach", "--reference", "rob.png", "--seed", "3", "--url", url)
    assert "revised prompt: 'a robot on the beach'" in once.stdout and Image.open("picture.png").size == (64, 64)
    run("character", "rename", "rob", "Bob", "--url", url)
    changed = run("character", "change", "bob", "--description", "a blue toy", "--word", "toy", "--url", url)
    assert changed.stdout == "Bob: a blue toy (toy)\n"
    assert "--name" in run("character", "change", "bob", "--url", url, code=2).stderr
    run("character", "delete", "bob", "--url", url)
    assert identifier not in run("character", "list", "--url", url).stdout


def test_commands_say_where_the_subject_is(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    two_discs(tmp_path)
    monkeypatch.setenv("REALCUSTOM_URL", url)
    named = ["--word", "robot", "--box", "10,30,110,130", "--box", "none", "--mask", "none", "--mask", "mask.png"]
    identifier = run("character", "create", "Two", "two.png", "two.png", *named).stdout.split()[0]
    run("character", "add", "two", "two.png", "--box", "10,30,110,130")
    pictures = httpx.get(f"{url}/v1/characters/{identifier}").json()["pictures"]
    middles = [opened(httpx.get(url + each["cutout"]).content).convert("RGB").getpixel((32, 32)) for each in pictures]
    assert middles == [(255, 0, 0), (0, 0, 255), (255, 0, 0)]
    for region, color in ((["--box", "10,30,110,130"], (255, 0, 0)), (["--mask", "mask.png"], (0, 0, 255))):
        run("generate", "--prompt", "a robot", "--word", "robot", "--reference", "two.png", *region)
        assert Image.open("picture.png").getpixel((32, 32)) == color
    first = pictures[0]["id"]
    assert f"image: {first} (240 x 160)" in run("character", "show", "two").stdout
    new = run("character", "cut-out", "two", first, "--mask", "mask.png").stdout.strip()
    cut_out = httpx.get(f"{url}/v1/characters/{identifier}/pictures/{new}/cutout.png")
    assert new != first and opened(cut_out.content).convert("RGB").getpixel((32, 32)) == (0, 0, 255)
    run("character", "remove-picture", "two", new)
    assert new not in run("character", "show", "two").stdout
    bad = run("character", "create", "Two", "two.png", "--word", "robot", "--box", "10,30,110", code=2)
    assert "--box 10,30,110" in bad.stderr and "left,top,right,bottom" in bad.stderr
    assert "--reference" in run("generate", "--prompt", "x", "--box", "1,2,3,4", code=2).stderr


def test_commands_end_in_one_line(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words, said in (
        (["character", "show", "nobody", "--url", url], "no such character"),
        (["generate", "--prompt", "@nobody", "--url", url], "the mention at character 1"),
        (["generate", "--prompt", "x", "--output", "a.gif", "--url", url], "output"),
        (["generate", "--prompt", "x", "--reference", "missing.png", "--url", url], "missing.png cannot be read"),
        (["character", "list", "--url", "http://127.0.0.1:9"], "cannot be reached"),
    ):
        result = run(*words, code=2)
        assert len(result.stderr.splitlines()) == 1 and said in result.stderr
    assert "--url" in run("generate", "--prompt", "x", "--character", "rob", code=2).stderr
    assert "--set" in run("generate", "--prompt", "x", "--set", "seed=1", "--url", url, code=2).stderr


def test_usage_is_told(client: Client, url: str) -> None:
    client.generate("a robot", n=2, size="64x64", steps=2)
    job = client.jobs.submit("a robot", size="64x64", steps=3)
    client.jobs.wait(job.id, look_every_s=0.05)
    used = client.usage(days=1)
    (today,) = used.days
    assert today.requests >= 4 and today.images >= 3 and today.pixel_steps >= 7 * 64 * 64
    assert used.storage["takes"] == 0 and used.limits["stories"] == 1000
    shown = run("usage", "--url", url).stdout
    assert today.date in shown and "0 takes" in shown


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(service, "Client", lambda *arguments: seen.append(arguments))
    monkeypatch.setenv("REALCUSTOM_API_KEY", "rc-secret")
    service.connect("http://x")
    monkeypatch.setenv("REALCUSTOM_API_KEY", "")
    service.connect("http://x")
    assert seen == [("http://x", "rc-secret"), ("http://x", None)]


def test_serve_stays_until_it_is_told_to_go(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[Any] = []

    def start(*arguments: Any) -> str:
        told.append(arguments)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return "http://service"

    monkeypatch.setattr(serve.app, "start", start)
    config = load_config("tiny")
    with serving(monkeypatch, told):
        serve.run(config, "models:/realcustom-tiny/3")
    assert told == ["ray", (config, "models:/realcustom-tiny/3"), "stopped", "gone"]
    assert "serving at http://service" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_cleanly_before_it_is_ready(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    told: list[Any] = []

    def start(*arguments: Any) -> str:
        threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
        time.sleep(30)
        return "http://service"

    monkeypatch.setattr(serve.app, "start", start)
    with serving(monkeypatch, told):
        serve.run(load_config("tiny"))
    assert told == ["ray", "stopped", "gone"] and not capsys.readouterr().out


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, told: list[Any]) -> Iterator[None]:
    """Without Ray, whose handler of SIGTERM `start_ray` sets; the handlers of signals are restored."""

    def start_ray() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        told.append("ray")

    monkeypatch.setattr(serve.app, "start_ray", start_ray)
    monkeypatch.setattr(serve.app, "stop", lambda: told.append("stopped"))
    monkeypatch.setattr(serve, "ray", SimpleNamespace(shutdown=lambda: told.append("gone")))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
