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
    control = "private, max-age=31536000, immutable" if immutable else "private, no-cache"
    headers = {
        "ETag": f'"{tag}"',
        "Cache-Control": control,
        "X-Content-Type-Options": "nosniff",
        "Vary": "Authorization",
    }
    if headers["ETag"] in [each.strip() for each in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)
