"""The rules of the house: arrows run downwards, the model knows no platform, nothing is unpickled."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from components.config import PACKAGE_ROOT

HOUSE = ("workflows", "deploy", "components", "tools", "benchmarks")


def _sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (PACKAGE_ROOT / folder).rglob("*.py"))


def _imports(path: Path) -> Iterator[str]:
    """Every module that ``path`` imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _breaches(folder: str, forbidden: set[str], allowed: frozenset[str] = frozenset()) -> list[str]:
    return sorted(
        f"{path.relative_to(PACKAGE_ROOT)} imports {name}"
        for path in _sources(folder)
        if str(path.relative_to(PACKAGE_ROOT)) not in allowed
        for name in set(_imports(path))
        if name.split(".")[0] in forbidden
    )


def test_components_import_nothing_above_them() -> None:
    assert _breaches("components", {"workflows", "deploy", "benchmarks", "tests"}) == []


def test_deploy_and_workflows_do_not_import_each_other() -> None:
    assert _breaches("deploy", {"workflows", "benchmarks"}) == []
    serving = frozenset({"workflows/quickstart.py", "workflows/serve.py"})
    assert _breaches("workflows", {"deploy", "benchmarks"}, serving) == []


@pytest.mark.parametrize("folder", ["components/model", "components/engine"])
def test_the_model_and_its_engine_know_no_platform(folder: str) -> None:
    assert _breaches(folder, {"ray", "mlflow", "fastapi", "starlette", "httpx", "requests", "urllib", "http"}) == []
    named = {name for path in _sources(folder) for name in _imports(path) if name.startswith("components.engine")}
    assert folder == "components/engine" or named == set(), "the model knows no engine"


@pytest.mark.parametrize("folder", ["components/world", "components/data"])
def test_pictures_and_rows_know_nothing_of_training_or_serving(folder: str) -> None:
    found = {name for path in _sources(folder) for name in _imports(path)}
    above = ("components.training", "components.registry", "components.evaluation", "components.characters")
    assert sorted(name for name in found if name.startswith(above)) == []


def test_nothing_is_unpickled() -> None:
    modules = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    assert [breach for folder in HOUSE for breach in _breaches(folder, modules)] == []
    forbidden = {"torch.load", "torch.save", "pd.read_pickle", "pandas.read_pickle"}
    calls = {
        str(path.relative_to(PACKAGE_ROOT)): ast.unparse(node)
        for path in _sources(*HOUSE)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in forbidden
    }
    # The converter alone reads the authors' file, and lets torch read nothing but tensors.
    assert list(calls) == ["components/model/official.py"]
    assert "weights_only=True" in calls["components/model/official.py"]


def test_importing_the_house_starts_nothing() -> None:
    """Module bodies hold definitions and constants: no bare calls, loops or `with` blocks.

    Only `add_typer` is called: for a group of commands it is what the decorator is for a command.
    """
    # MLflow runs this one to load a version; nothing imports it.
    script = PACKAGE_ROOT / "components/registry/model_script.py"
    assert [path for path in _sources(*HOUSE) if "components.registry.model_script" in _imports(path)] == []
    busy = [
        f"{path.relative_to(PACKAGE_ROOT)}:{node.lineno}"
        for path in _sources(*HOUSE)
        if path != script
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.For | ast.While | ast.With | ast.Try)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not _adds_commands(node.value))
    ]
    assert busy == []


def _adds_commands(call: ast.Call) -> bool:
    return ast.unparse(call.func) == "app.add_typer"


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(PACKAGE_ROOT))
        for path in _sources(*HOUSE)
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


CLUSTERS = ["ray_cluster.yaml", "ray_cluster.local.yaml"]


def _cluster(file: str) -> dict[str, Any]:
    """The configuration as Ray completes and accepts it."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((PACKAGE_ROOT / file).read_text()))
    validate_config(config)
    return dict(config)


@pytest.mark.parametrize("file", CLUSTERS)
def test_the_cluster_configuration_is_valid(file: str) -> None:
    config = _cluster(file)
    types = config["available_node_types"]
    assert config["head_node_type"] in types
    assert sum(node["max_workers"] for node in types.values()) <= config["max_workers"]
    options = " ".join(config["docker"]["run_options"])
    assert "MLFLOW_TRACKING_URI=" in options and "REALCUSTOM_STORE=s3://" in options
    for command in (config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]):
        assert command.startswith("RAY_AUTH_MODE=token ray start")
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]


def test_no_task_starves_the_head() -> None:
    cloud = _cluster("ray_cluster.yaml")
    assert cloud["available_node_types"][cloud["head_node_type"]]["resources"]["CPU"] == 0
    assert "--num-cpus=0" in _cluster("ray_cluster.local.yaml")["head_start_ray_commands"][-1]


def test_clusters_have_workers_with_and_without_gpus_within_bounds() -> None:
    types = _cluster("ray_cluster.yaml")["available_node_types"]
    assert {"cpu_worker", "gpu_worker"} <= types.keys()
    assert all(0 <= types[name]["min_workers"] < types[name]["max_workers"] for name in ("cpu_worker", "gpu_worker"))
    local = _cluster("ray_cluster.local.yaml")
    (node,) = local["available_node_types"].values()
    assert node["max_workers"] == len(local["provider"]["worker_ips"])


@pytest.mark.parametrize("file", CLUSTERS)
def test_the_cluster_runs_the_pinned_ray_and_python(file: str) -> None:
    images = [word for word in (PACKAGE_ROOT / file).read_text().split() if word.startswith("rayproject/ray:")]
    assert images
    assert all(image.startswith(f"rayproject/ray:{version('ray')}-py311") for image in images)


def test_a_wrong_cluster_configuration_would_be_refused() -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    tree = yaml.safe_load((PACKAGE_ROOT / "ray_cluster.yaml").read_text())
    tree["idle_timeout_minute"] = 10
    with pytest.raises(ValidationError, match="idle_timeout_minute"):
        validate_config(prepare_config(tree))


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    import tomllib

    project = tomllib.loads((PACKAGE_ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    lines = (PACKAGE_ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    pinned = {name.lower().replace("_", "-"): release for name, release in pins.items()}
    for requirement in map(Requirement, declared):
        assert requirement.specifier.contains(pinned[requirement.name.lower()]), requirement
