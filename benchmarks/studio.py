"""Time to a large story's board in a browser, and the size of the scripts that it needs.

    python -m benchmarks.studio --json

A story of 100 panels with five takes each is imported into a service on its own Ray cluster, once a round, so that no
thumbnail is there yet; a browser without a cache then opens its board. ``board_ms`` is the median time from the
navigation until every panel in the window shows its picture. ``script_kb`` counts the scripts loaded by then, in
thousands of bytes, compressed as the service sends them. Needs the built studio, Playwright and Debian's Chromium.
``--json`` prints one object on the last line.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import tempfile
import zipfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.service.server_process import register_adapter, running
from components.config import load_config
from components.errors import DataError
from components.evaluation.toybench import cases
from components.pictures import to_png
from components.progress import quiet_libraries
from components.stories.export.archive import ArchivedPanel, ArchivedSettings, ArchivedTake, Manifest
from deploy.api.studio import DIST
from workflows.entry import one_line_errors

if TYPE_CHECKING:
    from playwright.sync_api import Browser

AIMS = {"board_ms": "at most 1000", "script_kb": "at most 250"}
_CHROMIUM = Path("/usr/bin/chromium")
_WINDOW = {"width": 1440, "height": 900}
_TIMEOUT_S = 600.0
#: The time since the navigation, once every panel in the window shows its picture; false before.
_SHOWN = """() => {
    const cards = [...document.querySelectorAll('main ol > li')];
    const seen = cards.filter((card) => card.getBoundingClientRect().top < innerHeight);
    const shown = (card) => [...card.querySelectorAll('img')].some((image) => image.complete && image.naturalWidth > 0);
    return seen.length > 0 && seen.every(shown) && performance.now();
}"""
_SCRIPTS = """() => performance.getEntriesByType('resource')
    .filter((entry) => new URL(entry.name).pathname.endsWith('.js'))
    .reduce((sum, entry) => sum + entry.encodedBodySize, 0)"""


def main() -> None:
    arguments = _arguments()
    quiet_libraries()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory(prefix="realcustom-") as work, one_line_errors():
        report = measure(arguments, work) | {"machine": machine()}
    table = Table("figure", "measured", "aim")
    for name, aim in AIMS.items():
        table.add_row(name, f"{report[name]:.0f}", aim)
    Console().print(table)
    if arguments.json:
        print(json.dumps(report))


def measure(arguments: argparse.Namespace, work: str) -> dict[str, Any]:
    """Everything the report says; files go to the folder ``work``."""
    for need in (DIST / "index.html", _CHROMIUM):
        if not need.exists():
            raise DataError(f"{need} is missing: run `make studio chromium`")
    from playwright.sync_api import sync_playwright

    overrides = [
        f"registry.tracking_uri=sqlite:///{work}/mlflow.db",
        f"registry.artifacts={work}/artifacts",
        f"serving.store={work}/store",
        "serving.port=0",
        "serving.max_replicas=1",
    ]
    register_adapter("tiny", overrides)
    archive = story_archive(arguments.panels, arguments.takes)
    rounds: list[dict[str, float]] = []
    with running("benchmarks.service.ours", "tiny", overrides, 1) as (url, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(_CHROMIUM), args=["--no-sandbox"])
        for _ in range(arguments.rounds + 1):
            rounds.append(open_board(browser, url, import_story(url, archive)))
        browser.close()
    first, *timed = rounds
    times = [each["board_ms"] for each in timed]
    return {
        "board_ms": median(times),
        "script_kb": timed[0]["script_bytes"] / 1000,
        "spread": {"board_ms": {"low": min(times), "high": max(times)}},
        "first_ms": first["board_ms"],
        "asked": {"panels": arguments.panels, "takes": arguments.takes, "rounds": arguments.rounds},
    }


def story_archive(panels: int, takes: int) -> bytes:
    """A story's archive whose takes are pictures of the toy world."""
    drawn = [to_png(case.reference) for case in cases(panels, 0, load_config("tiny", []))]
    settings = ArchivedSettings(prompt="a robot", revised_prompt="a robot", steps=20, guidance_scale=3.5)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        manifest = Manifest(title="A hundred panels")
        for number in range(panels):
            made = []
            for take in range(takes):
                name = f"takes/{number}-{take}.png"
                archive.writestr(name, drawn[(number + take) % panels])
                one = {"id": f"{number}-{take}", "file": name, "created": 0.0, "seed": take, "current": True}
                made.append(ArchivedTake(**one, model="realcustom-tiny", model_version="1", settings=settings))
            manifest.panels.append(ArchivedPanel(prompt=["a robot"], chosen=made[-1].id, takes=made))
        archive.writestr("manifest.json", manifest.model_dump_json())
    return buffer.getvalue()


def import_story(url: str, archive: bytes) -> str:
    """The id of the imported story."""
    answer = httpx.post(f"{url}/v1/stories/import", files={"file": ("story.zip", archive)}, timeout=_TIMEOUT_S)
    return str(answer.raise_for_status().json()["id"])


def open_board(browser: Browser, url: str, story: str) -> dict[str, float]:
    """Open a story's board with nothing cached; milliseconds until it is shown, and bytes of scripts."""
    context = browser.new_context(viewport=_WINDOW)
    page = context.new_page()
    page.goto(f"{url}/studio/#/stories/{story}/board", wait_until="commit")
    shown = page.wait_for_function(_SHOWN, polling="raf", timeout=1000 * _TIMEOUT_S).json_value()
    scripts = page.evaluate(_SCRIPTS)
    context.close()
    return {"board_ms": float(shown), "script_bytes": float(scripts)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--panels", type=int, default=100)
    parser.add_argument("--takes", type=int, default=5, help="of each panel")
    parser.add_argument("--rounds", type=int, default=5, help="that are timed, after one that is not")
    return parser.parse_args()


if __name__ == "__main__":
    main()
