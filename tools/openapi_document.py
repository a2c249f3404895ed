"""The interface's OpenAPI document, which the studio's types are made of: ``python -m tools.openapi_document``."""

from __future__ import annotations

import json

from components.config import load_config
from tools.api_page import interface


def document() -> str:
    """The JSON of the document of a service that requires API keys."""
    found = interface(load_config("tiny", ["serving.access.keys=required"]))
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(document(), end="")
