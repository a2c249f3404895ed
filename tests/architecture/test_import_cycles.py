"""Imports have no cycles, among files or among packages, and follow a stated order of packages."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.import_graph import (
    find_cycle,
    import_graph,
    imports_against_order,
    package_graph,
    parse_modules,
)

#: A package, or a file directly in the root folder, imports only those before it.
ORDER = {
    "components": [
        "errors",
        "config",
        "files",
        "full_disk",
        "terminal",
        "progress",
        "sigterm",
        "logs",
        "fingerprint",
        "cut_outs",
        "pictures",
        "precision",
        "cluster",
        "migrations",
        "database_limits",
        "database",
        "object_store",
        "face_detector",
        "tensor_files",
        "checkpoint",
        "content",
        "world",
        "access",
        "provenance",
        "client",
        "jobs",
        "model",
        "judges",
        "engine",
        "data",
        "ray_pool",
        "characters",
        "stories",
        "history",
        "owners",
        "batch",
        "training",
        "evaluation",
        "registry",
        "pretraining",
        "distillation",
        "rehearsal",
    ],
    "deploy": [
        "interfaces",
        "background",
        "fair_queue",
        "fair_places",
        "watcher",
        "carried_context",
        "handles",
        "status",
        "characters",
        "generator",
        "jobs",
        "stories",
        "administration",
        "api",
        "deployments",
        "app",
    ],
}


def test_files_have_no_import_cycle() -> None:
    assert find_cycle(import_graph(parse_modules("components", "deploy", "workflows", "tools"))) == []


@pytest.mark.parametrize("root", sorted(ORDER))
def test_packages_import_only_those_before_them(root: str) -> None:
    packages = package_graph(import_graph(parse_modules(root)), root)
    assert sorted(packages) == sorted(ORDER[root])
    assert imports_against_order(packages, ORDER[root]) == []


def test_parts_of_the_service_know_each_other_only_by_interfaces() -> None:
    """A part can be replaced by another implementation of its protocol, as the tests do."""
    packages = package_graph(import_graph(parse_modules("deploy")), "deploy")
    parts = {"api", "characters", "generator", "jobs"}
    assert {part: packages[part] & parts for part in parts} == {part: set() for part in parts}


@pytest.mark.parametrize("statement", ["import root.b", "from root import b", "from root.b import x"])
def test_a_cycle_through_an_import_in_a_function_is_found(statement: str) -> None:
    sources = {"root.a": f"def f():\n    {statement}", "root.b": "from root.a import f"}
    graph = import_graph({name: ast.parse(source) for name, source in sources.items()})
    assert set(find_cycle(graph)) == {"root.a", "root.b"}
    assert package_graph(graph, "root") == {"a": {"b"}, "b": {"a"}}
    assert imports_against_order(package_graph(graph, "root"), ["a", "b"]) == ["a imports b"]
