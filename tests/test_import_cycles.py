"""No import cycles in `components` and `workflows`, among files or among packages; packages in one order."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

import pytest

from components.config import PACKAGE_ROOT

#: Packages of `components` that others build on come first; a package imports only those before it.
ORDER = [
    "errors",
    "config",
    "files",
    "progress",
    "fingerprint",
    "pictures",
    "precision",
    "cluster",
    "database",
    "object_store",
    "face_detector",
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
    "batch",
    "evaluation",
    "registry",
    "training",
    "pretraining",
]


def _modules(*folders: str) -> dict[str, ast.Module]:
    paths = [path for folder in folders for path in (PACKAGE_ROOT / folder).rglob("*.py")]
    names = [".".join(path.relative_to(PACKAGE_ROOT).with_suffix("").parts) for path in paths]
    trees = [ast.parse(path.read_text()) for path in paths]
    return {name.removesuffix(".__init__"): tree for name, tree in zip(names, trees, strict=True)}


def _graph(modules: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Module -> the modules that it imports, at its top or inside a function."""
    graph: dict[str, set[str]] = {}
    for module, tree in modules.items():
        found: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                members = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= members & modules.keys() or {node.module}
        graph[module] = (found & modules.keys()) - {module}
    return graph


def _packages(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The graph of the packages of `components`; a file beside them counts as a package."""
    packages: dict[str, set[str]] = {}
    for module, imported in graph.items():
        if module.startswith("components."):
            package = module.split(".")[1]
            below = {name.split(".")[1] for name in imported if name.startswith("components.")}
            packages.setdefault(package, set()).update(below - {package})
    return packages


def _cycle(graph: Mapping[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_import_cycle_among_files() -> None:
    assert _cycle(_graph(_modules("components", "workflows"))) == []


def test_packages_import_only_those_before_them() -> None:
    packages = _packages(_graph(_modules("components")))
    assert sorted(packages) == sorted(ORDER)
    upwards = [f"{p} imports {q}" for p in packages for q in packages[p] if ORDER.index(q) >= ORDER.index(p)]
    assert sorted(upwards) == []


@pytest.mark.parametrize("statement", ["import components.b", "from components import b", "from components.b import x"])
def test_a_cycle_inside_functions_is_found(statement: str) -> None:
    sources = {"components.a": f"def f():\n    {statement}", "components.b": "from components.a import f"}
    graph = _graph({name: ast.parse(source) for name, source in sources.items()})
    assert set(_cycle(graph)) == {"components.a", "components.b"}
    assert _packages(graph) == {"a": {"b"}, "b": {"a"}}
