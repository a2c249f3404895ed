"""The tutorials' commands run, in their order, against a service or the shipped miniature."""

from __future__ import annotations

import random
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from components.characters.advice import advise
from components.client import Client
from components.config import PACKAGE_ROOT, load_config
from components.data.region import subject_mask
from components.registry import tracking, versions
from components.world.identities import sample_identity
from components.world.scenes import draw_reference
from tests.fakes.service_process import QUICK, running
from workflows.cli import app

TUTORIALS = PACKAGE_ROOT / "docs" / "tutorials"
REFERENCE = Path("docs/images/reference_robot.png")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the reference picture, as the checkout has it."""
    (tmp_path / REFERENCE).parent.mkdir(parents=True)
    shutil.copy(PACKAGE_ROOT / REFERENCE, tmp_path / REFERENCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _blocks(page: str) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", (TUTORIALS / page).read_text(), re.MULTILINE | re.DOTALL)


def _run(words: list[str]) -> str:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, f"{shlex.join(words)}: {result.output}"
    return result.output


def test_the_reference_is_an_unseen_subject_of_the_toy_world() -> None:
    rng = random.Random(1)
    drawn = draw_reference(sample_identity(rng, "held_out", "robot"), 256, random.Random(1))
    assert np.array_equal(np.asarray(Image.open(PACKAGE_ROOT / REFERENCE).convert("RGB")), np.asarray(drawn))


def test_the_advice_shown_is_that_on_a_small_subject() -> None:
    reference = Image.open(PACKAGE_ROOT / REFERENCE).convert("RGB")
    far = Image.new("RGB", (800, 800), "white")
    far.paste(reference.resize((200, 200)), (300, 300))
    near, small = (advise(each, subject_mask(each), reference_size=128).sentences for each in (reference, far))
    assert near == () and len(small) == 1
    assert f"```text\n{small[0]}\n```" in (TUTORIALS / "first_character.md").read_text()


def test_first_character(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [shlex.split(line) for block in _blocks("first_character.md") for line in block.splitlines()]
    of_service = [words[1:] for words in commands if words[0] == "realcustom" and words[1] in ("character", "generate")]
    assert len(of_service) == 7
    with running(load_config("tiny", [f"serving.store={folder}/store", *QUICK])) as url:
        monkeypatch.setenv("REALCUSTOM_URL", url)
        told = [_run(words) for words in of_service]
    assert "prompts can mention it as @Rob, or by the word 'robot'" in told[0]
    shown = (TUTORIALS / "first_character.md").read_text()
    assert told[0].splitlines()[1] in shown
    for name in ("beach", "snow", "night", "without"):
        assert Image.open(folder / f"{name}.png").size == (64, 64)


@pytest.mark.slow
def test_first_story(folder: Path) -> None:
    """The table is drawn by the shipped adapter, as the version that the quickstart would have registered."""
    config = load_config("tiny")
    with tracking.run(config, "tutorial", {}) as run_id:
        version = versions.register(config, PACKAGE_ROOT / "weights/tiny/adapter", run_id, {})
    versions.set_alias(config, version)
    write, draw = _blocks("first_story.md")
    subprocess.run(["bash", "-e", "-c", write], check=True, timeout=10)
    told = _run(shlex.split(draw)[1:])
    assert "6 rows: 6 done (6 generated now), 0 failed" in told
    assert len(list(folder.glob("story/pictures/*.png"))) == 6
    assert pq.read_table(folder / "story/results.parquet").num_rows == 6


@pytest.mark.parametrize("kept", [0, 2], ids=["alone", "after a first character that was not deleted"])
def test_first_story_as_jobs(folder: Path, kept: int) -> None:
    """The script uses the character of the other tutorial if there is one, and works if there are several."""
    script = re.search(r"^```python service\n(.*?)^```", (TUTORIALS / "first_story.md").read_text(), re.M | re.S)
    assert script
    with running(load_config("tiny", [f"serving.store={folder}/store", *QUICK])) as url, Client(url) as client:
        for _ in range(kept):
            client.characters.create("Rob", REFERENCE, description="a red robot")
        exec(compile(script[1].replace("http://127.0.0.1:8000", url), "first_story.md", "exec"), {})
        assert len(list(client.characters.list())) == max(kept - 1, 0)
    assert len(list(folder.glob("scene-*.png"))) == 6
