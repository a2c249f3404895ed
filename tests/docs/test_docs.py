"""The documentation is true: its Python runs, its commands resolve, its links and anchors lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from components.config import PACKAGE_ROOT, load_config
from workflows.cli import app

DOCS = PACKAGE_ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), PACKAGE_ROOT / "README.md", PACKAGE_ROOT / "CONTRIBUTING.md"]
KINDS = ("tutorials", "how-to", "reference", "explanation")
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)


def _name(page: Path) -> str:
    return str(page.relative_to(PACKAGE_ROOT))


def _blocks(language: str) -> list[tuple[str, str]]:
    return [(_name(p), m["body"]) for p in PAGES for m in FENCE.finditer(p.read_text()) if m["language"] == language]


def _commands() -> list[tuple[str, list[str]]]:
    """Every command in the pages' bash blocks, continued lines joined, comments and here-documents dropped."""
    joined = [(page, re.sub(r"<<'END'\n.*?\nEND\n", "\n", body, flags=re.DOTALL)) for page, body in _blocks("bash")]
    return [
        (page, words)
        for page, body in joined
        for line in body.replace("\\\n", " ").splitlines()
        if (words := shlex.split(line, comments=True))
    ]


def _settings(words: list[str]) -> dict[str, Any]:
    """What a documented command says about the configuration; files of settings are written beforehand."""
    flags = dict(pairwise(words))
    overrides = [value for flag, value in pairwise(words) if flag == "--set"]
    return {"preset": flags.get("--preset"), "overrides": overrides, "file": flags.get("--config")}


#: Files for `--config` that the pages show.
SETTINGS_FILES = [(page, body) for page, body in _blocks("yaml") if "preset" in yaml.safe_load(body)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the file of settings that `docs/how-to/sdxl.md` has its readers write."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sdxl-mine.yaml").write_text(dict(SETTINGS_FILES)["docs/how-to/sdxl.md"])
    return tmp_path


@pytest.mark.parametrize(("page", "body"), _blocks("python"))
def test_python_blocks_run(page: str, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(body, page, "exec"), {})


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("page", "words"), [(p, w) for p, w in _commands() if w[:2] == ["realcustom", "config"]])
def test_config_commands_run(page: str, words: list[str]) -> None:
    result = CliRunner().invoke(app, words[1:])
    assert result.exit_code == 0, f"{page}: {shlex.join(words)}: {result.output}"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("page", "words"), [(p, w) for p, w in _commands() if {"--set", "--config"} & set(w)])
def test_documented_settings_are_known(page: str, words: list[str]) -> None:
    load_config(**_settings(words))


@pytest.mark.parametrize(("page", "body"), SETTINGS_FILES)
def test_documented_files_of_settings_are_known(page: str, body: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(body)
    assert load_config(file=file).preset == "sdxl"


def test_key_commands_run(folder: Path) -> None:
    """In their order; the id that is revoked is the one of the first key that they have made."""
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
    assert all((PACKAGE_ROOT / "workflows" / f"{module}.py").exists() for module in modules)


def test_documented_options_exist() -> None:
    """Every option of a documented `realcustom` command is one that the command has."""
    from typer.main import get_command

    unknown = []
    for page, words in _commands():
        if words[0] != "realcustom" or words[1].startswith("-"):
            continue
        command: Any = get_command(app)
        for word in words[1:]:
            if not hasattr(command, "commands") or word not in command.commands:
                break
            command = command.commands[word]
        options = {option for parameter in command.params for option in parameter.opts}
        unknown += [f"{page}: {word}" for word in words if word.startswith("--") and word not in options]
    assert unknown == []


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), f"{target}#{anchor}"


def test_the_index_leads_to_every_page() -> None:
    index = (DOCS / "index.md").read_text()
    linked = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#\s]+\.md)", index)}
    pages = {page for kind in KINDS for page in (DOCS / kind).glob("*.md")}
    assert {page.relative_to(DOCS) for page in pages - linked} == set()
    assert {page.relative_to(DOCS) for page in DOCS.rglob("*.md")} == {p.relative_to(DOCS) for p in pages} | {
        Path("index.md"),
        Path("studio.md"),
    }


def test_every_picture_is_shown_somewhere() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in [*PAGES, PACKAGE_ROOT / "weights" / "tiny" / "README.md"]
        for target in re.findall(r"!\[[^]]*\]\(([^)\s]+)\)", page.read_text())
    }
    assert {path for path in (DOCS / "images").rglob("*") if path.is_file()} <= shown


