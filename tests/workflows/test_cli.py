"""The command line: what it offers, and how it ends when the user or the program is wrong."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from components import __version__
from components.config import PACKAGE_ROOT, Config, load_config
from components.errors import DataError
from components.progress import track
from workflows import stage as stage_entry
from workflows.cli import app

STAGES = ["prepare", "pretrain", "train", "register", "evaluate", "promote", "generate", "quickstart"]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for `workflows.train`, whose `run` notes the configuration it was given."""
    module = ModuleType("workflows.train")
    module.seen = []  # type: ignore[attr-defined]
    module.run = module.seen.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "workflows.train", module)
    return module


def test_help_lists_every_stage() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert all(name in result.output for name in [*STAGES, "config", "presets"])


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_takes_a_preset_and_overrides(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert all(option in result.output for option in ("--preset", "--config", "--set"))


def test_every_command_and_option_has_a_help_text() -> None:
    def commands(group: Any) -> Iterator[Any]:
        for command in group.commands.values():
            yield from commands(command) if hasattr(command, "commands") else [command]

    found = {command.name: command for command in commands(typer.main.get_command(app))}
    assert {"quickstart", "register", "revoke", "rename"} <= found.keys()
    silent = [name for name, command in found.items() if not command.help]
    silent += [
        f"{name} {parameter.name}"
        for name, command in found.items()
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert silent == []


def test_help_imports_neither_torch_nor_ray() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from workflows.cli import app;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        "print(sorted({'torch', 'ray', 'diffusers', 'mlflow'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=PACKAGE_ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr


def test_a_stage_gets_the_resolved_configuration(stage: ModuleType) -> None:
    result = CliRunner().invoke(app, ["train", "--set", "training.steps=5", "--set", "seed=3"])
    assert result.exit_code == 0, result.output
    assert [(c.preset, c.training.steps, c.seed) for c in stage.seen] == [("tiny", 5, 3)]


def test_a_file_comes_between_the_preset_and_set(stage: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: sdxl\ntraining: {steps: 5, workers: 3}\nseed: 2\n")
    result = CliRunner().invoke(app, ["train", "--config", str(file), "--set", "training.steps=7"])
    assert result.exit_code == 0, result.output
    (config,) = stage.seen
    assert (config.preset, config.training.steps, config.training.workers, config.seed) == ("sdxl", 7, 3, 2)
    assert config.training.batch_size == load_config("sdxl").training.batch_size


def test_what_config_prints_is_a_file_for_config(stage: ModuleType, tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["config", "--preset", "sdxl", "--set", "training.workers=3"]).stdout
    (tmp_path / "mine.yaml").write_text(printed)
    assert CliRunner().invoke(app, ["train", "--config", str(tmp_path / "mine.yaml")]).exit_code == 0
    assert stage.seen == [load_config("sdxl", ["training.workers=3"])]


def test_config_prints_a_tree_that_can_be_read_back() -> None:
    result = CliRunner().invoke(app, ["config", "--preset", "sdxl", "--set", "training.workers=3"])
    assert result.exit_code == 0
    config = Config(**yaml.safe_load(result.stdout))
    assert (config.preset, config.training.workers) == ("sdxl", 3)


def test_the_version_is_that_of_the_distribution() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"realcustom {__version__}\n"


def test_presets_lists_them() -> None:
    assert CliRunner().invoke(app, ["presets"]).stdout.split() == ["sdxl", "tiny"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--set", "training.stepz=1"], "training.stepz"),
        (["config", "--preset", "huge"], "huge"),
        (["quickstart", "--set", "nonsense"], "nonsense"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["prepare", "--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and said in lines[0]


@pytest.mark.parametrize(
    "command", [["-m", "workflows.promote"], ["-c", "from workflows.cli import app; app()", "promote"]]
)
def test_both_command_lines_end_the_same_way(command: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, *command, "--preset", "tiny", "--set", "registry.alia=x"],
        cwd=PACKAGE_ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: unknown configuration key 'registry.alia'")


def test_an_error_of_several_lines_is_told_in_one(stage: ModuleType) -> None:
    def run(config: Config) -> None:
        raise DataError("the manifest is\n  not there")

    stage.run = run  # type: ignore[attr-defined]
    result = CliRunner().invoke(app, ["train"])
    assert (result.exit_code, result.stderr) == (2, "error: the manifest is not there\n")


def test_a_fault_of_the_program_keeps_its_traceback(stage: ModuleType) -> None:
    def run(config: Config) -> None:
        raise ZeroDivisionError("a bug")

    stage.run = run  # type: ignore[attr-defined]
    result = CliRunner().invoke(app, ["train"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_main_runs_the_stage_of_its_file(stage: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text("def run(config): raise AssertionError('the copy in __main__ ran')\n")
    copy: dict[str, object] = {}
    exec(compile(file.read_text(), str(file), "exec"), copy)
    monkeypatch.setattr(sys, "argv", ["train.py", "--set", "seed=9"])
    with pytest.raises(SystemExit) as ended:
        stage_entry.main(copy["run"])  # type: ignore[arg-type]
    assert ended.value.code == 0
    assert [config.seed for config in stage.seen] == [9]


def test_track_passes_everything_on_and_logs_every_tenth(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert list(track(range(200), "drawing")) == list(range(200))
    said = [record.message for record in caplog.records if record.message.startswith("drawing")]
    assert said == [f"drawing {n}/200" for n in range(20, 201, 20)]


def test_track_of_few_items_says_each_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    list(track((n for n in range(3)), "drawing", total=3))
    assert [record.message for record in caplog.records] == ["drawing 1/3", "drawing 2/3", "drawing 3/3"]


def test_track_without_a_total_says_how_many_there_were(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    list(track(iter("abc"), "drawing"))
    assert [record.message for record in caplog.records] == ["drawing 3"]


def test_loading_a_model_says_nothing(miniature: object) -> None:
    program = (
        "import sys; from components.progress import quiet_libraries; quiet_libraries();"
        "from transformers import SiglipVisionModel; from diffusers import StableDiffusionXLPipeline;"
        "SiglipVisionModel.from_pretrained(sys.argv[1]); StableDiffusionXLPipeline.from_pretrained(sys.argv[2])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(miniature.siglip), str(miniature.base)],  # type: ignore[attr-defined]
        cwd=PACKAGE_ROOT,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_vision_tower_is_loaded_from_both_towers_without_a_report(miniature: Any) -> None:
    program = (
        "import sys; from components.model.siglip import SiglipVisionModel;"
        "print(type(SiglipVisionModel.from_pretrained(sys.argv[1])).__name__)"
    )
    command = [sys.executable, "-c", program, str(miniature.siglip)]
    loud = {name: value for name, value in os.environ.items() if not name.startswith(("TRANSFORMERS_", "TQDM_"))}
    result = subprocess.run(command, cwd=PACKAGE_ROOT, env=loud, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "SiglipVisionModel\n"), result.stderr
    assert "REPORT" not in result.stderr and "UNEXPECTED" not in result.stderr


def test_a_new_registry_and_a_local_ray_say_nothing(tmp_path: Path) -> None:
    program = (
        "import logging, warnings; from components.progress import quiet_libraries; quiet_libraries();"
        "from components.config import load_config; from components.registry import tracking;"
        "config = load_config('tiny', ['registry.tracking_uri=sqlite:///mlflow.db']);"
        "tracking.experiment_id(config.registry);"
        "logging.getLogger('ray._private.authentication.authentication_token_setup').warning('enabled');"
        "warnings.warn_explicit('a tip', FutureWarning, 'worker.py', 1, module='ray._private.worker')"
    )
    environment = os.environ | {"PYTHONPATH": str(PACKAGE_ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
