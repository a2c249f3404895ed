"""ASGI middleware that authenticates requests by API key and authorizes them by the key's scopes."""

from __future__ import annotations

import ipaddress
import math

from fastapi import params
from fastapi.security import HTTPBearer
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from components.access import key as keys
from components.access.limits import UsageLedger
from components.access.rate_limits import RateDecision, RateRequest
from components.access.store import KeyStore
from components.config import Config
from components.database import open_service_database
from components.errors import ConfigError, RealCustomError
from components.logs import amend
from deploy.api.error_responses import ApiError, error_response
from deploy.api.key_cache import KeyCache
from deploy.api.quotas import Caller
from deploy.api.rate_limit_headers import RateLimitHeaders
from deploy.api.request_rates import request_rates

#: Paths that need no key: health checks.
PUBLIC_PATHS = frozenset({"/healthz", "/readyz"})
#: The studio's page: static files, the same for everybody. The page asks for a key itself.
_STUDIO_PATHS = frozenset({"/", "/studio"})
#: Path prefix -> the scopes for reading and for changing; None accepts any key. Other paths need ``admin``.
REQUIRED_SCOPES: dict[str, tuple[keys.Scope | None, keys.Scope | None]] = {
    "/v1/characters/candidates": (keys.Scope.IMAGES, keys.Scope.IMAGES),
    "/v1/characters": (keys.Scope.CHARACTERS_READ, keys.Scope.CHARACTERS_WRITE),
    "/v1/images": (keys.Scope.IMAGES, keys.Scope.IMAGES),
    "/v1/jobs": (keys.Scope.JOBS_READ, keys.Scope.JOBS_WRITE),
    "/v1/stories": (keys.Scope.STORIES_READ, keys.Scope.STORIES_WRITE),
    "/v1/history": (keys.Scope.STORIES_READ, keys.Scope.STORIES_WRITE),
    "/v1/models": (None, keys.Scope.ADMIN),
    "/v1/admin": (keys.Scope.ADMIN, keys.Scope.ADMIN),
    "/v1/usage": (None, keys.Scope.ADMIN),
    "/metrics": (keys.Scope.METRICS, keys.Scope.METRICS),
    "/openapi.json": (None, keys.Scope.ADMIN),
    "/docs": (None, keys.Scope.ADMIN),
    "/redoc": (None, keys.Scope.ADMIN),
}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def require_authentication(config: Config, host: str | None) -> None:
    """Refuse to listen on a network without API keys.

    Args:
        host: the address to listen on; None if it is unknown, which counts as a network.

    Raises:
        ConfigError: API keys are off, the host is not a loopback address, and ``serving.access.open_to_network`` is not
            set.
    """
    access = config.serving.access
    if access.keys == "required" or access.open_to_network or (host is not None and _is_loopback(host)):
        return
    where = "a Serve config file may listen anywhere" if host is None else f"{host} is open to the network"
    raise ConfigError(
        f"serving.access.keys is off, and {where}: set serving.access.keys=required and make keys with "
        "`realcustom key create`, or set serving.access.open_to_network=true if a proxy in front authenticates requests"
    )


def required_scope(method: str, path: str) -> keys.Scope | None:
    """The scope that a request needs; None if any key is accepted."""
    for prefix, (read, write) in REQUIRED_SCOPES.items():
        if path == prefix or path.startswith(f"{prefix}/"):
            return read if method in _SAFE_METHODS else write
    return keys.Scope.ADMIN


def is_public(path: str) -> bool:
    """Whether a path needs no key."""
    return path in PUBLIC_PATHS or path in _STUDIO_PATHS or path.startswith("/studio/")


def openapi_security(config: Config) -> list[params.Depends]:
    """Dependencies that document the key in the OpenAPI document; `AuthenticationMiddleware` checks it."""
    bearer = HTTPBearer(auto_error=False, description="A key: `realcustom key create`")
    return [params.Depends(bearer)] if config.serving.access.keys == "required" else []


class AuthenticationMiddleware:
    """ASGI middleware: sets ``request.state.caller``, or refuses the request before its body is read."""

    def __init__(self, app: ASGIApp, config: Config) -> None:
        self._app = app
        engine = open_service_database(config.serving)
        access = config.serving.access
        self._keys = KeyCache(KeyStore(engine), access.refresh_s, access.stale_s)
        self._usage, self._rates = UsageLedger(engine), request_rates(config.serving, engine)
        self._headers = RateLimitHeaders(self._usage)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose(code=1008)(scope, receive, send)
        elif scope["type"] == "http" and not is_public(_path(scope)):
            await self._http(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            key = await self._authenticate(_bearer_token(scope))
        except (ApiError, RealCustomError) as error:
            await error_response(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = Caller(key.owner, key, self._usage)
        amend(owner=key.owner, key=key.id)
        rate = await self._rate(key)
        send = self._with_limits(key, rate, scope["method"] not in _SAFE_METHODS, send)
        try:
            _check_rate(key, rate)
            _check_scope(key, scope)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _with_limits(self, key: keys.ApiKey, rate: RateDecision | None, changes: bool, send: Send) -> Send:
        """``send`` with the headers of the key's limits."""

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message["headers"]))
                headers.update(await self._headers.of(key, rate, changes))
                message = {**message, "headers": headers.raw}
            await send(message)

        return send_with_limits

    async def _rate(self, key: keys.ApiKey) -> RateDecision | None:
        """The decision by the key's requests a minute; None if it has no limit."""
        limit = key.limits.requests_per_minute
        return None if limit is None else await self._rates.acquire(RateRequest(key.id, limit))

    async def _authenticate(self, token: str | None) -> keys.ApiKey:
        if token is None:
            message = "send a key as `Authorization: Bearer rc-…`"
            raise ApiError(401, message, code="invalid_api_key", headers=_challenge())
        key = await self._keys.find(token)
        if key is None:
            message, challenge = "this key is unknown, revoked or expired", _challenge('error="invalid_token"')
            raise ApiError(401, message, code="invalid_api_key", headers=challenge)
        return key


def _check_rate(key: keys.ApiKey, rate: RateDecision | None) -> None:
    if rate is not None and rate.wait_s:
        header = {"Retry-After": str(math.ceil(rate.wait_s))}
        message = f"this key has {key.limits.requests_per_minute} requests a minute"
        raise ApiError(429, message, code="rate_limit_exceeded", headers=header)


def _check_scope(key: keys.ApiKey, scope: Scope) -> None:
    required = required_scope(scope["method"], _path(scope))
    if required is not None and not key.allows(required):
        challenge = _challenge(f'error="insufficient_scope", scope="{required}"')
        raise ApiError(403, f"this needs a key with the scope {required}", code="missing_scope", headers=challenge)


def _path(scope: Scope) -> str:
    """The path as the routes match it, without the ``root_path`` of a proxy."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _bearer_token(scope: Scope) -> str | None:
    """The token of the Authorization header, if there is one."""
    for name, value in scope["headers"]:
        kind, _, token = value.decode("latin-1").partition(" ")
        if name == b"authorization" and kind.lower() == "bearer":
            return token.strip()
    return None


def _challenge(*parameters: str) -> dict[str, str]:
    return {"WWW-Authenticate": "Bearer " + ", ".join(['realm="realcustom"', *parameters])}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a host name
        return host == "localhost"
