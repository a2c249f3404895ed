"""The studio's page: built files, served below ``/studio/`` under a policy that lets nothing else in."""

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
#: Where the build leaves the page.
DIST = PACKAGE_ROOT / "studio" / "dist"
#: Scripts, fonts and requests of this origin alone. Component libraries set style attributes, which no hash can allow.
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
#: What the build names after its content, so that it never changes.
_HASHED = "assets/"
_INDEX = "index.html"
#: Types that compress.
_TEXT = ("text/", "application/javascript", "application/json", "image/svg+xml", "application/manifest+json")
#: As browsers want them, whatever this machine's own table says.
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_TYPES |= {".html": "text/html; charset=utf-8", ".woff2": "font/woff2", ".webmanifest": "application/manifest+json"}


@dataclass(frozen=True)
class _File:
    data: bytes
    #: Compressed, where that pays.
    packed: bytes | None
    kind: str
    tag: str


class StudioFiles:
    """The built page in memory: about a megabyte, and no path of a request ever reaches the disk."""

    def __init__(self, folder: Path) -> None:
        self._files = {
            path.relative_to(folder).as_posix(): _read(path) for path in sorted(folder.rglob("*")) if path.is_file()
        }
        if _INDEX not in self._files:
            log.warning("the studio's page is not built: run `make studio`; the service runs without it")

    def answer(self, path: str, request: Request) -> Response:
        """A file; for the page's own addresses, which have no ending, its index.

        Raises:
            ApiError: there is no such file, or the page is not built.
        """
        name = path if path in self._files or "." in path.rpartition("/")[2] else _INDEX
        file = self._files.get(name)
        if file is None:
            missing = _INDEX not in self._files
            told = "the studio's page is not built here: run `make studio`" if missing else "there is no such file"
            raise ApiError(404, told, code="studio_not_built" if missing else "not_found")
        lasting = "public, max-age=31536000, immutable" if name.startswith(_HASHED) else "no-cache"
        headers = _HEADERS | {"ETag": file.tag, "Cache-Control": lasting}
        if file.tag in [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        if file.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            return Response(file.packed, media_type=file.kind, headers=headers | {"Content-Encoding": "gzip"})
        return Response(file.data, media_type=file.kind, headers=headers)


def require_built(folder: Path = DIST) -> None:
    """Raise ConfigError if the page is not built."""
    if not (folder / _INDEX).is_file():
        raise ConfigError("the studio's page is not built here: run `make studio`")


def studio_routes(folder: Path = DIST) -> APIRouter:
    """``/studio/``, and ``/`` for browsers."""
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
    packed = gzip.compress(data, mtime=0) if kind.startswith(_TEXT) else None
    smaller = packed if packed is not None and len(packed) < len(data) else None
    return _File(data, smaller, kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
