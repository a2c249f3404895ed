"""The import graph of the code: among modules, and among packages."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from components.config import PACKAGE_ROOT

Graph = Mapping[str, set[str]]


def parse_modules(*folders: str) -> dict[str, ast.Module]:
    """The modules below the folders by their dotted names."""
    paths = [path for folder in folders for path in (PACKAGE_ROOT / folder).rglob("*.py")]
    names = [".".join(path.relative_to(PACKAGE_ROOT).with_suffix("").parts) for path in paths]
    trees = [ast.parse(path.read_text()) for path in paths]
    return {name.removesuffix(".__init__"): tree for name, tree in zip(names, trees, strict=True)}


def imports(tree: ast.Module) -> Iterator[tuple[str, set[str]]]:
    """Each imported module, with the dotted names of what is imported from it; also of imports inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, set[str]()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, "imports are absolute"
            yield node.module, {f"{node.module}.{alias.name}" for alias in node.names}


def import_graph(modules: Mapping[str, ast.Module]) -> Graph:
    """Module -> those of ``modules`` that it imports."""
    graph: dict[str, set[str]] = {}
    for module, tree in modules.items():
        found: set[str] = set()
        for source, members in imports(tree):
            found |= members & modules.keys() or {source}  # of a package, its modules or else its ``__init__``
        graph[module] = (found & modules.keys()) - {module}
    return graph


def package_graph(graph: Graph, root: str) -> Graph:
    """The graph among the packages of ``root``; a module directly in ``root`` counts as a package."""
    packages: dict[str, set[str]] = {}
    for module, imported in graph.items():
        if module.startswith(f"{root}."):
            package = module.split(".")[1]
            others = {name.split(".")[1] for name in imported if name.startswith(f"{root}.")}
            packages.setdefault(package, set()).update(others - {package})
    return packages


def find_cycle(graph: Graph) -> list[str]:
    """The modules or packages of one cycle; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def imports_against_order(packages: Graph, order: Sequence[str]) -> list[str]:
    """The imports of a package that does not come before the importing one in ``order``."""
    place = {package: index for index, package in enumerate(order)}
    return sorted(f"{p} imports {q}" for p, imported in packages.items() for q in imported if place[q] >= place[p])
