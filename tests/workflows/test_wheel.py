"""The wheel works outside the checkout: in an empty folder, with the presets and weights that it carries."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from components import __version__
from components.config import PACKAGE_ROOT, presets

#: Largest wheel in bytes: the miniature has 19 MB.
LARGEST = 25_000_000

PROGRAM = """
import sys
from pathlib import Path
from importlib.resources import files
import components, deploy, tools, workflows
from components.config import PACKAGE_ROOT, load_config, presets
from components.database import open_database
from components.data.report.page import write_report
from components.model.naming import read_nouns
from components.model.pipeline import RealCustomPipeline
from components.registry import version_config
from tools import serve_config

root = Path(sys.argv[1])
assert PACKAGE_ROOT == root, PACKAGE_ROOT
assert all(Path(package.__file__).is_relative_to(root) for package in (components, deploy, tools, workflows))
configs = {name: load_config(name) for name in presets()}
assert len(read_nouns(configs["sdxl"].naming.nouns)) > 50
data = {"components.data.report": "report.html.j2", "components.evaluation.dreambench": "gallery.html.j2"}
assert all((files(package) / name).is_file() for package, name in (data | {"deploy": "serve.yaml"}).items())
open_database(Path("store"), None).dispose()
tiny = configs["tiny"]
assert version_config.outwards(tiny.model.base) == "package://weights/tiny/base"
pipeline = RealCustomPipeline.from_config(tiny)
image = pipeline("a robot in the snow", num_inference_steps=2, height=64, width=64).images[0]
image.save("robot.png")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built in a copy without network."""
    source = tmp_path_factory.mktemp("wheel") / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PACKAGE_ROOT / name, source)
    for name in ("benchmarks", "components", "deploy", "studio", "tests", "tools", "weights", "workflows"):
        ignored = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(PACKAGE_ROOT / name, source / name, ignore=ignored)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", source.parent]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], check=True)
    (built,) = source.parent.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    target = wheel.parent / "installed"
    options = ["--no-deps", "--no-index", "--quiet", "--target", target]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, wheel], check=True)
    return target


def _run(installed: Path, cwd: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1", "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=280
    )


def test_it_holds_the_packages_and_their_data_only(wheel: Path) -> None:
    assert wheel.name == f"realcustom-{__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < LARGEST
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {"/".join(name.split("/")[:2]) for name in names if name.startswith("weights/")}
    assert shipped == {"weights/__init__.py", "weights/tiny"}
    assert not [name for name in names if name.startswith("tests/") or "__pycache__" in name]
    packages = ("components", "deploy", "tools", "workflows")
    needed = [path for package in packages for path in (PACKAGE_ROOT / package).rglob("*.py")]
    needed += [path for path in (PACKAGE_ROOT / "weights/tiny").rglob("*") if path.is_file()]
    assert {path.relative_to(PACKAGE_ROOT).as_posix() for path in needed} <= set(names)


def test_the_command_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    command = installed / "bin" / "realcustom"
    for arguments, said in ((["--version"], __version__), (["--help"], "quickstart"), (["presets"], "tiny")):
        result = _run(installed, tmp_path, command, *arguments)
        assert result.returncode == 0 and said in result.stdout, result.stderr
    for preset in presets():
        assert _run(installed, tmp_path, command, "config", "--preset", preset).returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_it_generates_an_image_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    result = _run(installed, tmp_path, "-c", PROGRAM, installed)
    assert result.returncode == 0, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["robot.png"]
