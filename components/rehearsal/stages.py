"""The stages of a rehearsal: the commands that people use, in their order, on one head node."""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pyarrow.parquet as pq
from safetensors import safe_open

from components.config import Config
from components.data.manifest import REFERENCES, SHARDS, load_manifest
from components.errors import RealCustomError
from components.pretraining.random_sdxl import judge_parts, save_random_release, save_random_sdxl, sdxl_parts
from components.rehearsal.drawn_characters import draw_characters
from components.rehearsal.head_node import HeadNode, free_port
from components.rehearsal.report import Value
from components.rehearsal.settings import FULL, Places
from components.rehearsal.written_inputs import captions, rows, write_dreambench, write_pictures, write_table
from components.training.dataset_rows import split_pieces
from components.training.partners import Partners

logger = logging.getLogger(__name__)
#: Seconds that a command may take, and that the service may take to be ready.
_COMMAND_S = 3600.0
#: Exit status of a promotion whose candidate did not pass.
_NOT_PROMOTED = 3
_POLL_S = 0.5
#: Epochs over which partners are counted.
_EPOCHS = 8
#: Process of a training worker, as `ray` names it.
TRAIN_WORKER = "ray::RayTrainWorker"


@dataclass(frozen=True)
class Rehearsal:
    """What the stages share."""

    config: Config
    places: Places
    node: HeadNode

    @property
    def full(self) -> bool:
        return self.config.preset == FULL

    @property
    def settings(self) -> tuple[str, str]:
        """Options that every command takes."""
        return ("--config", str(self.places.settings.absolute()))


Values = Mapping[str, Value]
Stage = Callable[[Rehearsal], Values]


def write_inputs(rehearsal: Rehearsal) -> Values:
    """Photographs, a DreamBench folder, a table; with the preset sdxl, weights. What is there is kept."""
    config, places = rehearsal.config, rehearsal.places
    write_pictures(places.pictures, config.sampling.width, config.seed)
    write_dreambench(places.pictures, places.dreambench)
    write_table(places.pictures)
    if rehearsal.full:
        words = captions(places.pictures)
        save_random_sdxl(
            places.weights, words, config.seed, parts=lambda tokens: (*sdxl_parts(tokens), *judge_parts(tokens))
        )
        if not places.release.exists():
            save_random_release(places.release, config.seed)
    return {"photographs": len(rows(places.pictures))}


def convert(rehearsal: Rehearsal) -> Values:
    """Convert the random release."""
    release, adapter = (str(place.absolute()) for place in (rehearsal.places.release, rehearsal.places.adapter))
    rehearsal.node.submit("workflows.convert", "--from", release, "--to", adapter, timeout_s=_COMMAND_S)
    return {}


def register(rehearsal: Rehearsal) -> Values:
    """Register the converted adapter, or that of the preset, as the champion."""
    adapter = rehearsal.config.model.adapter
    if adapter is None:
        raise RealCustomError("model.adapter: a rehearsal registers an adapter; name one")
    options = ("--adapter", str(Path(adapter).absolute()), "--alias", rehearsal.config.registry.alias)
    rehearsal.node.submit("workflows.register", *options, *rehearsal.settings, timeout_s=_COMMAND_S)
    return {}


def prepare(rehearsal: Rehearsal) -> Values:
    """Prepare the photographs; measures bytes of a row, rows a minute with loading, and the partners of a row.

    ``partner_views`` are the distinct partners that a row is shown with in eight epochs, on average.
    """
    began = time.monotonic()
    rehearsal.node.submit("workflows.prepare", *rehearsal.settings, timeout_s=_COMMAND_S)
    seconds = time.monotonic() - began
    dataset = rehearsal.config.data.output
    count = load_manifest(dataset).rows_out
    return {
        "row_mb": _shards_mb(dataset) / count,
        "prepare_rows_per_min": 60 * count / seconds,
        "partner_views": _partner_views(dataset),
        "rows": count,
    }


def train(rehearsal: Rehearsal) -> Values:
    """Steps without a disturbance: samples a second of the last ones, and the memory of the worker or its GPU."""
    rehearsal.node.submit("workflows.train", *_named(rehearsal, "whole"), timeout_s=_COMMAND_S)
    last = _last_metrics(rehearsal.places.training / "whole", "whole")
    return {"train_samples_per_s": last["samples_per_second"], "train_memory_gib": last["rank_0.memory_gib"]}


