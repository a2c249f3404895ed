"""The documentation is true: its Python runs, its commands resolve, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.config import PACKAGE_ROOT, load_config
from workflows.cli import app

PAGES = sorted((PACKAGE_ROOT / "docs").rglob("*.md")) + [p for p in [PACKAGE_ROOT / "README.md"] if p.exists()]
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)


def _blocks(language: str) -> list[tuple[str, str]]:
    return [(p.name, m["body"]) for p in PAGES for m in FENCE.finditer(p.read_text()) if m["language"] == language]


def _commands() -> list[tuple[str, list[str]]]:
    """Every command in the pages' bash blocks, continued lines joined, comments dropped."""
    joined = [(page, body.replace("\\\n", " ")) for page, body in _blocks("bash")]
    return [
        (page, words)
        for page, body in joined
        for line in body.splitlines()
        if (words := shlex.split(line, comments=True))
    ]


@pytest.mark.parametrize(("page", "body"), _blocks("python"))
def test_python_blocks_run(page: str, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(body, page, "exec"), {})


@pytest.mark.parametrize(("page", "words"), [(p, w) for p, w in _commands() if w[:2] == ["realcustom", "config"]])
def test_config_commands_run(page: str, words: list[str]) -> None:
    result = CliRunner().invoke(app, words[1:])
    assert result.exit_code == 0, f"{page}: {shlex.join(words)}: {result.output}"


@pytest.mark.parametrize(("page", "words"), [(p, w) for p, w in _commands() if "--set" in w])
def test_documented_overrides_are_known(page: str, words: list[str]) -> None:
    preset = words[words.index("--preset") + 1] if "--preset" in words else "tiny"
    overrides = [value for flag, value in pairwise(words) if flag == "--set"]
    assert load_config(preset, overrides).preset == preset


def test_key_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order; the id that is revoked is the one of the first key that they have made."""
    monkeypatch.chdir(tmp_path)
    runner, made = CliRunner(), ""
    for page, words in _commands():
        if words[:2] == ["realcustom", "key"]:
            words = [made if re.fullmatch(r"[0-9a-f]{16}", word) else word for word in words]
            result = runner.invoke(app, words[1:])
            assert result.exit_code == 0, f"{page}: {shlex.join(words)}: {result.output}"
            made = made or result.stdout.split("-")[1]
    assert made


def test_documented_stages_exist() -> None:
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {str(group.name) for group in app.registered_groups}
    named = {words[1] for _, words in _commands() if words[0] == "realcustom" and not words[1].startswith("-")}
    modules = {
        word.removeprefix("workflows.")
        for _, words in _commands()
        for word in words
        if re.match(r"workflows\.\w", word)
    }
    assert named and modules
    assert (named | modules) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []
