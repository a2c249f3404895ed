"""`docs/reference/http.md` is the page that the interface has now."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from components.config import PACKAGE_ROOT, load_config
from deploy.api.authentication import PUBLIC_PATHS
from tools.api_page import interface, page


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return interface(load_config("tiny", ["serving.access.keys=required"]))


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
    assert refusing(document, "429") == paths - PUBLIC_PATHS
    assert refusing(document, "503") == paths - PUBLIC_PATHS | {"/readyz"}
    open_to_all = interface(load_config("tiny"))
    assert refusing(open_to_all, "401") == set() and refusing(open_to_all, "429") == paths - PUBLIC_PATHS - {"/metrics"}


def test_every_operation_and_schema_is_on_the_page(document: dict[str, Any]) -> None:
    shown = page(document)
    for path, operations in document["paths"].items():
        assert all(f"### {method.upper()} {path}\n" in shown for method in operations)
    assert all(f"### {name}\n" in shown for name in document["components"]["schemas"])


def test_every_error_code_is_on_the_page(document: dict[str, Any]) -> None:
    """Codes are read from the source: those that `ApiError` is given, and the table of errors from inside."""
    codes: set[str] = set()
    for path in (
        *(PACKAGE_ROOT / "deploy" / "api").rglob("*.py"),
        PACKAGE_ROOT / "deploy" / "interfaces" / "errors.py",
    ):
        codes |= _codes(path)
    assert {"invalid_size", "invalid_api_key", "job_not_found", "overloaded"} <= codes
    shown = page(document)
    assert {code for code in codes if f"`{code}`" not in shown} == set()


def _codes(path: Path) -> set[str]:
    found: set[object] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ApiError":
            given = [*node.args[3:4], *(keyword.value for keyword in node.keywords if keyword.arg == "code")]
            found |= {each.value for each in given if isinstance(each, ast.Constant)}
        elif isinstance(node, ast.Tuple) and len(node.elts) == 3 and isinstance(node.elts[0], ast.Constant):
            status, _, code = node.elts
            if isinstance(status.value, int) and isinstance(code, ast.Constant):
                found.add(code.value)
    return {code for code in found if isinstance(code, str)}


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("get", "/healthz", set()),
        ("get", "/readyz", {"503"}),
        ("post", "/v1/characters", {"400", "404", "413"}),
        ("post", "/v1/characters/{identifier}/pictures", {"400", "404", "409", "413"}),
        ("delete", "/v1/characters/{identifier}/pictures/{picture}", {"404", "409"}),
        ("post", "/v1/images/generations", {"400", "404", "413"}),
        ("post", "/v1/jobs", {"400", "404", "409", "413"}),
        ("get", "/v1/jobs", {"400"}),
    ],
)
def test_errors_are_described_for_each_operation(
    document: dict[str, Any], method: str, path: str, statuses: set[str]
) -> None:
    found = {status for status in document["paths"][path][method]["responses"] if status[0] in "45"}
    of_keys_and_load = set() if path in PUBLIC_PATHS else {"401", "403", "429", "503"}
    assert found == statuses | of_keys_and_load
