"""`docs/api.md` says what the interface is."""

from __future__ import annotations

from typing import Any

import pytest

from components.config import PACKAGE_ROOT, load_config
from deploy.api.authentication import PUBLIC_PATHS
from tools.api_page import interface, page


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return interface(load_config("tiny", ["serving.access.keys=required"]))


def test_the_page_is_up_to_date(document: dict[str, Any]) -> None:
    written = (PACKAGE_ROOT / "docs" / "api.md").read_text()
    assert written == page(document), "run `python -m tools.api_page > docs/api.md`"


def test_the_document_is_sound(document: dict[str, Any]) -> None:
    """References lead somewhere, and errors are described as they are."""
    schemas = document["components"]["schemas"]

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*(references(each) for each in node.values()))
        return set().union(*(references(each) for each in node)) if isinstance(node, list) else set()

    assert references(document) <= {f"#/components/schemas/{name}" for name in schemas}
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)
    for operations in document["paths"].values():
        for operation in operations.values():
            assert "422" not in operation["responses"]
            assert "ErrorResponse" in str(operation["responses"]["default"])


def test_refusals_are_described_where_they_can_be(document: dict[str, Any]) -> None:
    """With keys, all but the two open routes may refuse one; without them, none, but there may be too much to do."""

    def refusing(found: dict[str, Any], status: str) -> set[str]:
        return {
            path
            for path, operations in found["paths"].items()
            if status in next(iter(operations.values()))["responses"]
        }

    paths = set(document["paths"])
    assert refusing(document, "401") == refusing(document, "403") == paths - PUBLIC_PATHS
    assert refusing(document, "429") == refusing(document, "503") == paths - PUBLIC_PATHS
    open_to_all = interface(load_config("tiny"))
    assert refusing(open_to_all, "401") == set() and refusing(open_to_all, "429") == paths - PUBLIC_PATHS - {"/metrics"}


def test_every_operation_and_schema_is_on_the_page(document: dict[str, Any]) -> None:
    shown = page(document)
    for path, operations in document["paths"].items():
        assert all(f"### {method.upper()} {path}\n" in shown for method in operations)
    assert all(f"### {name}\n" in shown for name in document["components"]["schemas"])
