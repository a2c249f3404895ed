"""Pictures that browsers keep."""

from __future__ import annotations

from fastapi import Request, Response


def cached(request: Request, tag: str, data: bytes, kind: str, lasting: bool = True) -> Response:
    """A picture that browsers keep: for ever where it never changes, otherwise as long as ``tag`` stays the same."""
    control = "private, max-age=31536000, immutable" if lasting else "private, no-cache"
    headers = {
        "ETag": f'"{tag}"',
        "Cache-Control": control,
        "X-Content-Type-Options": "nosniff",
        "Vary": "Authorization",
    }
    if headers["ETag"] in [each.strip() for each in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)
