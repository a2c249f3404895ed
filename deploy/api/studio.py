"""Serves the built studio below ``/studio/``, with a strict Content-Security-Policy."""

from __future__ import annotations

import gzip
import hashlib
import logging
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from components.config import PACKAGE_ROOT
from components.errors import ConfigError
from deploy.api.error_responses import ApiError

log = logging.getLogger(__name__)
#: Output directory of the studio's build.
DIST = PACKAGE_ROOT / "studio" / "dist"
#: Allows scripts, fonts and requests of this origin only. Component libraries set style attributes, which hashes do not
#: cover: inline styles are allowed.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}
#: Prefix of files that the build names after a hash of their content.
_HASHED = "assets/"
_INDEX = "index.html"
#: Media types that are compressed.
_TEXT = ("text/", "application/javascript", "application/json", "image/svg+xml", "application/manifest+json")
#: Media types by suffix, in place of the operating system's table.
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_TYPES |= {".html": "text/html; charset=utf-8", ".woff2": "font/woff2", ".webmanifest": "application/manifest+json"}


@dataclass(frozen=True)
class _File:
    data: bytes
    #: Compressed content; None if it is not smaller.
    gzipped: bytes | None
    kind: str
    tag: str


class StudioFiles:
    """The files of the built studio, held in memory (about 1 MB): paths of requests are never opened on disk."""

    def __init__(self, folder: Path) -> None:
        self._files = {
            path.relative_to(folder).as_posix(): _read(path) for path in sorted(folder.rglob("*")) if path.is_file()
        }
        if _INDEX not in self._files:
            log.warning("the studio's page is not built: run `make studio`; the service runs without it")

    def answer(self, path: str, request: Request) -> Response:
        """The response for a file; for a path without a suffix, a route of the single-page application, its index.

        Raises:
            ApiError: there is no such file, or the studio is not built.
        """
        name = path if path in self._files or "." in path.rpartition("/")[2] else _INDEX
        file = self._files.get(name)
        if file is None:
            missing = _INDEX not in self._files
            message = "the studio's page is not built here: run `make studio`" if missing else "there is no such file"
            raise ApiError(404, message, code="studio_not_built" if missing else "not_found")
        cache_control = "public, max-age=31536000, immutable" if name.startswith(_HASHED) else "no-cache"
        headers = _HEADERS | {"ETag": file.tag, "Cache-Control": cache_control}
        if file.tag in [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        if file.gzipped is not None and "gzip" in request.headers.get("accept-encoding", ""):
            return Response(file.gzipped, media_type=file.kind, headers=headers | {"Content-Encoding": "gzip"})
        return Response(file.data, media_type=file.kind, headers=headers)


def require_built(folder: Path = DIST) -> None:
    """Raise ConfigError if the page is not built."""
    if not (folder / _INDEX).is_file():
        raise ConfigError("the studio's page is not built here: run `make studio`")


def studio_routes(folder: Path = DIST) -> APIRouter:
    """The routes under ``/studio/``, and the redirect from ``/`` for browsers."""
    router, files = APIRouter(include_in_schema=False), StudioFiles(folder)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def root(request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            raise ApiError(404, "there is nothing here: the interface is below /v1, the studio at /studio/")
        return RedirectResponse("/studio/", status_code=307)

    @router.api_route("/studio", methods=["GET", "HEAD"])
    async def studio() -> Response:
        return RedirectResponse("/studio/", status_code=307)

    @router.api_route("/studio/{path:path}", methods=["GET", "HEAD"])
    async def file(path: str, request: Request) -> Response:
        return files.answer(path, request)

    return router


def _read(path: Path) -> _File:
    data = path.read_bytes()
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    gzipped = gzip.compress(data, mtime=0) if kind.startswith(_TEXT) else None
    smaller = gzipped if gzipped is not None and len(gzipped) < len(data) else None
    return _File(data, smaller, kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
