"""Signatures of webhooks by https://www.standardwebhooks.com, for which receivers find libraries."""

from __future__ import annotations

import base64
import hashlib
import hmac

from components.errors import ConfigError

_PREFIX = "whsec_"


def read_secret(text: str) -> bytes:
    """The key in ``whsec_<base64>``.

    Raises:
        ConfigError: the text has another form, or the key is shorter than 24 bytes.
    """
    try:
        key = base64.b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except ValueError:
        key = b""
    if len(key) < 24:
        raise ConfigError("serving.jobs.webhook_secret: the file must hold whsec_ and at least 24 bytes in base64")
    return key


def signed_headers(secret: bytes, identifier: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a webhook with ``body``; ``timestamp`` is in seconds since 1970."""
    signed = f"{identifier}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": identifier, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}
