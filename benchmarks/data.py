"""Speed and memory of preparation, compared with torch's `DataLoader` with as many processes.

    python -m benchmarks.data --json
    python -m benchmarks.data --only decode,first_batch --json

The source is a newly rendered toy world. Every measurement runs in its own process with its own Ray; compared
implementations alternate in it. docs/explanation/performance.md defines the figures.
``--json`` prints one object on the last line.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from components.config import Config, load_config
from components.progress import quiet_libraries, track
from workflows.entry import one_line_errors

logger = logging.getLogger(__name__)

PARTS = ("decode", "end_to_end", "first_batch", "growth", "nodes")
#: Rows whose seconds and memory are compared: the first with the last for time, the second with it for memory.
SIZES = (2_000, 5_000, 20_000)
#: Rows of the measurements on one node and on two.
FEW = 4_000
AIMS = {
    "decode_over_dataloader": "at least 1.0",
    "end_to_end_over_dataloader": "at least 1.2",
    "first_batch_s": "at most 5",
    "row_time_growth": "at most 1.1",
    "peak_rss_growth": "about 1",
    "two_nodes_over_one": "the more the better, at most 2",
}
#: Side of the JPEGs that are decoded, and of what they are resized to.
_PHOTOGRAPH, _RESIZED = 512, 256


@dataclass(frozen=True)
class Job:
    """Parameters of all measurements: the directory of the images, their number, and the number of processes."""

    root: Path
    rows: int
    processes: int
    rounds: int
    overrides: tuple[str, ...]

    def config(self, name: str, rows: int | None = None) -> Config:
        """The tiny preset over the first ``rows`` of the world, prepared into a directory called ``name``."""
        return load_config(
            "tiny",
            [
                f"data.source={self.root}/world/{rows or self.rows}.jsonl",
                f"data.output={self.root}/{name}",
                f"data.encoders={self.processes - 1}",
                "data.curators=1",
                "data.duplicates=keep",
                *self.overrides,
            ],
        )


def decode(job: Job) -> dict[str, Any]:
    """Pictures a second through decode and resize."""
    import ray

    from benchmarks.loading.decoding import data_loader, ray_data, take_turns

    ray.init(num_cpus=job.processes, include_dashboard=False, log_to_driver=False)
    files = sorted(str(file) for file in (job.root / "photographs").iterdir())
    readers = {make.__name__: make(files, _RESIZED, job.processes) for make in (ray_data, data_loader)}
    seconds = take_turns(readers, len(files), job.rounds)
    rates = {name: len(files) / median(runs) for name, runs in seconds.items()}
    return {
        "decode_over_dataloader": rates["ray_data"] / rates["data_loader"],
        "decode_pictures_per_second": rates,
        "decode_seconds": seconds,
    }


def end_to_end(job: Job) -> dict[str, Any]:
    """Rows per second from the source to shards, once per implementation, including the start of all processes."""
    from benchmarks.loading.script import prepare_by_script

    seconds, ours = _prepare(job, "by-ray", job.rows)
    start = time.perf_counter()
    done = prepare_by_script(job.config("by-script"), job.root / "by-script", job.processes)
    by_script = time.perf_counter() - start
    if not done == ours == job.rows:
        raise RuntimeError(f"of {job.rows} rows {ours} were prepared here, {done} by the script")
    return {
        "end_to_end_over_dataloader": by_script / seconds,
        "end_to_end_rows_per_second": {"ray_data": job.rows / seconds, "data_loader": job.rows / by_script},
    }


def prepared(job: Job) -> dict[str, Any]:
    """Prepare the dataset of `end_to_end` with Ray Data only."""
    return {"seconds": _prepare(job, "by-ray", job.rows)[0]}


def growth(job: Job, rows: int) -> dict[str, Any]:
    """Seconds of preparing ``rows`` without near-duplicates, after the start of Ray."""
    usual = replace(job, overrides=(*job.overrides, "data.duplicates=reject"))
    seconds, _ = _prepare(usual, f"of-{rows}", rows)
    return {"seconds": seconds}


def nodes(job: Job, count: int) -> dict[str, Any]:
    """Seconds of preparation on ``count`` Ray nodes of one core each, with one curator and one encoder per node."""
    import ray
    from ray.cluster_utils import Cluster

    cores = sorted(os.sched_getaffinity(0))
    cluster = Cluster()
    for core in cores[:count]:
        os.sched_setaffinity(0, {core})  # which what is started from here inherits
        cluster.add_node(num_cpus=2, include_dashboard=False)
    os.sched_setaffinity(0, cores)
    cluster.wait_for_nodes()
    shared = replace(job, overrides=(*job.overrides, f"data.encoders={count}", f"data.curators={count}"))
    try:
        seconds, _ = _prepare(shared, f"on-{count}-nodes", job.rows, address=cluster.address)
    finally:
        ray.shutdown()  # a node with a connected driver cannot be removed
        cluster.shutdown()
    return {"seconds": seconds}


def first_batch(job: Job) -> dict[str, Any]:
    """Seconds from a prepared dataset to the first training batch, once Ray and its processes have started."""
    import ray.data

    from components.cluster import connect
    from components.training.batches import read_batches

    connect(job.processes)
    started = ray.data.range(job.processes, override_num_blocks=job.processes)
    started.map_batches(lambda batch: batch).materialize()  # what a process imports first is not the dataset's
    config = job.config("by-ray")
    start = time.perf_counter()
    batch = next(read_batches(config.data.output, config.training))
    return {"first_batch_s": time.perf_counter() - start, "first_batch_rows": len(batch["latents"])}


def _prepare(job: Job, name: str, rows: int, address: str | None = None) -> tuple[float, int]:
    """Prepare the first ``rows``; returns the seconds and the number of prepared rows."""
    import ray

    from components.cluster import connect
    from components.data.prepare import prepare

    quiet_libraries()
    if address is not None:
        ray.init(address=address, log_to_driver=False)
    connect(job.processes)
    config = job.config(name, rows)
    start = time.perf_counter()
    made = prepare(config)
    return time.perf_counter() - start, made.manifest.rows_out


def apart(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run ``measure`` in its own process; returns its result and the peak memory of the process and its children."""
    from benchmarks.loading.memory import TreePeak

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pid = pool.submit(_own_pid).result()
        with TreePeak(pid) as peak:
            found = pool.submit(_told, measure, *arguments).result() | {"peak_mib": peak.mib}
    logger.info("%s %s: %s", measure.__name__, arguments[1:], found)  # a later one may fail
    return found


