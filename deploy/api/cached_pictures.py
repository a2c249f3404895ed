"""Image responses with HTTP caching."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request, Response


async def send_cached(
    request: Request,
    tag: str,
    kind: str | Callable[[bytes], str],
    read: Callable[[], Awaitable[bytes]],
    check: Callable[[], Awaitable[object]] | None = None,
    immutable: bool = True,
) -> Response:
    """A response with an image and its ETag; 304, without reading or making the image, if the client has it.

    Args:
        tag: changes whenever the image does.
        kind: media type, or that of the content.
        check: called in place of ``read`` if the client has the image; raises if the caller may not read it any more.
        immutable: the image at this URL never changes; otherwise clients revalidate it on every use.
    """
    headers = {
        "ETag": f'"{tag}"',
        "Cache-Control": "private, max-age=31536000, immutable" if immutable else "private, no-cache",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Authorization",
    }
    if headers["ETag"] in [each.strip() for each in request.headers.get("if-none-match", "").split(",")]:
        if check is not None:
            await check()
        return Response(status_code=304, headers=headers)
    data = await read()
    return Response(data, media_type=kind if isinstance(kind, str) else kind(data), headers=headers)