def test_paths_in_code_comments_exist() -> None:
    """Code that names a page of the documentation names one that is there."""
    folders = ("components", "deploy", "workflows", "tools", "benchmarks", "tests")
    files = [path for folder in folders for path in (PACKAGE_ROOT / folder).rglob("*.py")]
    files += [*PACKAGE_ROOT.glob("*.yaml"), PACKAGE_ROOT / "deploy" / "serve.yaml"]
    named = {
        (str(path.relative_to(PACKAGE_ROOT)), page)
        for path in files
        for page in re.findall(r"\bdocs/[\w/-]+\.(?:md|png)", path.read_text())
    }
    assert {each for each in named if not (PACKAGE_ROOT / each[1]).exists()} == set()


def _code(*folders: str) -> dict[Path, str]:
    return {path: path.read_text() for folder in folders for path in (PACKAGE_ROOT / folder).rglob("*.py")}


def test_files_named_in_contributing_exist() -> None:
    """Paths from the root; names without a folder are those of a file somewhere."""
    named = set(re.findall(r"`([\w./-]+\.(?:py|md|yaml))`", (PACKAGE_ROOT / "CONTRIBUTING.md").read_text()))
    names = {path.name for path in [*_code("components", "deploy", "tests"), *DOCS.rglob("*.md")]}
    assert len(named) > 20
    assert {each for each in named if not (PACKAGE_ROOT / each).exists() and each not in names} == set()


def test_names_of_code_in_contributing_exist() -> None:
    quoted = re.findall(r"`(\w+(?:=\w+)?)`", (PACKAGE_ROOT / "CONTRIBUTING.md").read_text())
    names = {name for name in quoted if re.search(r"[A-Z_=]", name)}
    code = "\n".join(_code("components", "deploy").values())
    assert len(names) > 10
    assert {name for name in names if not re.search(rf"\b{name}\b", code)} == set()


def test_documented_test_selections_select_something() -> None:
    """Commands of pytest name files that exist, and their ``-k`` is part of a test's name."""
    selections = [words for _, words in _commands() if words[0].endswith("python") and words[2:3] == ["pytest"]]
    assert selections
    for words in selections:
        text = "".join((PACKAGE_ROOT / word).read_text() for word in words if word.endswith(".py"))
        assert re.search(rf"^def test_\w*{dict(pairwise(words))['-k']}", text, re.MULTILINE), shlex.join(words)


def _literals() -> str:
    """Every string literal of the code, the fixed parts of f-strings among them."""
    trees = [ast.parse(text) for text in _code("components", "deploy", "workflows").values()]
    found = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return "\n".join(value for value in found if isinstance(value, str))


def test_quoted_error_messages_are_those_of_the_code() -> None:
    """Headings of the troubleshooting page that quote a message; ``...`` stands for what varies."""
    headings = re.findall(r"^### `([^`]+)`$", (DOCS / "how-to" / "troubleshooting.md").read_text(), re.MULTILINE)
    outside = {"realcustom: command not found"}
    literals = _literals()
    parts = {part.strip() for heading in headings if heading not in outside for part in heading.split("...")}
    assert len(headings) > 20
    assert {part for part in parts if part.strip(":, ") and part not in literals} == set()


def test_the_sizes_of_rows_agree() -> None:
    """The sizes of docs/how-to/sdxl.md follow from the schema, and other pages give the same ones."""
    page, side = (DOCS / "how-to" / "sdxl.md").read_text(), 1024
    positions = (side // 8) ** 2
    text, latents, masks = 2 * (77 * 2048 + 1280), 2 * 4 * positions, 2 * 2 * positions
    half_cut_out = 3 * (2 * load_config("sdxl").vision.view_size) ** 2 / 2
    measured_at_512, more_than_at_512 = 7.9, (latents + masks) * 0.75 / 1e6
    megabytes = {
        "all": measured_at_512 + more_than_at_512,
        "latents": (text + latents + masks + half_cut_out) / 1e6,
        "text": (text + masks + half_cut_out + 3 * side**2) / 1e6,
    }
    assert f"{more_than_at_512:.2f} MB more" in page
    stated = {way: f"{size:.1f}" for way, size in megabytes.items()}
    assert "takes {all}, {latents} and {text} MB".format(**stated) in page
    for way, size in stated.items():
        (row, *_) = (line for line in page.splitlines() if line.startswith(f"| `{way}` |"))
        assert row.endswith(f"| {float(size) * 10:.0f} GB | {size} TB | {float(size) * 10:.0f} TB |")
    prepare = (DOCS / "how-to" / "prepare_data.md").read_text()
    assert f"take about {megabytes['all']:.0f} MB each" in prepare
    smaller = [megabytes["all"] / megabytes[way] for way in ("latents", "text")]
    assert "about {:.0f} and {:.0f} times smaller".format(*smaller) in prepare
    assert f"1,000 rows (about {megabytes['all']:.0f} GB" in (PACKAGE_ROOT / "README.md").read_text()
