"""The door of the service: nobody comes in without a key that is good for what they want."""

from __future__ import annotations

import ipaddress
import math

from fastapi import params
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from components.access import key as keys
from components.access.limits import Rates, UsageLedger
from components.access.store import TABLES, KeyStore
from components.config import Config
from components.database import open_database
from components.errors import ConfigError, RealCustomError
from deploy.api.error_responses import ApiError, answer_to
from deploy.api.key_cache import KeyCache
from deploy.api.quotas import Caller

#: Paths that need no key: whoever starts and stops the service asks there how it is.
OPEN = frozenset({"/healthz", "/readyz"})
#: The studio's page, which asks for a key itself; files that are the same for everybody.
_PAGE = frozenset({"/", "/studio"})
#: What a path and all below it need, to read and to change; None is any key. Other paths need ``admin``.
NEEDS: dict[str, tuple[keys.Scope | None, keys.Scope | None]] = {
    "/v1/characters/candidates": (keys.Scope.IMAGES, keys.Scope.IMAGES),
    "/v1/characters": (keys.Scope.CHARACTERS_READ, keys.Scope.CHARACTERS_WRITE),
    "/v1/images": (keys.Scope.IMAGES, keys.Scope.IMAGES),
    "/v1/jobs": (keys.Scope.JOBS_READ, keys.Scope.JOBS_WRITE),
    "/v1/stories": (keys.Scope.STORIES_READ, keys.Scope.STORIES_WRITE),
    "/v1/history": (keys.Scope.STORIES_READ, keys.Scope.STORIES_WRITE),
    "/v1/models": (None, keys.Scope.ADMIN),
    "/metrics": (keys.Scope.METRICS, keys.Scope.METRICS),
    "/openapi.json": (None, keys.Scope.ADMIN),
    "/docs": (None, keys.Scope.ADMIN),
    "/redoc": (None, keys.Scope.ADMIN),
}
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def require_door(config: Config, host: str | None) -> None:
    """Refuse to listen beyond this machine without keys.

    Args:
        host: the address that is listened on; None where somebody else decides that.

    Raises:
        ConfigError: no keys are asked for, others can reach the port, and nobody has said that this is meant.
    """
    access = config.serving.access
    if access.keys == "required" or access.open_to_network or (host is not None and _loopback(host)):
        return
    where = "a Serve config file may listen anywhere" if host is None else f"{host} is open to the network"
    raise ConfigError(
        f"serving.access.keys is off, and {where}: set serving.access.keys=required and make keys with "
        "`realcustom key create`, or set serving.access.open_to_network=true if something in front asks who comes"
    )


def needed(method: str, path: str) -> keys.Scope | None:
    """The scope that a request needs; None if any key will do."""
    for section, (read, write) in NEEDS.items():
        if path == section or path.startswith(f"{section}/"):
            return read if method in _READING else write
    return keys.Scope.ADMIN


def is_open(path: str) -> bool:
    """Whether a path needs no key."""
    return path in OPEN or path in _PAGE or path.startswith("/studio/")


def documented(config: Config) -> list[params.Depends]:
    """What has the OpenAPI document say that a key is to be sent; it is `Authentication` that asks for it."""
    bearer = HTTPBearer(auto_error=False, description="A key: `realcustom key create`")
    return [params.Depends(bearer)] if config.serving.access.keys == "required" else []


class Authentication:
    """ASGI middleware: finds the `Caller` by their key, or refuses them before anything of theirs is read."""

    def __init__(self, app: ASGIApp, config: Config) -> None:
        self._app = app
        engine = open_database(config.serving.store, config.serving.database, TABLES)
        access = config.serving.access
        self._keyring = KeyCache(KeyStore(engine), access.refresh_s, access.stale_s)
        self._ledger, self._rates = UsageLedger(engine), Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose(code=1008)(scope, receive, send)
        elif scope["type"] == "http" and not is_open(_path(scope)):
            await self._http(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            found = await self._let_in(scope)
        except (ApiError, RealCustomError) as refused:
            await answer_to(refused)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = found
        await self._app(scope, receive, send)

    async def _let_in(self, scope: Scope) -> Caller:
        key = await self._known(_bearer(scope))
        self._count(key)
        wanted = needed(scope["method"], _path(scope))
        if wanted is not None and not key.allows(wanted):
            challenge = _challenge(f'error="insufficient_scope", scope="{wanted}"')
            raise ApiError(403, f"this needs a key with the scope {wanted}", code="missing_scope", headers=challenge)
        return Caller(key.owner, key, self._ledger)

    async def _known(self, sent: str | None) -> keys.ApiKey:
        if sent is None:
            message = "send a key as `Authorization: Bearer rc-…`"
            raise ApiError(401, message, code="invalid_api_key", headers=_challenge())
        key = await self._keyring.find(sent)
        if key is None:
            message, challenge = "this key is unknown, revoked or expired", _challenge('error="invalid_token"')
            raise ApiError(401, message, code="invalid_api_key", headers=challenge)
        return key

    def _count(self, key: keys.ApiKey) -> None:
        limit = key.limits.requests_per_minute
        wait_s = 0 if limit is None else self._rates.take(key.id, limit)
        if wait_s:
            header = {"Retry-After": str(math.ceil(wait_s))}
            raise ApiError(429, f"this key has {limit} requests a minute", code="rate_limit_exceeded", headers=header)


def _path(scope: Scope) -> str:
    """As the routes see it: without what a proxy has put before it."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _bearer(scope: Scope) -> str | None:
    """What was sent as a key, if anything was."""
    for name, value in scope["headers"]:
        kind, _, sent = value.decode("latin-1").partition(" ")
        if name == b"authorization" and kind.lower() == "bearer":
            return sent.strip()
    return None


def _challenge(*facts: str) -> dict[str, str]:
    return {"WWW-Authenticate": "Bearer " + ", ".join(['realm="realcustom"', *facts])}


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"
