"""Measure what hostile or unlucky requests, and failures beside the service, do to it.

``python -m benchmarks.hostile [--json] [--only PART ...]`` starts the service as it is deployed, with a miniature. All
parts together take half an hour, of which the overload takes ten minutes (``--soak``). The part ``outages`` needs
PostgreSQL and moto, the part ``field`` a folder of inputs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.hostile import field
from benchmarks.hostile.bodies import bodies
from benchmarks.hostile.fairness import fairness
from benchmarks.hostile.field_uploads import ORIGINS
from benchmarks.hostile.outages import measure_outages
from benchmarks.hostile.overload import overload
from benchmarks.hostile.pictures import pictures
from benchmarks.hostile.service import Studio, studio
from benchmarks.hostile.sizes import sizes
from benchmarks.machine import machine
from components.config import load_config
from components.errors import ConfigError
from components.progress import quiet_libraries
from workflows.entry import one_line_errors

logger = logging.getLogger(__name__)

PARTS = ("field", "pictures", "fairness", "bodies", "sizes", "soak", "outages")
AIMS = {
    "field_failures": "0",
    "picture_failures": "none",
    "second_key_p99_ratio": "at most 3",
    "event_loop_s": "below 0.5",
    "outages": "0",
    "errors_other_than_429_503": "0",
    "rss_growth": "below 0.05",
    "jobs_lost": "0",
    "jobs_doubled": "0",
    "charged_not_delivered": "0",
}


def main() -> None:
    arguments = _arguments()
    quiet_libraries()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="realcustom-") as work, one_line_errors():
        report = measure(arguments, Path(work)) | {"machine": machine()}
    _print(report)
    if arguments.json:
        print(json.dumps(report))


def measure(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """The values of the report; files are written to ``work``."""
    report: dict[str, Any] = {"parts": arguments.only, "seconds": {}, "part_errors": {}}
    inputs, found = work / "field", dict[str, str]()
    if "field" in arguments.only:
        field.write_inputs(arguments.field, inputs)
        with _Part("field", report):
            found |= field.others(inputs, work / "waiting")
    if set(arguments.only) - {"outages"}:
        settings = [ORIGINS] if _is_setting(arguments.preset, ORIGINS) else []
        with studio(arguments.preset, work / "service", [*settings, *arguments.set]) as service:
            for name, run in _parts(arguments, inputs, found).items():
                if name in arguments.only:
                    with _Part(name, report):
                        report |= asyncio.run(run(service))  # type: ignore[arg-type]
    if found:
        report |= field.field_figures(found)
    if "outages" in arguments.only:
        with _Part("outages", report):
            report |= asyncio.run(measure_outages(arguments.preset, work / "outages", arguments.hole, arguments.rate))
    return report


Run = Callable[[Studio], Awaitable[dict[str, Any]]]


def _parts(arguments: argparse.Namespace, inputs: Path, found: dict[str, str]) -> dict[str, Run]:
    """The parts that one service is enough for; the overload is the last one."""

    async def uploads(service: Studio) -> dict[str, Any]:
        found.update(await field.uploads(service, inputs))
        return {}

    return {
        "field": uploads,
        "pictures": pictures,
        "fairness": lambda s: fairness(s, arguments.requests, arguments.parallel, arguments.steps),
        "bodies": bodies,
        "sizes": lambda s: sizes(s, arguments.sizes),
        "soak": lambda s: overload(s, arguments.soak),
    }


class _Part:
    """Times a part. A failure of one part is reported beside the results of the others."""

    def __init__(self, name: str, report: dict[str, Any]) -> None:
        self._name, self._report = name, report

    def __enter__(self) -> None:
        logger.info("%s ...", self._name)
        self._started = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        seconds = self._report["seconds"]
        seconds[self._name] = seconds.get(self._name, 0.0) + time.perf_counter() - self._started
        if not isinstance(error, Exception):
            return False
        logger.exception("%s failed", self._name)
        self._report["part_errors"][self._name] = f"{type(error).__name__}: {error}"
        return True


def _is_setting(preset: str, setting: str) -> bool:
    try:
        load_config(preset, [setting])
    except ConfigError:
        return False
    return True


def _print(report: dict[str, Any]) -> None:
    table = Table("figure", "measured", "aim")
    for name, aim in AIMS.items():
        if name in report:
            value = report[name]
            table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value), aim)
    for name, said in {**report.get("field", {}), **report["part_errors"]}.items():
        table.add_row(name, said, "")
    Console().print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--field", type=Path, default=Path("../shared/field"), help="folder with make_inputs.py")
    parser.add_argument("--requests", type=int, default=40, help="fairness: of the second key, alone and beside")
    parser.add_argument("--parallel", type=int, default=40, help="fairness: requests of the first key at a time")
    parser.add_argument("--steps", type=int, default=8, help="fairness: of each image")
    parser.add_argument("--sizes", type=float, default=120, metavar="SECONDS", help="of small requests beside large")
    parser.add_argument("--soak", type=float, default=600, metavar="SECONDS", help="of twice the capacity")
    parser.add_argument("--hole", type=float, default=60, metavar="SECONDS", help="of database and store, each")
    parser.add_argument("--rate", type=float, default=2, help="outages: jobs a second")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="configuration override")
    return parser.parse_args()


if __name__ == "__main__":
    main()
