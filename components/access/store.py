"""The tables of API keys, of their requests, spending and usage, in the service's database.

Designed for thousands of keys: a gateway reads all valid ones at once, every few seconds, so that a request needs no
database query, and an unknown key is refused in the same time as a wrong one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from components.access.key import ApiKey, KeyLimits, Scope, new_key
from components.errors import ConfigError, NotFoundError

_OWNER = r"[A-Za-z0-9._@-]{0,200}"
_NAME_LENGTH = 100
_metadata = sa.MetaData()
api_keys = sa.Table(
    "api_keys",
    _metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("name", sa.String(_NAME_LENGTH), nullable=False),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("requests_per_minute", sa.Integer),
    sa.Column("pixel_steps_per_day", sa.BigInteger),
    sa.Column("created", sa.Float(53), nullable=False),
    sa.Column("expires", sa.Float(53)),
    sa.Column("revoked", sa.Float(53)),
)
#: Pixel-steps that each key has spent on each day (UTC, counted from 1970).
spending = sa.Table(
    "api_key_spending",
    _metadata,
    sa.Column("key", sa.String(16), primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True),
    sa.Column("spent", sa.BigInteger, nullable=False),
)
#: The limit that each key's requests were counted by last, and when it may send a whole minute's requests again
#: (seconds since 1970).
request_rates = sa.Table(
    "api_key_rates",
    _metadata,
    sa.Column("key", sa.String(16), primary_key=True),
    sa.Column("per_minute", sa.Integer, nullable=False),
    sa.Column("full_at", sa.Float(53), nullable=False),
)
#: Charges of requests with an idempotency key. ``uses`` counts the requests with the key; ``open`` those of them that
#: were delivered or still may be.
request_charges = sa.Table(
    "api_key_request_charges",
    _metadata,
    sa.Column("key", sa.String(16), primary_key=True),
    sa.Column("request", sa.String(255), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("day", sa.Integer, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("open", sa.Integer, nullable=False),
    sa.Column("uses", sa.Integer, nullable=False),
    sa.Column("created", sa.Float(53), nullable=False, index=True),
)
#: What each key of an owner has used on each day (UTC, counted from 1970); the key is empty if API keys are off.
usage = sa.Table(
    "api_usage",
    _metadata,
    sa.Column("owner", sa.String(200), primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True),
    sa.Column("key", sa.String(16), primary_key=True),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("pixel_steps", sa.BigInteger, nullable=False),
    sa.Column("images", sa.BigInteger, nullable=False),
)
#: Who did what; see `components.access.audit`. Rows are added and expire, and nothing changes them.
audit_log = sa.Table(
    "audit_log",
    _metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("at", sa.Float(53), nullable=False, index=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("key", sa.String(16), nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("request", sa.String(128), nullable=False),
    sa.Index("audit_log_by_owner", "owner", "id"),
)
TABLES = (api_keys, spending, request_rates, request_charges, usage, audit_log)


class KeyNotFoundError(NotFoundError):
    """There is no API key of this id."""


class KeyStore:
    """Create, list and revoke keys.

    Args:
        engine: of a database that has `TABLES`.
        clock: seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._clock = engine, clock

    def create(
        self,
        owner: str,
        name: str,
        scopes: Iterable[Scope],
        limits: KeyLimits | None = None,
        lifetime_s: float | None = None,
    ) -> tuple[ApiKey, str]:
        """Create a key; returns it and its text, which is not stored and cannot be read again.

        Raises:
            ConfigError: the owner, the name or the scopes are invalid.
        """
        check_owner(owner)
        if not 0 < len(name) <= _NAME_LENGTH:
            raise ConfigError(f"name: 1 to {_NAME_LENGTH} characters that distinguish the key from others")
        identifier, text, digest = new_key()
        now = self._clock()
        key = ApiKey(
            id=identifier,
            owner=owner,
            name=name,
            scopes=frozenset(scopes),
            limits=limits or KeyLimits(),
            digest=digest,
            created=now,
            expires=None if lifetime_s is None else now + lifetime_s,
        )
        if not key.scopes:
            raise ConfigError("scopes: name at least one of " + ", ".join(Scope))
        row = vars(key) | vars(key.limits) | {"scopes": sorted(key.scopes)}
        del row["limits"]
        with self._engine.begin() as connection:
            connection.execute(api_keys.insert().values(**row))
        return key, text

    def all(self) -> list[ApiKey]:
        """All keys, oldest first, including revoked and expired ones."""
        return self._read(sa.select(api_keys))

    def valid(self) -> list[ApiKey]:
        """Keys that are not revoked and have not expired."""
        alive = api_keys.c.expires.is_(None) | (api_keys.c.expires > self._clock())
        return self._read(sa.select(api_keys).where(api_keys.c.revoked.is_(None), alive))

    def revoke(self, identifier: str) -> None:
        """Revoke a key; revoking it again changes nothing.

        Raises:
            KeyNotFoundError: there is no such key.
        """
        found = api_keys.c.id == identifier
        with self._engine.begin() as connection:
            if connection.execute(sa.select(api_keys.c.id).where(found)).first() is None:
                raise KeyNotFoundError("there is no key of this id; `realcustom key list` shows them")
            ended = api_keys.update().where(found, api_keys.c.revoked.is_(None))
            connection.execute(ended.values(revoked=self._clock()))

    def change(self, identifier: str, values: Mapping[str, Any]) -> ApiKey:
        """Change ``scopes``, ``requests_per_minute`` or ``pixel_steps_per_day``; what is not named stays.

        Raises:
            KeyNotFoundError: there is no such key.
            ConfigError: there would be no scope.
        """
        changed = dict(values)
        if "scopes" in changed:
            changed["scopes"] = sorted(changed["scopes"] or ())
            if not changed["scopes"]:
                raise ConfigError("scopes: name at least one of " + ", ".join(Scope))
        with self._engine.begin() as connection:
            if changed:
                connection.execute(api_keys.update().where(api_keys.c.id == identifier).values(changed))
        for key in self._read(sa.select(api_keys).where(api_keys.c.id == identifier)):
            return key
        raise KeyNotFoundError("there is no key of this id; `realcustom key list` shows them")

    def _read(self, query: sa.Select[tuple[object, ...]]) -> list[ApiKey]:
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(api_keys.c.created, api_keys.c.id)).mappings().all()
        return [_key(row) for row in rows]


def check_owner(owner: str) -> None:
    """Raise ConfigError if ``owner`` has characters that names of owners do not have."""
    if not re.fullmatch(_OWNER, owner):
        raise ConfigError("owner: up to 200 letters, digits and ._@-; nothing else")


def _key(row: sa.RowMapping) -> ApiKey:
    same = ("id", "owner", "name", "digest", "created", "expires", "revoked")
    limits = KeyLimits(row["requests_per_minute"], row["pixel_steps_per_day"])
    # Unknown scopes of a later version are ignored.
    scopes = frozenset(Scope(scope) for scope in row["scopes"] if scope in set(Scope))
    return ApiKey(scopes=scopes, limits=limits, **{name: row[name] for name in same})
