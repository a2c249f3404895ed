"""`prepare`: subject/caption pairs in, encoded shards and a manifest out, as one lazy Ray Data pipeline.

source -> plan -> curate (tasks) -> encode (actors) -> shards of rows -> parquet, with a ledger of what was left out.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from ray.actor import ActorHandle

from components.cluster import connect
from components.config import Config
from components.data.curate import CurateSettings
from components.data.identity import base_identity
from components.data.ledger import LedgerActor
from components.data.manifest import MANIFEST, REJECTS, SHARDS, Manifest, load_manifest
from components.data.plan import Plan, pack, plan_rows
from components.data.schema import SCHEMA_VERSION, Reject
from components.data.sources import Source, read_source
from components.data.stages import EncodeBatch, curate_batch
from components.data.store import Store
from components.errors import ArtifactError, DataError
from components.files import replacing
from components.fingerprint import digest_sources, fingerprint
from components.model.vision import encoder_identity
from components.progress import track

logger = logging.getLogger(__name__)
#: Settings of the data section that change where work happens, not what comes out.
_PLACES = {"source", "output", "encoders"}


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset. ``reused`` says that it was there already."""

    directory: Path
    manifest: Manifest
    reused: bool


def prepare(config: Config) -> Prepared:
    """Prepare ``config.data.source`` into ``config.data.output``, which appears whole or not at all.

    A row that cannot be used is listed in ``rejects.parquet`` with its reason and stops nothing. Nothing is done when
    the output was prepared from the same content, settings, encoders and code.

    Raises:
        DataError: the source is missing, empty or breaks its schema, or no row of it can be used.
        ArtifactError: a model that encodes cannot be loaded.
    """
    data = config.data
    source = read_source(data)
    encoders = {"base": base_identity(config.model.base), "vision": encoder_identity(config.model, config.vision)}
    mark = dataset_fingerprint(config, source, encoders)
    if (done := _prepared(data.output)) and done.fingerprint == mark:
        logger.info("prepare: %s is up to date (%s)", data.output, mark)
        return Prepared(data.output, done, reused=True)
    plan = plan_rows(source.rows, data.validation_share)
    with replacing(data.output) as staging:
        rejects = _run(config, source.store, plan, staging / SHARDS) + plan.rejects
        splits = _count(staging / SHARDS)
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            fingerprint=mark,
            rows_in=len(source.rows),
            rows_out=sum(splits.values()),
            rows_rejected=len(rejects),
            reasons=dict(Counter(f"{reject.stage}: {reject.reason}" for reject in rejects).most_common()),
            splits=splits,
            encoders=encoders,
            code=_code(),
            config=config.model_dump(mode="json", include={"data", "model", "vision"}),
        )
        _check(manifest)
        _write_rejects(rejects, staging / REJECTS)
        (staging / MANIFEST).write_text(manifest.model_dump_json(indent=2))
    return Prepared(data.output, manifest, reused=False)


def dataset_fingerprint(config: Config, source: Source, encoders: dict[str, str]) -> str:
    """Names what will be prepared: rows and files, settings, encoders and code, but not where any of them lie."""
    pictures = {
        address
        for row in source.rows
        for address in (row["subject"]["image"], row["subject"]["mask"], *(row["references"] or ()))
        if address
    }
    marks = sorted(source.store.marks(pictures).items())
    settings = [config.data.model_dump(mode="json", exclude=_PLACES), config.vision.model_dump(), config.model.dtype]
    return fingerprint([SCHEMA_VERSION, source.rows, marks, settings, encoders, _code()])


