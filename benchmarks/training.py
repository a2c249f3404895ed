"""Speed and memory of training, compared with plain PyTorch loops over the same model.

    python -m benchmarks.training --json

A toy world is rendered and prepared; then the implementations alternate, each in its own process with one thread per
worker. docs/explanation/performance.md defines the figures.
``--json`` prints one object on the last line.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.learning.loops import WARM_UP, encoding_rate, plain_rate
from benchmarks.learning.ranks import memory_by_rank
from benchmarks.machine import machine
from components.config import Config, load_config
from components.progress import quiet_libraries
from workflows.entry import one_line_errors

AIMS = {
    "one_worker_over_plain": "at least 0.95",
    "over_in_step_encoding": "at least 1.3",
    "two_workers_over_one": "the more the better, at most 2",
    "data_wait_share": "below 0.05",
}
#: Widths of the projector whose memory is measured.
_WIDTHS = (256, 8192, 32_768, 131_072)


def ray_rate(config: Config) -> dict[str, float]:
    """Samples per second between the first and last metrics of a Ray Train run, and the share of time spent waiting."""
    from components.registry.tracker import MlflowTracker
    from components.training.journal import Entry
    from components.training.launch import train, training_fingerprint
    from components.training.run_directory import RunDirectory

    train(config, MlflowTracker(config))
    name = f"{config.training.name}-{training_fingerprint(config)}"
    lines = RunDirectory(config.training.output.absolute(), name).journal.read_text().splitlines()
    entries = [entry for line in lines if "loss" in (entry := Entry(**json.loads(line))).metrics]
    first, last = entries[0], entries[-1]
    rows = (last.step - first.step) * config.training.batch_size * config.training.lanes
    waits = [entry.metrics["data_wait_share"] for entry in entries[1:]]
    return {"rate": rows / (last.time - first.time) * 1000, "data_wait_share": sum(waits) / len(waits)}


def measure(config: Config, rounds: int) -> dict[str, Any]:
    """The values of the report."""
    plain, encoding, one, two, waits = [], [], [], [], []
    for turn in range(rounds):
        plain.append(_apart(plain_rate, config))
        one.append(found := _apart(ray_rate, _named(config, f"one-{turn}", 1)))
        encoding.append(_apart(encoding_rate, config))
        two.append(_apart(ray_rate, _named(config, f"two-{turn}", 2)))
        waits.append(found["data_wait_share"])
    ours = [found["rate"] for found in one]
    return {
        "one_worker_over_plain": _ratio(ours, plain),
        "over_in_step_encoding": _ratio(ours, encoding),
        "two_workers_over_one": _ratio([found["rate"] for found in two], ours),
        "data_wait_share": median(waits),
        "samples_per_second": {"plain": plain, "one_worker": ours, "in_step_encoding": encoding, "two_workers": two},
        "memory": [_apart(memory_by_rank, config, width, kind) for width in _WIDTHS for kind in ("ddp", "fsdp")],
    }


def _named(config: Config, name: str, workers: int) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update={"name": name, "workers": workers})})


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return median(ours) / median(theirs)


def _apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function`` in a fresh process with one thread."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return pool.submit(function, *arguments).result()


def _prepare(config: Config) -> None:
    from components.data.prepare import prepare
    from components.world.write import write_world

    quiet_libraries()
    write_world(config.world, seed=0)
    prepare(config)


def main() -> None:
    arguments = _arguments()
    quiet_libraries()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as work, one_line_errors():
        config = load_config(
            "tiny",
            [
                "world.identities=100",
                f"world.output={work}/world",
                f"data.source={work}/world",
                f"data.output={work}/prepared",
                "data.duplicates=keep",
                "data.validation_share=0",
                f"training.dataset={work}/prepared",
                f"training.output={work}/training",
                f"training.steps={arguments.steps}",
                f"training.checkpoint_every={arguments.steps}",
                f"training.sample_every={arguments.steps}",
                "training.workers=1",
                "model.adapter=null",
                f"registry.tracking_uri=sqlite:///{work}/mlflow.db",
                f"registry.artifacts={work}/artifacts",
                "sampling.steps=2",
                *arguments.set,
            ],
        )
        _apart(_prepare, config)
        report = measure(config, arguments.rounds) | {"steps": arguments.steps, "machine": machine()}
    table = Table("figure", "measured", "aim")
    for name, aim in AIMS.items():
        table.add_row(name, f"{report[name]:.3f}", aim)
    Console().print(table)
    if arguments.json:
        print(json.dumps(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--steps", type=_steps, default=50, help=f"of a run, the first {WARM_UP} are not timed")
    parser.add_argument("--rounds", type=int, default=3, help="turns of the implementations")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="configuration override")
    return parser.parse_args()


def _steps(text: str) -> int:
    if int(text) <= WARM_UP or int(text) % 10:
        raise argparse.ArgumentTypeError(f"a multiple of 10 above {WARM_UP}")
    return int(text)


if __name__ == "__main__":
    main()
