"""`realcustom studio`, and the example story that it shows after a quickstart."""

from __future__ import annotations

import random
import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest

from components.client import Client
from components.config import Config, load_config
from components.errors import ConfigError
from components.world.identities import sample_identity
from components.world.scenes import draw_reference
from deploy.api import studio as page
from tests.fakes.service_process import QUICK, running
from workflows import serve, studio
from workflows.example_story import make_example


def test_an_example_is_drawn_once(tmp_path: Path) -> None:
    config = load_config("tiny", [f"serving.store={tmp_path}", *QUICK, "sampling.steps=2"])
    with running(config) as url, Client(url) as client:
        story = make_example(client, config)
        assert [len(panel.takes) for panel in story.panels] == [1, 1, 1, 1]
        assert not any(panel.dirty or panel.error for panel in story.panels)
        assert "@Bolt and @Miso" in story.panels[2].prompt
        assert make_example(client, config).id == story.id
        cast = {character.name: character for character in client.characters.list()}
        assert sorted(cast) == ["Bolt", "Miso"]
        # The seed's identities: descriptions name the colours that the pictures have.
        rng = random.Random(config.seed + 2)
        for kind, name in (("robot", "Bolt"), ("cat", "Miso")):
            identity = sample_identity(rng, "held_out", kind)
            draw_reference(identity, 2 * config.vision.view_size, rng)
            assert identity.primary in cast[name].description and kind in cast[name].description


@pytest.mark.parametrize("browser", [True, False])
def test_the_browser_is_opened_once_the_service_answers(
    config: Config, browser: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def serve_at(config: Config, model: str | None, ready: Callable[[str], None]) -> None:
        ready("http://127.0.0.1:8000")

    opened: list[str] = []
    monkeypatch.setattr(studio, "require_built", lambda: None)
    monkeypatch.setattr(serve, "run", serve_at)
    monkeypatch.setattr(webbrowser, "open", opened.append)
    studio.run(config, browser=browser)
    assert opened == ["http://127.0.0.1:8000/studio/"] * browser
    assert "http://127.0.0.1:8000/studio/" in capsys.readouterr().out


def test_a_studio_that_is_not_built_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make studio"):
        page.require_built(tmp_path)
