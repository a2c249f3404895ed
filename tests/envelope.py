"""The envelope that every error of the service comes in."""

from __future__ import annotations

from typing import Any


def error(answer: Any) -> dict[str, Any]:
    """What the envelope of an answer holds, if it is one."""
    body = answer.json()
    assert list(body) == ["error"] and set(body["error"]) == {"message", "type", "param", "code"}
    return dict(body["error"])
