"""Speed of the service, compared with the same pipeline in a plain FastAPI server.

    python -m benchmarks.serving --json
    python -m benchmarks.serving --rounds 0 --soak 600 --json

Both servers run in their own processes on the whole machine and alternate: each gets the same requests in turn. The
service has as many replicas as fit, with as many threads per pipeline as the plain server has.
docs/explanation/performance.md defines the figures. ``--json`` prints one object on the last line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.service.figures import Round, figures
from benchmarks.service.load import keep_busy, short_among_long
from benchmarks.service.server_process import Answer, Plain, Scene, Service, open_client, register_adapter, running
from benchmarks.service.soak import soak
from components.config import load_config
from components.evaluation.toybench import cases
from components.progress import quiet_libraries
from workflows.entry import one_line_errors

logger = logging.getLogger(__name__)

AIMS = {
    "throughput_over_plain": "at least 1.5",
    "short_p99_over_plain": "at most 0.35",
    "overhead_ms": "at most 10 % + 15 ms",
    "overhead_share": "",
    "overhead_over_limit": "at most 1",
    "stored_character_saves_s": "the more the better",
}
_ASKED = ("rounds", "replicas", "threads", "clients", "requests", "preset", "seed")
#: Steps of a short and of a long request, and the number of clients with long ones.
_STEPS, _LONGS = (4, 50), 4


def main() -> None:
    arguments = _arguments()
    quiet_libraries()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="realcustom-") as work, one_line_errors():
        report = measure(arguments, work) | {"machine": machine()}
    _print(report)
    if arguments.json:
        print(json.dumps(report))


def measure(arguments: argparse.Namespace, work: str) -> dict[str, Any]:
    """The values of the report; files are written to ``work``."""
    overrides = [
        f"registry.tracking_uri=sqlite:///{work}/mlflow.db",
        f"registry.artifacts={work}/artifacts",
        f"serving.store={work}/store",
        "serving.port=0",
        f"serving.min_replicas={arguments.replicas}",
        f"serving.max_replicas={arguments.replicas}",
        f"serving.generator_threads={arguments.threads}",
        *(["serving.jobs.max_queued=50"] if arguments.soak else []),
        *arguments.set,
    ]
    register_adapter(arguments.preset, overrides)
    case = cases(1, arguments.seed, load_config(arguments.preset, overrides))[0]
    scene = Scene(case.wanted.prompt, case.identity.kind, case.reference)
    asked = {name: getattr(arguments, name) for name in _ASKED}
    with running("benchmarks.service.ours", arguments.preset, overrides, arguments.threads) as (url, process):
        report: dict[str, Any] = {}
        if arguments.rounds:
            with running("benchmarks.service.plain", arguments.preset, overrides, arguments.threads) as (plain, _):
                report = asyncio.run(_compare(url, plain, scene, arguments))
        if arguments.soak:
            report["soak"] = asyncio.run(_soak(url, scene, process, arguments.soak))
    return report | {"asked": asked}


async def _compare(url: str, plain_url: str, scene: Scene, arguments: argparse.Namespace) -> dict[str, Any]:
    async with open_client(url) as client, open_client(plain_url) as plain_client:
        ours, plain = await Service.prepare(client, scene), await Plain.prepare(plain_client, scene)
        steps = arguments.steps or load_config(arguments.preset, arguments.set).sampling.steps
        for target in (ours, plain):
            await keep_busy(target, arguments.clients, 2 * arguments.clients, steps)
        rounds = [await _round(ours, plain, scene, arguments, steps, turn) for turn in range(arguments.rounds)]
    return figures(rounds) | {"steps": steps}


async def _round(
    ours: Service, plain: Plain, scene: Scene, arguments: argparse.Namespace, steps: int, turn: int
) -> Round:
    """One round of each measurement; the servers alternate in starting it."""
    order: list[Service | Plain] = [ours, plain] if turn % 2 == 0 else [plain, ours]
    rates, shorts, alone = {}, {}, {id(ours): [], id(plain): []}
    for target in order:
        loaded = await keep_busy(target, arguments.clients, arguments.requests, steps)
        _check(loaded.answers)
        rates[id(target)] = loaded.rate
    for _ in range(arguments.single):
        for target in order:
            alone[id(target)].append(await target.generate(turn, steps))
    for target in order:
        shorts[id(target)] = await short_among_long(target, _LONGS, arguments.shorts, _STEPS)
    for answers in (*alone.values(), *shorts.values()):
        _check(answers)
    stored, uploaded, encoding = await _characters(ours, scene, arguments.single, steps)
    logger.info("round %d: %.2f pictures a second, plain %.2f", turn, rates[id(ours)], rates[id(plain)])
    return Round(
        ours=rates[id(ours)],
        plain=rates[id(plain)],
        our_shorts=[answer.seconds for answer in shorts[id(ours)]],
        plain_shorts=[answer.seconds for answer in shorts[id(plain)]],
        our_alone=[answer.seconds for answer in alone[id(ours)]],
        bare=[answer.body["bare_s"] for answer in alone[id(plain)]],
        stored=stored,
        uploaded=uploaded,
        encoding=encoding,
    )


async def _characters(
    ours: Service, scene: Scene, repeats: int, steps: int
) -> tuple[list[float], list[float], list[float]]:
    """Seconds of a picture with a stored character, with one that is uploaded for it, and of the encoding in that."""
    stored, uploaded, encoding = [], [], []
    loop = asyncio.get_running_loop()
    for seed in range(repeats):
        stored.append((await ours.generate(seed, steps)).seconds)
        started = loop.time()
        new = await Service.prepare(ours.client, scene)
        first = await new.generate(seed, steps)
        uploaded.append(loop.time() - started)
        encoding.append(first.body["timings"]["subject_s"])
        await new.forget()
    return stored, uploaded, encoding


async def _soak(url: str, scene: Scene, process: int, seconds: float) -> dict[str, Any]:
    async with open_client(url) as client:
        return await soak(await Service.prepare(client, scene), process, seconds)


def _check(answers: Sequence[Answer]) -> None:
    wrong = [answer.status for answer in answers if answer.status != 200]
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {len(answers)} requests ended with {wrong[0]}: the figures mean nothing")


def _print(report: dict[str, Any]) -> None:
    table = Table("figure", "measured", "aim")
    for name, aim in AIMS.items():
        if name in report:
            table.add_row(name, f"{report[name]:.3f}", aim)
    for name, aim in (("other_answers", "0"), ("jobs_done", "all accepted"), ("memory_growth", "below 0.05")):
        if "soak" in report:
            found = report["soak"][name]
            table.add_row(f"soak: {name}", f"{found:.3f}" if isinstance(found, float) else str(found), aim)
    Console().print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--rounds", type=int, default=3, help="turns of the servers; 0 leaves the comparison out")
    parser.add_argument("--clients", type=int, default=8, help="at the same time, for the throughput")
    parser.add_argument("--requests", type=int, default=32, help="of all these clients together in a round")
    parser.add_argument("--single", type=int, default=8, help="requests that are alone, in a round")
    parser.add_argument("--shorts", type=int, default=12, help="short requests among long ones, in a round")
    parser.add_argument("--steps", type=int, help="of a picture; the preset's by default")
    parser.add_argument("--threads", type=int, default=1, help="processor threads of every pipeline")
    parser.add_argument("--replicas", type=int, help="of the generator; as many as there are processors by default")
    parser.add_argument("--soak", type=float, default=0, metavar="SECONDS", help="of twice the service's capacity")
    parser.add_argument("--seed", type=int, default=20_000)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="configuration override")
    arguments = parser.parse_args()
    arguments.replicas = arguments.replicas or max(1, (os.cpu_count() or 1) // arguments.threads)
    return arguments


if __name__ == "__main__":
    main()
