"""Where the webhooks of an owner may go, and the secrets that sign them."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import sqlalchemy as sa

from components.config.serving import ORIGIN_PATTERN
from components.errors import ConfigError, RealCustomError

_SECRET_BYTES = 32
_metadata = sa.MetaData()
#: Secrets have the form ``whsec_<base64>``. The previous one signs too, until it is retired.
webhook_settings = sa.Table(
    "webhook_settings",
    _metadata,
    sa.Column("owner", sa.String(200), primary_key=True),
    sa.Column("origins", sa.JSON, nullable=False),
    sa.Column("secret", sa.String(100), nullable=False),
    sa.Column("previous_secret", sa.String(100)),
)


class WebhookRefusedError(RealCustomError):
    """Webhooks of this owner may not go to the origin of the URL."""


@dataclass(frozen=True)
class WebhookSettings:
    """``origins`` in addition to those of all owners; ``secrets``, newest first, in place of the one of all owners."""

    owner: str
    origins: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


class WebhookSettingsStore:
    """Settings by owner; an owner without settings has empty ones.

    Args:
        engine: of a database that has the table `webhook_settings`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def get(self, owner: str) -> WebhookSettings:
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(webhook_settings).where(_is(owner))).mappings().first()
        return WebhookSettings(owner) if row is None else _read(row)

    def all(self) -> list[WebhookSettings]:
        query = sa.select(webhook_settings).order_by(webhook_settings.c.owner)
        with self._engine.connect() as connection:
            return [_read(row) for row in connection.execute(query).mappings()]

    def allow(self, owner: str, origins: Iterable[str]) -> str | None:
        """Add ``origins``; the first call for an owner makes a secret and returns it.

        Raises:
            ConfigError: an origin is not ``https://host`` or ``https://host:port``.
        """
        added = [_checked(origin) for origin in origins]
        with self._engine.begin() as connection:
            row = _locked(connection, owner)
            if row is None:
                secret = _new_secret()
                values = {"owner": owner, "origins": sorted(set(added)), "secret": secret}
                connection.execute(webhook_settings.insert().values(values))
                return secret
            allowed = sorted({*row["origins"], *added})
            connection.execute(webhook_settings.update().where(_is(owner)).values(origins=allowed))
            return None

    def disallow(self, owner: str, origins: Iterable[str]) -> None:
        """Remove ``origins``; webhooks that wait for one of them fail."""
        removed = {_checked(origin) for origin in origins}
        with self._engine.begin() as connection:
            row = _existing(connection, owner)
            left = [origin for origin in row["origins"] if origin not in removed]
            connection.execute(webhook_settings.update().where(_is(owner)).values(origins=left))

    def rotate(self, owner: str) -> str:
        """Make a new secret and return it. The present one signs beside it until `retire`.

        Raises:
            ConfigError: the owner has no settings, or a previous secret that is not retired yet.
        """
        secret = _new_secret()
        with self._engine.begin() as connection:
            row = _existing(connection, owner)
            if row["previous_secret"] is not None:
                raise ConfigError("owner: two secrets sign already; retire the previous one first")
            changed = {"secret": secret, "previous_secret": row["secret"]}
            connection.execute(webhook_settings.update().where(_is(owner)).values(changed))
        return secret

    def retire(self, owner: str) -> None:
        """Sign with the newest secret only."""
        with self._engine.begin() as connection:
            _existing(connection, owner)
            connection.execute(webhook_settings.update().where(_is(owner)).values(previous_secret=None))


def origin_of(url: str) -> str | None:
    """``scheme://host[:port]`` of a URL in lower case; None for a malformed one."""
    try:
        parts = urlsplit(url)
    except ValueError:  # malformed IPv6 address
        return None
    return f"{parts.scheme}://{parts.netloc}".lower()


def origin_allowed(url: str, origins: Iterable[str]) -> bool:
    """Whether the scheme, host and port of ``url`` equal one of ``origins``."""
    return origin_of(url) in {origin.lower() for origin in origins}


def _checked(origin: str) -> str:
    if not re.fullmatch(ORIGIN_PATTERN, origin):
        raise ConfigError(f"origin: {origin!r} is not https://host or https://host:port")
    return origin.lower()


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def _is(owner: str) -> sa.ColumnElement[bool]:
    return webhook_settings.c.owner == owner


def _locked(connection: sa.Connection, owner: str) -> sa.RowMapping | None:
    return connection.execute(sa.select(webhook_settings).where(_is(owner)).with_for_update()).mappings().first()


def _existing(connection: sa.Connection, owner: str) -> sa.RowMapping:
    row = _locked(connection, owner)
    if row is None:
        raise ConfigError("owner: has no webhook settings; `realcustom webhook list` shows who has")
    return row


def _read(row: sa.RowMapping) -> WebhookSettings:
    signing = tuple(filter(None, (row["secret"], row["previous_secret"])))
    return WebhookSettings(row["owner"], tuple(row["origins"]), signing)