def _run(config: Config, store: Store, plan: Plan, shards: Path) -> list[Reject]:
    """Curate and encode the jobs of ``plan`` into parquet files below ``shards``; returns what was left out."""
    data = config.data
    shards.mkdir()
    if not plan.jobs:
        return []
    connect(data.encoders + 1)
    ledger = LedgerActor.remote()
    settings = CurateSettings(
        store=store,
        image_size=data.image_size,
        reference_size=2 * config.vision.view_size,
        max_bytes=data.max_bytes,
        max_pixels=data.max_pixels,
        size_conditioning=data.size_conditioning,
    )
    batches = [{"jobs": json.dumps(batch)} for batch in pack(plan.jobs, data.batch_size)]
    with _closing(ledger), _in_order(), _shown(ledger, len(plan.jobs)), _plain_errors(ledger):
        (
            ray.data.from_items(batches, override_num_blocks=len(batches))
            .map_batches(curate_batch, batch_size=1, fn_kwargs={"settings": settings, "ledger": ledger})
            .map_batches(
                EncodeBatch,
                batch_size=None,
                fn_constructor_args=(config.model, config.vision, ledger),
                compute=_pool(min(data.encoders, len(batches))),
                num_cpus=1,
                num_gpus=_gpus(config),
            )
            .repartition(target_num_rows_per_block=data.rows_per_shard, strict=True)
            .write_parquet(str(shards.absolute()), partition_cols=["split"])
        )
        rejects: list[Reject] = ray.get(ledger.rejects.remote())
        return rejects


def _pool(encoders: int) -> ray.data.ActorPoolStrategy:
    """So many encoders as leave one core to the other stages."""
    size = max(1, min(encoders, int(ray.cluster_resources().get("CPU", 1)) - 1))
    return ray.data.ActorPoolStrategy(min_size=1, max_size=size, initial_size=size)


def _gpus(config: Config) -> int:
    """GPUs of one encoder."""
    return int(config.model.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1)


@contextmanager
def _closing(ledger: ActorHandle[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        ray.kill(ledger)


@contextmanager
def _in_order() -> Iterator[None]:
    """Rows keep their order, so the same source gives the same shards; the ledger shows progress in Ray's stead."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    with ray.data.DataContext.current(context):
        yield


@contextmanager
def _shown(ledger: ActorHandle[Any], rows: int) -> Iterator[None]:
    """Follow ``ledger`` in a progress bar while the block runs."""
    finished = threading.Event()

    def settled() -> Iterator[int]:
        seen = 0
        while seen < rows and not finished.wait(0.5):
            now = ray.get(ledger.settled.remote())
            yield from range(seen, now)
            seen = now

    def follow() -> None:
        for _ in track(settled(), "prepare", rows):
            continue

    watcher = threading.Thread(target=follow, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


@contextmanager
def _plain_errors(ledger: ActorHandle[Any]) -> Iterator[None]:
    """Raise what the encoders noted in ``ledger``, not the error that Ray wraps it in."""
    try:
        yield
    except ray.exceptions.RayError:
        reason = ray.get(ledger.failure.remote())
        if reason is None:
            raise
        raise ArtifactError(reason) from None


def _code() -> str:
    return digest_sources(Path(__file__).parent)


def _prepared(directory: Path) -> Manifest | None:
    """What ``directory`` holds; None when that is nothing, or nothing that this release reads."""
    if not (directory / MANIFEST).exists():
        return None
    try:
        return load_manifest(directory)
    except DataError as error:
        logger.info("prepare: replacing %s (%s)", directory, error)
        return None


def _count(shards: Path) -> dict[str, int]:
    """Rows of each split, as the files themselves say."""
    return {
        split: sum(pq.read_metadata(file).num_rows for file in (shards / f"split={split}").glob("*.parquet"))
        for split in ("train", "validation")
    }


def _check(manifest: Manifest) -> None:
    if manifest.rows_in != manifest.rows_out + manifest.rows_rejected:
        raise RuntimeError(
            f"{manifest.rows_in} rows went in, but {manifest.rows_out} came out "
            f"and {manifest.rows_rejected} were rejected: this is a fault of the pipeline"
        )
    if not manifest.rows_out:
        reasons = "; ".join(f"{reason} ({count})" for reason, count in manifest.reasons.items())
        raise DataError(f"data.source: none of its {manifest.rows_in} rows can be used: {reasons}")


def _write_rejects(rejects: list[Reject], file: Path) -> None:
    schema = pa.schema([(name, pa.string()) for name in Reject._fields])
    rows = [reject._asdict() for reject in sorted(Reject(*reject) for reject in rejects)]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
