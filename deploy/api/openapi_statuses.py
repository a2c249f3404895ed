"""Which error statuses each operation may return, for the OpenAPI document.

They are described here and decided elsewhere: the status of an exception in `deploy.interfaces.errors`.

Validation errors are 400, never 422. The statuses of keys and of overload (401, 403, 429, 503) are in
`deploy.api.openapi`. 500 may follow any request and is covered by the ``default`` response.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BAD_REQUEST = "A field is missing, unknown, or has a wrong value; or an image cannot be read or is refused"
NOT_FOUND = "The resource, or one that the request names, does not exist or belongs to another owner"
TOO_LARGE = "The body has more bytes than this operation takes; with pictures `serving.max_upload_bytes`"
NOT_READY = "The service is not ready; the message names the parts that are not"

#: Operations without an id in their path whose query or body names another resource.
_NAMES_RESOURCES = {
    ("get", "/v1/characters"),
    ("post", "/v1/characters"),
    ("post", "/v1/images/generations"),
    ("post", "/v1/images/edits"),
    ("post", "/v1/jobs"),
}
_CONFLICTS = {
    ("post", "/v1/characters/{identifier}/pictures"): "The character would have more than four images",
    ("delete", "/v1/characters/{identifier}/pictures/{picture}"): "It is the character's only image",
    ("post", "/v1/jobs"): "The `Idempotency-Key` was used for another request",
}


def error_statuses(method: str, path: str, operation: Mapping[str, Any]) -> dict[str, str]:
    """Status to description, for the statuses that follow from an operation's parameters and body."""
    body = "requestBody" in operation
    statuses: dict[str, str] = {}
    if body or any(each["in"] in ("query", "header") for each in operation.get("parameters", ())):
        statuses["400"] = BAD_REQUEST
    if "{" in path or (method, path) in _NAMES_RESOURCES:
        statuses["404"] = NOT_FOUND
    if (method, path) in _CONFLICTS:
        statuses["409"] = _CONFLICTS[method, path]
    if body:
        statuses["413"] = TOO_LARGE
    if path == "/readyz":
        statuses["503"] = NOT_READY
    return statuses