def resume(rehearsal: Rehearsal) -> Values:
    """The same training, whose worker is killed after its first checkpoint; compares the two adapters."""
    node, training = rehearsal.node, rehearsal.places.training
    killed: list[int] = []

    def kill() -> None:
        killed.append(node.kill(TRAIN_WORKER))

    with _once(lambda: _has_checkpoint(training / "killed"), kill):
        node.submit("workflows.train", *_named(rehearsal, "killed"), timeout_s=_COMMAND_S)
    adapters = [_adapter(training, name) for name in ("whole", "killed")]
    return {"killed_workers": sum(killed), "resumed_equal": _equal(*adapters)}


def evaluate(rehearsal: Rehearsal) -> Values:
    """DreamBench with two prompts."""
    rehearsal.node.submit("workflows.evaluate", *rehearsal.settings, timeout_s=_COMMAND_S)
    return {}


def promote(rehearsal: Rehearsal) -> Values:
    """Compare the trained version with the champion; either outcome is one."""
    printed = rehearsal.node.submit(
        "workflows.promote", *rehearsal.settings, timeout_s=_COMMAND_S, accepts=_NOT_PROMOTED
    )
    return {"promoted": "promoted" in printed}


def batch(rehearsal: Rehearsal) -> Values:
    """A table of two prompts."""
    output = rehearsal.places.root.absolute() / "table"
    table = rehearsal.places.pictures.absolute() / "table.jsonl"
    options = ("--table", str(table), "--output", str(output))
    rehearsal.node.submit("workflows.generate", *options, *rehearsal.settings, timeout_s=_COMMAND_S)
    return {"images": pq.read_table(output / "results.parquet")["status"].to_pylist().count("done")}


def serve(rehearsal: Rehearsal) -> Values:
    """Deploy the champion, and generate with two characters.

    The image of a new character warms the process up; then come two images of another character.
    """
    node, places, port = rehearsal.node, rehearsal.places, free_port()
    size = rehearsal.config.sampling
    options = (*rehearsal.settings, "--set", f"serving.port={port}")
    file = places.root / "serve.yaml"
    file.write_text(node.call("python", "-m", "tools.serve_config", *options, timeout_s=_COMMAND_S))
    began = time.monotonic()
    node.call("serve", "deploy", file, timeout_s=_COMMAND_S)
    who = ("--owner", "rehearsal", "--name", "rehearsal", "--scopes", "characters,images,metrics")
    key = node.call("realcustom", "key", "create", *who, *options, timeout_s=_COMMAND_S)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_COMMAND_S) as client:
            client.headers["Authorization"] = f"Bearer {key.split()[-1]}"
            _wait_until_ready(client)
            deployed_s = time.monotonic() - began
            metrics = client.get("/metrics").raise_for_status().text
            drawn = draw_characters(client, places.pictures, (size.width, size.height))
    finally:
        node.call("serve", "shutdown", "-y", timeout_s=_COMMAND_S)
    return {
        "deployed_s": deployed_s,
        "load_s": _start_seconds(metrics, "load"),
        "ready_s": _start_seconds(metrics, "warm_up"),
    } | drawn


def encodings(rehearsal: Rehearsal) -> Values:
    """The dataset in each way of ``data.encode``, and a training on each; for ``latents`` also with encoders beside it.

    Measures bytes of a row, seconds of its preparation with loading, seconds of the last training step, and the share
    of the time that the worker waited for rows.
    """
    node, root = rehearsal.node, rehearsal.places.root.absolute()
    found: dict[str, Value] = {}
    ways = {"all": ("all", 0), "latents": ("latents", 0), "latents_beside": ("latents", 1), "text": ("text", 0)}
    for name, (way, encoders) in ways.items():
        dataset = root / f"prepared-{way}"
        settings = {"data.encode": way, "data.output": str(dataset), "training.dataset": str(dataset)}
        settings |= {
            "training.encoders": str(encoders),
            "training.output": str(root / "encodings"),
            "training.name": name,
        }
        options = (*rehearsal.settings, *_sets(settings))
        began = time.monotonic()
        node.submit("workflows.prepare", *options, timeout_s=_COMMAND_S)
        seconds, rows = time.monotonic() - began, load_manifest(dataset).rows_out
        if encoders == 0:
            found |= {f"row_mb.{way}": _shards_mb(dataset) / rows, f"prepare_s_per_row.{way}": seconds / rows}
        node.submit("workflows.train", *options, timeout_s=_COMMAND_S)
        last = _last_metrics(root / "encodings", name)
        found |= {
            f"step_s.{name}": rehearsal.config.training.batch_size / last["samples_per_second"],
            f"wait_share.{name}": last["data_wait_share"],
        }
        shutil.rmtree(root / "encodings")  # checkpoints and adapters of 12 GB at full size
    return found


