"""HTTP requests: authentication, retries, and the service's errors."""

from __future__ import annotations

import builtins
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx

from components.errors import RealCustomError

#: Status codes after which a retry may succeed.
_TRY_AGAIN = frozenset({429, 503})
#: Seconds before a retry: the maximum, and the default without a Retry-After header.
_LONGEST_S, _USUAL_S = 60.0, 2.0


class ServiceError(RealCustomError):
    """The service refused a request, or cannot be reached.

    ``status`` is the HTTP status, 0 without a response; ``param`` is the invalid field, and ``code`` the kind of error.
    """

    def __init__(self, message: str, status: int = 0, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


class Event(NamedTuple):
    """A Server-Sent Event."""

    kind: str
    data: dict[str, Any]
    id: str | None


class Transport:
    """Sends requests to one service.

    Args:
        retries: how often a request is repeated after status 429 or 503.
        pause: waits for a number of seconds; `time.sleep` by default.
        http: the HTTP client; by default a new one.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        timeout_s: float = 600,
        retries: int = 5,
        pause: Callable[[float], None] = time.sleep,
        http: httpx.Client | None = None,
    ) -> None:
        self._retries, self._pause = retries, pause
        self._http = http or httpx.Client(base_url=base_url, timeout=httpx.Timeout(timeout_s, connect=10))
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}

    def close(self) -> None:
        self._http.close()

    def json(self, method: str, path: str, headers: Mapping[str, str] | None = None, **content: Any) -> dict[str, Any]:
        """Send a request and return the JSON of the response.

        Args:
            content: arguments of httpx: ``json``, ``data``, ``files``, ``params``.

        Raises:
            ServiceError: the request was refused, after all retries, or there was no response.
        """
        body: dict[str, Any] = self._answer(method, path, headers, content).json()
        return body

    def bytes(self, method: str, path: str, **content: Any) -> bytes:
        """The file that a request is answered with.

        Raises:
            ServiceError: as `json` raises it.
        """
        return self._answer(method, path, None, content).content

    def pieces(self, path: str, params: Mapping[str, str]) -> Iterator[builtins.bytes]:
        """The file that a request is answered with, piece by piece.

        Raises:
            ServiceError: see `json`.
        """
        with _reached(), self._http.stream("GET", path, params=params, headers=self._headers) as answer:
            if not answer.is_success:
                answer.read()
            _check(answer)
            yield from answer.iter_bytes()

    def events(self, path: str, last_id: str | None = None) -> Iterator[Event]:
        """The events of a stream, until it ends.

        Raises:
            ServiceError: see `json`.
        """
        headers = self._headers | ({} if last_id is None else {"Last-Event-ID": last_id})
        with _reached(), self._http.stream("GET", path, headers=headers) as answer:
            if not answer.is_success:
                answer.read()
            _check(answer)
            yield from _parsed(answer.iter_lines())

    def _answer(
        self, method: str, path: str, headers: Mapping[str, str] | None, content: Mapping[str, Any]
    ) -> httpx.Response:
        for left in reversed(range(self._retries + 1)):
            with _reached():
                answer = self._http.request(method, path, headers=self._headers | dict(headers or {}), **content)
            if not answer.is_success and left and _may_succeed(answer):
                self._pause(_pause_s(answer))
                continue
            break
        _check(answer)
        return answer


def _parsed(lines: Iterator[str]) -> Iterator[Event]:
    """Events of the lines of ``text/event-stream``."""
    kind, data, identifier = "message", list[str](), None
    for line in lines:
        if not line:
            if data:
                yield Event(kind, json.loads("\n".join(data)), identifier)
            kind, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            identifier = value


def _may_succeed(answer: httpx.Response) -> bool:
    return answer.status_code in _TRY_AGAIN and answer.headers.get("x-should-retry") != "false"


def _pause_s(answer: httpx.Response) -> float:
    try:
        asked = float(answer.headers["retry-after"])
    except (KeyError, ValueError):
        return _USUAL_S
    return min(max(asked, 0.0), _LONGEST_S)


def _check(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    try:
        error = answer.json()["error"]
        raise ServiceError(error["message"], answer.status_code, error.get("param"), error.get("code"))
    except (ValueError, KeyError, TypeError):  # no error envelope: the response comes from a proxy
        raise ServiceError(f"the service answered {answer.status_code}", answer.status_code) from None


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise ServiceError(f"the service cannot be reached: {str(error) or type(error).__name__}") from None
