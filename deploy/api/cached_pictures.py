"""Image responses with HTTP caching."""

from __future__ import annotations

from fastapi import Request, Response


def cached(request: Request, tag: str, data: bytes, kind: str, immutable: bool = True) -> Response:
    """A response with an image and its ETag, or 304 if the client has it.

    Args:
        tag: changes whenever ``data`` does.
        kind: media type.
        immutable: the image at this URL never changes; otherwise clients revalidate it on every use.
    """
    return not_modified(request, tag, immutable) or Response(data, media_type=kind, headers=_headers(tag, immutable))


def not_modified(request: Request, tag: str, immutable: bool = True) -> Response | None:
    """304 if the client has the image, so that it need not be read or made."""
    headers = _headers(tag, immutable)
    held = [each.strip() for each in request.headers.get("if-none-match", "").split(",")]
    return Response(status_code=304, headers=headers) if headers["ETag"] in held else None


def _headers(tag: str, immutable: bool) -> dict[str, str]:
    return {
        "ETag": f'"{tag}"',
        "Cache-Control": "private, max-age=31536000, immutable" if immutable else "private, no-cache",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Authorization",
    }
