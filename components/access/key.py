"""An API key: its owner, scopes and limits.

A key is ``rc-<id>-<secret>``: the id is public, the secret has 192 random bits. Only the SHA-256 of a key is stored; a
random secret of this length needs neither salt nor a slow hash.
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
    """Permissions of a key. ``admin`` includes all others, for the characters and jobs of its
    owner, and opens the admin API, which reaches all owners."""

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
    """Limits of a key; None is unlimited."""

    requests_per_minute: int | None = None
    #: Sum of width x height x steps over all images of a day (UTC).
    pixel_steps_per_day: int | None = None


@dataclass(frozen=True)
class ApiKey:
    """A stored key. Times are seconds since 1970."""

    id: str
    #: Owner of the characters and jobs that the key gives access to.
    owner: str
    name: str
    scopes: frozenset[Scope]
    limits: KeyLimits
    #: SHA-256 of the key, in hex.
    digest: str = field(repr=False)
    created: float
    expires: float | None = None
    revoked: float | None = None

    def is_valid(self, now: float) -> bool:
        return self.revoked is None and (self.expires is None or now < self.expires)

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


def new_key() -> tuple[str, str, str]:
    """A new id, the key itself, which is shown once, and the digest to store."""
    identifier = secrets.token_hex(8)
    text = f"rc-{identifier}-{secrets.token_hex(24)}"
    return identifier, text, _digest(text)


def key_id(text: str) -> str | None:
    """The id in the text of a key; None if the text has not the form of a key."""
    found = _FORM.fullmatch(text)
    return found and found[1]


def is_key(text: str, digest: str | None) -> bool:
    """Whether ``text`` is the key of ``digest``, in constant time; False for a digest of None."""
    same = hmac.compare_digest(_digest(text), digest or _digest(""))
    return same and digest is not None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
