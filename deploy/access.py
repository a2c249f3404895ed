"""Who sends a request."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request


@dataclass(frozen=True)
class Caller:
    """Who sends a request. Characters and jobs belong to their `owner`, and nobody else sees them."""

    owner: str = ""


def caller(request: Request) -> Caller:
    """The caller that was let in; where no keys are asked for, it is everybody's owner ``""``."""
    found = getattr(request.state, "caller", None)
    return found if isinstance(found, Caller) else Caller()
