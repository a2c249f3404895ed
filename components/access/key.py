"""An API key: who holds it, what it may do and how much.

A key is ``rc-<id>-<secret>``: the id is public and names the key, the secret is 192 random bits. Only its SHA-256 is
kept; a secret that nobody can guess needs no salt and no slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum

_FORM = re.compile(r"rc-([0-9a-f]{16})-[0-9a-f]{48}")


class Scope(StrEnum):
    """What a key may do. ``admin`` may do everything, though only with its own owner's characters and jobs."""

    CHARACTERS_READ = "characters:read"
    CHARACTERS_WRITE = "characters:write"
    IMAGES = "images"
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    STORIES_READ = "stories:read"
    STORIES_WRITE = "stories:write"
    METRICS = "metrics"
    ADMIN = "admin"


@dataclass(frozen=True)
class KeyLimits:
    """How much a key may do; none is as much as it likes."""

    requests_per_minute: int | None = None
    #: Width x height x steps of all pictures of a day (UTC).
    pixel_steps_per_day: int | None = None


@dataclass(frozen=True)
class ApiKey:
    """One row. Times are seconds since 1970."""

    id: str
    #: Whose characters and jobs it reaches.
    owner: str
    name: str
    scopes: frozenset[Scope]
    limits: KeyLimits
    #: SHA-256 of the key, in hex.
    digest: str = field(repr=False)
    created: float
    expires: float | None = None
    revoked: float | None = None

    def good(self, now: float) -> bool:
        return self.revoked is None and (self.expires is None or now < self.expires)

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


def new_key() -> tuple[str, str, str]:
    """An id, the key that goes to its holder and to nobody else, and the digest to keep."""
    identifier = secrets.token_hex(8)
    text = f"rc-{identifier}-{secrets.token_hex(24)}"
    return identifier, text, _digest(text)


def key_id(text: str) -> str | None:
    """The id in what claims to be a key; None if it does not look like one."""
    found = _FORM.fullmatch(text)
    return found and found[1]


def is_key(text: str, digest: str | None) -> bool:
    """Whether ``text`` is the key of ``digest``; with none it is not, and that takes no less time to say."""
    same = hmac.compare_digest(_digest(text), digest or _digest(""))
    return same and digest is not None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
