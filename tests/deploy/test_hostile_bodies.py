"""Bodies made to be costly are refused, and none of them holds up the event loop, and so all other requests."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from components.config import load_config
from deploy.api.error_responses import ApiError
from deploy.api.json_limits import check_structure
from deploy.characters.service import CharacterService
from tests.fakes.in_process_service import running_service

#: Seconds for which no body may hold up the event loop.
LIMIT_S = 0.5
SIZE = 9_900_000
JSON = "application/json"
FORM = 'multipart/form-data; boundary="b"'

TEXT_ROUTES = [
    ("POST", "/v1/characters/candidates"),
    ("PATCH", "/v1/characters/char-0"),
]
LARGE_ROUTES = [
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/jobs"),
    ("POST", "/v1/characters"),
    ("POST", "/v1/characters/char-0/pictures"),
    ("POST", "/v1/stories"),
    ("POST", "/v1/stories/story-0/panels"),
    ("PUT", "/v1/stories/story-0/order"),
    ("PATCH", "/v1/stories/story-0"),
]
FORM_ROUTES = [("POST", "/v1/images/edits"), ("POST", "/v1/characters"), ("POST", "/v1/stories/import")]


def repeated(unit: bytes, before: bytes = b"", after: bytes = b"", size: int = SIZE) -> bytes:
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


def unknown_keys(number: int) -> bytes:
    return json.dumps({f"key {index}": index for index in range(number)}).encode()


HOSTILE_JSON = {
    "unknown keys": unknown_keys(500_000),
    "half of them": unknown_keys(40_000),
    "few enough": unknown_keys(1_900),
    "lists in lists": repeated(b"["),
    "objects in objects": repeated(b'{"a":'),
    "numbers": repeated(b"1,", b'{"characters":[', b"1]}"),
    "empty panels": repeated(b"{},", b'{"panels":[', b"{}]}"),
    "panels with an unknown key": repeated(b'{"a":1},', b'{"panels":[', b"{}]}", 200_000),
    "wrong panels": repeated(b"1,", b'{"panels":[', b"1]}", 150_000),
    "a string without an end": repeated(b'\\"', b'"'),
    "backslashes": repeated(b"\\\\", b'{"prompt":"', b'"}'),
    "strings": repeated(b'"",', b"[", b'""]'),
    "escaped strings": repeated(b'"\\\\",', b"[", b'""]'),
    "spaces": repeated(b" ", b"", b"{}"),
    "a long number": repeated(b"9", b'{"seed":', b"}", 250_000),
    "a long number of a story": repeated(b"9", b'{"title":', b"}"),
}
HOSTILE_FORMS = {
    "parts": repeated(b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na\r\n', b"", b"--b--\r\n"),
    "line ends": repeated(b"\r\n", b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n', b"--b--\r\n"),
    "almost boundaries": repeated(b"\r\n--", b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n'),
    "a header without an end": repeated(b"a", b"--b\r\nContent-Disposition: form-data; name="),
    "headers": repeated(b"A: b\r\n", b"--b\r\n"),
    "no boundary": repeated(b"a"),
}


class Lag:
    """The longest time that the event loop's thread has computed without a pause.

    Of the thread's own time: other processes on a busy machine do not count.
    """

    longest_s = 0.0

    async def watch(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            self.longest_s, last = max(self.longest_s, now - last), now


@pytest.fixture(autouse=True, scope="module")
def small_heap() -> None:
    """The collector passes over what other tests have left, which would cost the thread of the event loop seconds."""
    gc.collect()
    gc.freeze()


@contextmanager
def watched() -> Iterator[Lag]:
    lag = Lag()
    task = asyncio.get_running_loop().create_task(lag.watch())
    try:
        yield lag
    finally:
        task.cancel()


async def lags(tmp_path: Path, requests: list[tuple[str, str, str, str, bytes]]) -> dict[str, tuple[int, float]]:
    """Status and lag of each request (name, method, path, content type, body)."""
    found = {}
    config = load_config("tiny", [f"serving.store={tmp_path}/store", "serving.rollout.poll_s=0"])
    async with running_service(config) as service:
        for name, method, path, kind, body in requests:
            lag = Lag()
            task = asyncio.create_task(lag.watch())
            await asyncio.sleep(0.01)
            answer = await service.client.request(method, path, content=body, headers={"Content-Type": kind})
            await asyncio.sleep(0.01)
            task.cancel()
            found[f"{name} to {method} {path}"] = answer.status_code, lag.longest_s
    return found


def refused_quickly(found: dict[str, tuple[int, float]]) -> None:
    assert {name: status for name, (status, _) in found.items() if status not in (400, 404, 413)} == {}
    slow = {name: f"{seconds:.2f} s" for name, (_, seconds) in found.items() if seconds > LIMIT_S}
    assert slow == {}, "the event loop was held up"


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_no_json_holds_up_the_event_loop(tmp_path: Path, name: str) -> None:
    body = HOSTILE_JSON[name]
    requests = [(name, *route, JSON, body) for route in (*TEXT_ROUTES, *LARGE_ROUTES)]
    refused_quickly(asyncio.run(lags(tmp_path, requests)))


@pytest.mark.parametrize("name", HOSTILE_FORMS)
def test_no_form_holds_up_the_event_loop(tmp_path: Path, name: str) -> None:
    requests = [(name, *route, FORM, HOSTILE_FORMS[name]) for route in FORM_ROUTES]
    refused_quickly(asyncio.run(lags(tmp_path, requests)))


def test_a_body_of_another_kind_is_limited_too(tmp_path: Path) -> None:
    kinds = ("text/plain", "application/x-www-form-urlencoded", "", "application/vnd.api+json")
    body = HOSTILE_JSON["unknown keys"]
    paths = [path for method, path in (*TEXT_ROUTES, *LARGE_ROUTES[:2], *FORM_ROUTES) if method == "POST"]
    requests = [("unknown keys", "POST", path, kind, body) for kind in kinds for path in paths]
    refused_quickly(asyncio.run(lags(tmp_path, requests)))


@pytest.mark.parametrize(("number", "param"), [(1000, "prompt"), (10_000, "prompt")])
def test_the_cast_of_many_mentions_is_read_once(
    tmp_path: Path, number: int, param: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []
    cast = CharacterService.cast

    async def watched_cast(self: CharacterService, owner: str = "") -> Any:
        looked_up.append(owner)
        return await cast(self, owner)

    monkeypatch.setattr(CharacterService, "cast", watched_cast)
    prompt = " ".join(f"@{index:x}" for index in range(number))

    async def ask() -> tuple[int, Any]:
        config = load_config("tiny", [f"serving.store={tmp_path}/store", "serving.rollout.poll_s=0"])
        async with running_service(config) as service:
            with watched() as lag:
                answer = await service.draw(prompt[:4000] if number == 1000 else prompt)
            assert lag.longest_s < LIMIT_S
            return answer.status_code, answer.json()["error"]

    status, error = asyncio.run(ask())
    assert (status, error["param"]) == (400, param)
    assert looked_up == ([""] if number == 1000 else []), "a prompt that is too long is refused first"


def test_one_unknown_field_of_many_is_named(tmp_path: Path) -> None:
    async def ask() -> Any:
        config = load_config("tiny", [f"serving.store={tmp_path}/store", "serving.rollout.poll_s=0"])
        async with running_service(config) as service:
            return (await service.draw(**{f"key {index}": index for index in range(1000)})).json()["error"]

    assert asyncio.run(ask()) == {
        "message": "key 0: Extra inputs are not permitted",
        "type": "invalid_request_error",
        "param": "key 0",
        "code": "extra_forbidden",
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"prompt": "[[[[[[[[,,,,,,,,,,,,"}',
        b'{"prompt": "\\"[[[[[[[[[", "n": 2}',
        b'{"prompt": "\\\\", "characters": [{"id": "a"}]}',
        b'{"unfinished": "[[[[[[[[[[,,,,,,',
        b"]]]]]][[[",
    ],
)
def test_what_is_within_strings_is_no_structure(body: bytes) -> None:
    check_structure(body, max_values=6, max_depth=4)


@pytest.mark.parametrize("body", [b"[[[[[", b'{"a":{"b":[{"c":[', b'["\\"",[[[[]]]]]', b"1,2,3,4,5,6,7,8"])
def test_what_is_beyond_the_limits_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        check_structure(body, max_values=6, max_depth=4)
    assert refused.value.code == "too_complex"
