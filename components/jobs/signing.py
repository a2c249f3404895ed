"""Signatures of webhooks by https://www.standardwebhooks.com, for which receivers find libraries."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from components.errors import ConfigError

_PREFIX = "whsec_"


def read_secrets(text: str) -> tuple[bytes, ...]:
    """The keys in one or two lines of ``whsec_<base64>``: while a key is replaced, both sign.

    Raises:
        ConfigError: the text has another form, or a key is shorter than 24 bytes.
    """
    keys = tuple(map(decode_secret, text.split()))
    if not 1 <= len(keys) <= 2 or min(map(len, keys)) < 24:
        raise ConfigError(
            "serving.jobs.webhook_secret: the file must hold whsec_ and at least 24 bytes in base64, once or, while a "
            "key is replaced, on two lines"
        )
    return keys


def signed_headers(secrets: Sequence[bytes], identifier: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a webhook with ``body``, signed with each secret; ``timestamp`` is in seconds since 1970.

    Raises:
        ConfigError: there is no secret.
    """
    if not secrets:
        raise ConfigError("serving.jobs.webhook_secret: there is no key to sign with")
    signed = f"{identifier}.{timestamp}.".encode() + body
    digests = (base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode() for secret in secrets)
    signature = " ".join(f"v1,{digest}" for digest in digests)
    return {"webhook-id": identifier, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def decode_secret(text: str) -> bytes:
    """The key of ``whsec_<base64>``; an empty one if the text has another form."""
    try:
        return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except ValueError:
        return b""
