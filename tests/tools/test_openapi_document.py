"""The document that the studio's types are made of is the interface's."""

from __future__ import annotations

from components.config import PACKAGE_ROOT
from tools.openapi_document import document


def test_the_studio_has_todays_document() -> None:
    kept = (PACKAGE_ROOT / "studio/openapi.json").read_text()
    assert kept == document(), "python -m tools.openapi_document > studio/openapi.json, then npm run types in studio/"
