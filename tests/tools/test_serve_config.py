"""`deploy/serve.yaml` equals the output of `serve build`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema
from typer import Typer
from typer.testing import CliRunner

from components.config import PACKAGE_ROOT
from components.errors import ConfigError, RegistryError
from deploy.app import BuildArgs
from tools import serve_config

FAKES = "tests.fakes.pipeline"
FILE = PACKAGE_ROOT / "deploy" / "serve.yaml"


@pytest.fixture
def shipped() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return content


def test_the_shipped_file_is_the_one_that_would_be_made(shipped: dict[str, Any]) -> None:
    """If this fails, make it again as its header says."""
    (application,) = shipped["applications"]
    made = serve_config.describe(BuildArgs(**application["args"], registry=FAKES))
    del made["applications"][0]["args"]["registry"]
    assert made == shipped
    assert ServeDeploySchema.model_validate(shipped).applications[0].import_path == serve_config.IMPORT_PATH
    rendered = serve_config.render(BuildArgs(**application["args"], registry=FAKES))
    assert FILE.read_text().startswith(rendered.partition("proxy_location")[0])


def test_serve_build_says_the_same(shipped: dict[str, Any], tmp_path: Path) -> None:
    (application,) = shipped["applications"]
    arguments = application["args"] | {"registry": FAKES}
    (tmp_path / "bound.py").write_text(f"from deploy.app import build\n\napplication = build({arguments!r})\n")
    command = [Path(sys.executable).parent / "serve", "build", "bound:application"]
    subprocess.run(
        [*command, "--app-dir", tmp_path, "--output-path", tmp_path / "built.yaml"],
        cwd=PACKAGE_ROOT,
        env=os.environ | {"PYTHONPATH": str(PACKAGE_ROOT)},
        check=True,
        timeout=400,
    )
    (built,) = yaml.safe_load((tmp_path / "built.yaml").read_text())["applications"]
    assert built["deployments"] == application["deployments"]
    assert built["route_prefix"] == application["route_prefix"]


def test_settings_become_options() -> None:
    settings = [
        "serving.access.keys=required",
        "serving.host=10.0.0.1",
        "serving.port=9000",
        "serving.max_replicas=5",
        "serving.generator_gpus=1",
    ]
    content = serve_config.describe(BuildArgs(overrides=settings, registry=FAKES))
    assert (content["http_options"]["host"], content["http_options"]["port"]) == ("10.0.0.1", 9000)
    deployments = {each["name"]: each for each in content["applications"][0]["deployments"]}
    assert deployments["Generator"]["autoscaling_config"]["max_replicas"] == 5
    assert deployments["Generator"]["ray_actor_options"]["num_gpus"] == 1
    assert {"Gateway", "Characters", "Jobs"} < deployments.keys()


def test_what_build_refuses_makes_no_file() -> None:
    with pytest.raises(ConfigError, match="keys"):
        serve_config.describe(BuildArgs(registry=FAKES))
    with pytest.raises(RegistryError):
        keys = ["serving.access.keys=required"]
        serve_config.describe(BuildArgs(overrides=keys, model_uri="models:/unknown@champion", registry=FAKES))


def test_the_command_prints_the_file() -> None:
    command = Typer()
    command.command()(serve_config.main)
    printed = CliRunner().invoke(command, ["--set", "serving.access.keys=required", "--registry", FAKES])
    assert printed.exit_code == 0, printed.output
    args = yaml.safe_load(printed.stdout)["applications"][0]["args"]
    assert args == {"preset": "tiny", "overrides": ["serving.access.keys=required"], "registry": FAKES}
    refused = CliRunner().invoke(command, ["--registry", FAKES])
    assert refused.exit_code != 0


def test_settings_of_a_file_become_options(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("serving: {port: 9000, max_replicas: 5, access: {keys: required}}\n")
    command = Typer()
    command.command()(serve_config.main)
    printed = CliRunner().invoke(command, ["--config", str(file), "--set", "serving.port=9001", "--registry", FAKES])
    assert printed.exit_code == 0, printed.output
    assert f"--config {file}" in printed.stdout and "--preset tiny" in printed.stdout
    content = yaml.safe_load(printed.stdout)
    assert content["http_options"]["port"] == 9001
    (application,) = content["applications"]
    assert application["args"]["config"] == str(file)
    deployments = {each["name"]: each for each in application["deployments"]}
    assert deployments["Generator"]["autoscaling_config"]["max_replicas"] == 5