def _told(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """``measure``, with errors converted to picklable ones; not all of Ray's are."""
    try:
        return measure(*arguments)
    except Exception as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from None


def write_sources(job: Job, identities: int, photographs: bool) -> None:
    """Write the toy world, lists of its first rows for each size and, if requested, photographs to decode."""
    from components.world.write import PAIRS, write_world

    world = load_config("tiny", [f"world.identities={identities}", f"world.output={job.root}/world"]).world
    lines = (write_world(world, seed=0) / PAIRS).read_text().splitlines()
    for rows in {job.rows, *SIZES, FEW}:
        (world.output / f"{rows}.jsonl").write_text("\n".join(lines[:rows]))
    if not photographs:
        return
    files = [world.output / json.loads(line)["image"] for line in lines[: job.rows]]
    (job.root / "photographs").mkdir()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(track(pool.map(partial(_photograph, job.root / "photographs"), files), "enlarge", len(files)))


def _photograph(folder: Path, picture: Path) -> None:
    with Image.open(picture) as small:
        small.resize((_PHOTOGRAPH, _PHOTOGRAPH)).save(folder / f"{picture.stem}.jpg", quality=90)


def measure(job: Job, only: Sequence[str]) -> dict[str, Any]:
    """The values of the report."""
    report: dict[str, Any] = {}
    if "decode" in only:
        report |= apart(decode, job)
    if "end_to_end" in only:
        report |= apart(end_to_end, job)
    elif "first_batch" in only:
        apart(prepared, job)
    if "first_batch" in only:
        report |= apart(first_batch, job)
    if "growth" in only:
        grown = {rows: apart(growth, job, rows) for rows in SIZES}
        few, some, many = SIZES
        report["row_time_growth"] = (grown[many]["seconds"] / many) / (grown[few]["seconds"] / few)
        report["peak_rss_growth"] = grown[many]["peak_mib"] / grown[some]["peak_mib"]
        report["growth"] = {str(rows): found for rows, found in grown.items()}
    if "nodes" in only:
        small = replace(job, rows=FEW)
        seconds = {count: apart(nodes, small, count)["seconds"] for count in (1, 2)}
        report["two_nodes_over_one"] = seconds[1] / seconds[2]
        report["nodes_s"] = {str(count): taken for count, taken in seconds.items()}
    report.pop("peak_mib", None)
    return report


def main() -> None:
    arguments = _arguments()
    quiet_libraries()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory(dir=arguments.work) as work, one_line_errors():
        overrides = tuple(arguments.set)
        job = Job(Path(work), arguments.rows, arguments.processes, arguments.rounds, overrides)
        most = max(job.rows, *SIZES) if "growth" in arguments.only else job.rows
        write_sources(job, -(-most // load_config("tiny").world.pictures_per_identity), "decode" in arguments.only)
        report = measure(job, arguments.only) | {"rows": job.rows, "processes": job.processes, "machine": machine()}
    table = Table("figure", "measured", "aim")
    for name, aim in AIMS.items():
        if name in report:
            table.add_row(name, f"{report[name]:.3f}", aim)
    Console().print(table)
    if arguments.json:
        print(json.dumps(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--rows", type=int, default=5_000, help="pictures that each implementation is given")
    parser.add_argument(
        "--processes", type=int, default=2, help="of each implementation, the one that encodes included"
    )
    parser.add_argument("--rounds", type=int, default=3, help="timed passes of decoding")
    parser.add_argument("--only", type=_parts, default=PARTS, help=f"some of {','.join(PARTS)}")
    parser.add_argument("--work", help="directory for pictures and datasets (half a gigabyte)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="configuration override")
    return parser.parse_args()


def _parts(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if unknown := set(chosen) - set(PARTS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; choose of {', '.join(PARTS)}")
    return chosen


def _own_pid() -> int:
    quiet_libraries()
    return os.getpid()


if __name__ == "__main__":
    main()
