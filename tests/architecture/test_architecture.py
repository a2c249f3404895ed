"""Rules of the code: what may import what, no pickle, no import-time side effects; and the cluster configurations."""

from __future__ import annotations

import ast
from importlib.metadata import version
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from components.config import PACKAGE_ROOT
from tests.architecture.import_graph import imports, parse_modules

CODE = ("workflows", "deploy", "components", "tools", "benchmarks")


def _imported(*folders: str) -> dict[str, set[str]]:
    """Module below the folders -> the dotted names of all modules and members that it imports."""
    return {
        module: {name for source, members in imports(tree) for name in {source, *members}}
        for module, tree in parse_modules(*folders).items()
    }


def _violations(folder: str, forbidden: set[str], allowed: frozenset[str] = frozenset()) -> list[str]:
    """The imports of forbidden top-level packages."""
    return sorted(
        f"{module} imports {name}"
        for module, names in _imported(folder).items()
        if module not in allowed
        for name in names
        if name.split(".")[0] in forbidden
    )


def test_components_import_no_entry_point() -> None:
    assert _violations("components", {"workflows", "deploy", "benchmarks", "tests"}) == []


def test_deploy_and_workflows_do_not_import_each_other() -> None:
    assert _violations("deploy", {"workflows", "benchmarks"}) == []
    serving = frozenset({"workflows.quickstart", "workflows.serve", "workflows.studio"})
    assert _violations("workflows", {"deploy", "benchmarks"}, serving) == []


@pytest.mark.parametrize("folder", ["components/model", "components/engine"])
def test_model_and_engine_import_no_ray_mlflow_or_http(folder: str) -> None:
    assert _violations(folder, {"ray", "mlflow", "fastapi", "starlette", "httpx", "requests", "urllib", "http"}) == []


def test_the_model_does_not_import_the_engine() -> None:
    names = {name for names in _imported("components/model").values() for name in names}
    assert sorted(name for name in names if name.startswith("components.engine")) == []


@pytest.mark.parametrize("folder", ["components/world", "components/data"])
def test_data_and_world_import_no_training_or_serving(folder: str) -> None:
    found = {name for names in _imported(folder).values() for name in names}
    above = ("components.training", "components.registry", "components.evaluation", "components.characters")
    assert sorted(name for name in found if name.startswith(above)) == []


def test_nothing_is_unpickled() -> None:
    modules = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    assert [violation for folder in CODE for violation in _violations(folder, modules)] == []
    forbidden = {"torch.load", "torch.save", "pd.read_pickle", "pandas.read_pickle"}
    calls = {
        module: ast.unparse(node)
        for module, tree in parse_modules(*CODE).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in forbidden
    }
    # The converter reads the file that the paper's authors published, with tensors only.
    assert list(calls) == ["components.model.official"]
    assert "weights_only=True" in calls["components.model.official"]


def test_imports_have_no_side_effects() -> None:
    """Module bodies hold definitions and constants: no bare calls, loops or `with` blocks.

    `add_typer` is allowed: it registers a group of commands, as a decorator registers a command.
    """
    # MLflow executes the first file to load a version, and Alembic the second to migrate; nothing imports them.
    scripts = {"components.registry.model_script", "components.migrations.env"}
    assert [module for module, names in _imported(*CODE).items() if scripts & names] == []
    statements = [
        f"{module}:{node.lineno}"
        for module, tree in parse_modules(*CODE).items()
        if module not in scripts
        for node in tree.body
        if isinstance(node, ast.For | ast.While | ast.With | ast.Try)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not _adds_commands(node.value))
    ]
    assert statements == []


def _adds_commands(call: ast.Call) -> bool:
    return ast.unparse(call.func) == "app.add_typer"


def test_every_module_has_a_docstring() -> None:
    assert [name for name, tree in parse_modules(*CODE).items() if tree.body and not ast.get_docstring(tree)] == []


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


def test_tasks_do_not_run_on_the_head_node() -> None:
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


def test_a_wrong_cluster_configuration_is_refused() -> None:
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