#: Stages that are run only if they are named.
EXTRA: dict[str, Stage] = {"encodings": encodings}


def stages(full: bool) -> dict[str, Stage]:
    """The stages by name, in their order."""
    found: dict[str, Stage] = {"inputs": write_inputs}
    if full:
        found["convert"] = convert
    return found | {
        "register": register,
        "prepare": prepare,
        "train": train,
        "resume": resume,
        "evaluate": evaluate,
        "promote": promote,
        "batch": batch,
        "serve": serve,
    }


def _last_metrics(training: Path, name: str) -> Mapping[str, float]:
    """The last metrics of the steps of the training ``name`` below ``training``."""
    (journal,) = training.glob(f"{name}-*.journal.jsonl")
    metrics: list[dict[str, float]] = [json.loads(line).get("metrics", {}) for line in journal.read_text().splitlines()]
    return next(each for each in reversed(metrics) if "samples_per_second" in each)


def _named(rehearsal: Rehearsal, name: str) -> tuple[str, ...]:
    """Options of a training with files and a registered model of its own."""
    output = rehearsal.places.training.absolute() / name
    return (*rehearsal.settings, *_sets({"training.name": name, "training.output": str(output)}))


def _sets(settings: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(word for key, value in settings.items() for word in ("--set", f"{key}={value}"))


def _shards_mb(dataset: Path) -> float:
    """Megabytes of rows and references."""
    files = (file for folder in (SHARDS, REFERENCES) for file in (dataset / folder).rglob("*.parquet"))
    return sum(file.stat().st_size for file in files) / 1e6


def _adapter(training: Path, name: str) -> Path:
    (found,) = (training / name).glob(f"{name}-*-adapter/adapter.safetensors")
    return found


def _partner_views(dataset: Path) -> float:
    """Distinct partners of a training row in `_EPOCHS` epochs, on average."""
    seen = []
    for piece in split_pieces(dataset, "train"):
        partners = Partners.read(piece)
        seen += [len({partners.of(row, epoch) for epoch in range(_EPOCHS)}) for row in range(piece.rows)]
    return sum(seen) / max(1, len(seen))


def _has_checkpoint(root: Path) -> bool:
    """Whether a checkpoint of the training in ``root`` is stored whole, so that Ray Train would resume from it."""
    return any("checkpoint_" in file.read_text() for file in root.glob("*/checkpoint_manager_snapshot.json"))


def _equal(a: Path, b: Path) -> bool:
    """Whether two files hold the same tensors, compared one by one."""
    with safe_open(a, "pt") as first, safe_open(b, "pt") as second:
        names = sorted(first.keys())
        if names != sorted(second.keys()):
            return False
        return all(bool((first.get_tensor(name) == second.get_tensor(name)).all()) for name in names)


@contextmanager
def _once(ready: Callable[[], bool], act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` in the background as soon as ``ready`` is true, within the block."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            if ready():
                act()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _wait_until_ready(client: httpx.Client) -> None:
    end = time.monotonic() + _COMMAND_S
    while time.monotonic() < end:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(_POLL_S)
    raise RealCustomError(f"the service was not ready within {_COMMAND_S:.0f} s")


def _start_seconds(metrics: str, part: str) -> float:
    """The gauge ``realcustom_start_seconds`` of one part."""
    found = re.search(rf'^realcustom_start_seconds\{{[^}}]*part="{part}"[^}}]*\}} (\S+)$', metrics, re.MULTILINE)
    if found is None:
        raise RealCustomError(f"the service reports no realcustom_start_seconds of {part}")
    return float(found[1])
