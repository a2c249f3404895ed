"""`realcustom register`: an adapter directory becomes a version that draws, or is refused with the reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from typer.testing import CliRunner

from components.config import Config, load_config
from components.errors import ArtifactError
from components.model.adapter import RealCustomAdapter
from components.model.pipeline import RealCustomPipeline
from components.registry import compatibility, tracking, versions
from workflows.cli import app


@pytest.fixture
def sets(config: Config) -> list[str]:
    """The test's configuration as options of a command."""
    settings = {
        "model.base": config.model.base,
        "model.siglip": config.model.siglip,
        "model.dinov2": config.model.dinov2,
        "registry.tracking_uri": config.registry.tracking_uri,
        "registry.artifacts": config.registry.artifacts,
    }
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture
def adapter(config: Config, tmp_path: Path) -> Path:
    """An adapter of the test's base model, whose encoders are not known, as after a conversion."""
    made = RealCustomPipeline.from_config(config).adapter
    made.register_to_config(encoder_identity=None)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    made.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def _register(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["register", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_registered_directory_draws_and_is_served(config: Config, sets: list[str], adapter: Path) -> None:
    assert _register("--adapter", str(adapter), *sets) == "registered models:/realcustom-tiny/1\n"
    assert versions.find_alias(config, "realcustom-tiny", "champion") is None
    said = _register("--adapter", str(adapter), "--alias", "champion", *sets)
    assert said == "registered models:/realcustom-tiny/2 as @champion\n"
    _register("--adapter", str(adapter), "--alias", "candidate", *sets)

    version = versions.resolve(config, "models:/realcustom-tiny@champion")
    assert (version.version, version.tags["adapter_directory"]) == ("2", str(adapter.absolute()))
    assert versions.find_alias(config, "realcustom-tiny", "candidate") == "3"
    found = MlflowClient(config.registry.absolute_uri).get_model_version("realcustom-tiny", "2")
    run = tracking.client(config.registry).get_run(found.run_id)
    assert (run.info.run_name, run.info.status) == ("register", "FINISHED")
    assert found.tags["promotion.decision"] == "promoted"

    pipeline = versions.load_pipeline(config, version.uri)
    assert pipeline.adapter.digest == RealCustomAdapter.from_pretrained(adapter).digest
    (image,) = pipeline("a robot", num_inference_steps=2, height=64, width=64).images
    assert image.size == (64, 64)


def test_the_shipped_adapter_fits_the_shipped_model() -> None:
    config = load_config("tiny")
    assert config.model.adapter is not None
    assert compatibility.check_adapter(config, Path(config.model.adapter)).encoder_identity is not None


def test_another_base_model_is_refused(config: Config, adapter: Path, tmp_path: Path) -> None:
    base = tmp_path / "wider"
    (base / "unet").mkdir(parents=True)
    described = json.loads((Path(config.model.base) / "unet" / "config.json").read_text())
    described["cross_attention_dim"] *= 2
    (base / "unet" / "config.json").write_text(json.dumps(described))
    other = config.model_copy(update={"model": config.model.model_copy(update={"base": str(base)})})
    with pytest.raises(ArtifactError, match=r"another U-Net.*attn2.*set model\.base"):
        compatibility.check_adapter(other, adapter)


def test_other_encoders_are_refused(config: Config, adapter: Path, tmp_path: Path) -> None:
    made = RealCustomAdapter.from_pretrained(adapter)
    made.register_to_config(encoder_identity="another")
    made.save_pretrained(tmp_path / "foreign")
    with pytest.raises(ArtifactError, match=r"other vision encoders or blocks"):
        compatibility.check_adapter(config, tmp_path / "foreign")

    siglip = tmp_path / "siglip"
    shutil.copytree(config.model.siglip, siglip)
    described = json.loads((siglip / "config.json").read_text())
    described.get("vision_config", described)["hidden_size"] += 64
    (siglip / "config.json").write_text(json.dumps(described))
    other = config.model_copy(update={"model": config.model.model_copy(update={"siglip": str(siglip)})})
    with pytest.raises(ArtifactError, match=r"vision channels"):
        compatibility.check_adapter(other, adapter)


def test_a_shallow_adapter_needs_the_blocks_of_its_training(config: Config, tmp_path: Path) -> None:
    shallow = config.model_copy(update={"adapter": config.adapter.model_copy(update={"projector": "shallow"})})
    made = RealCustomPipeline.from_config(shallow).adapter
    made.register_to_config(encoder_identity=None)
    made.save_pretrained(tmp_path / "shallow")
    with pytest.raises(ArtifactError, match=r"set vision\.siglip_shallow"):
        compatibility.check_adapter(config, tmp_path / "shallow")
    blocks = {"siglip_shallow": (0,), "dinov2_shallow": (0,)}
    config = config.model_copy(update={"vision": config.vision.model_copy(update=blocks)})
    compatibility.check_adapter(config, tmp_path / "shallow")


def test_what_is_refused_leaves_no_version(config: Config, sets: list[str], adapter: Path) -> None:
    (adapter / "config.json").write_text("{}")
    result = CliRunner().invoke(app, ["register", "--adapter", str(adapter), *sets])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "does not match its sha256" in result.stderr
    assert tracking.client(config.registry).search_registered_models() == []


def test_a_registry_that_does_not_answer_is_named(
    adapter: Path, sets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    result = CliRunner().invoke(
        app, ["register", "--adapter", str(adapter), *sets, "--set", "registry.tracking_uri=http://127.0.0.1:9"]
    )
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1 and "http://127.0.0.1:9 cannot be used" in result.stderr
