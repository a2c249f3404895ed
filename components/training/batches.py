"""Prepared rows as training batches: one stream of rows a bucket, one bucket a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import ray
import ray.data
import ray.train
import torch
from ray.data import DataIterator, Dataset, ExecutionOptions, ExecutionResources
from torch import Tensor

from components.data.manifest import load_manifest, shard_folder
from components.training.buckets import bucket_at, positions
from components.training.state import step_generator

#: Columns of the prepared rows that training reads.
COLUMNS = (
    "latents", "text_tokens", "text_pooled", "time_ids", "mask", "head",
    "deep", "local", "face", "other_deep", "other_local", "other_face",
)  # fmt: skip
_TYPES = {name: torch.float16 for name in COLUMNS} | {"time_ids": torch.float32}
#: Rows are shuffled within windows of so many batches, shared among the buckets so that they bound the memory.
_WINDOW = 16
#: Share of the object store that Ray Data gives to one dataset by default.
_STORE_SHARE = 0.5

Batch = dict[str, Tensor]


def open_dataset(directory: Path) -> tuple[dict[str, Dataset], dict[str, int]]:
    """The training rows of a prepared dataset by bucket, lazily and always in the same order, and how many there are.

    Raises:
        DataError: ``directory`` is no prepared dataset.
    """
    root = directory.absolute()
    rows = {name: number for name, number in load_manifest(root).buckets.get("train", {}).items() if number}
    folders = {name: shard_folder(root, "train", name) for name in rows}
    datasets = {name: ray.data.read_parquet(str(at), columns=list(COLUMNS)) for name, at in folders.items()}
    for dataset in datasets.values():
        dataset.context.execution_options.preserve_order = True
    return datasets, rows


def draw_batches(
    buckets: Mapping[str, DataIterator],
    rows: Mapping[str, int],
    size: int,
    seed: int,
    rank: int = 0,
    world: int = 1,
    skip: int = 0,
) -> Iterator[Batch]:
    """Endless batches of ``size`` rows of one bucket each, as one worker of ``world`` draws them.

    Args:
        buckets: this worker's rows of every bucket.
        rows: rows of every bucket on all workers, the same on each, so that all draw from the same bucket.
        skip: batches to leave out at the start, as an earlier run has drawn them.
    """
    window = max(2, _WINDOW // len(rows))
    before = positions(rows, seed, skip)
    streams = {
        name: _stream(buckets[name], size, window, seed, rank + world * place, before[name])
        for place, name in enumerate(sorted(rows))
    }
    for step in count(skip):
        yield next(streams[bucket_at(rows, seed, step)])


def read_batches(directory: Path, size: int, seed: int = 0) -> Iterator[Batch]:
    """Endless training batches of a prepared dataset, outside of Ray Train: what the only worker of a run is given.

    Raises:
        DataError: ``directory`` is no prepared dataset.
    """
    datasets, rows = open_dataset(directory)
    return draw_batches({name: dataset.iterator() for name, dataset in datasets.items()}, rows, size, seed)


def dataset_name(bucket: str) -> str:
    """What Ray Train calls the training rows of ``bucket``."""
    return f"train-{bucket}"


def shared_out(rows: Mapping[str, int], workers: int, size: int) -> ray.train.DataConfig:
    """How Ray Train hands the buckets, with so many ``rows``, to ``workers``: in order, so that a run can be repeated.

    A bucket too small to give every worker a batch of ``size`` rows goes to each of them whole. Buckets are read at the
    same time, and share the part of the object store that Ray Data would give to one.
    """
    options = ExecutionOptions(preserve_order=True)
    if len(rows) > 1:
        store = ray.cluster_resources()["object_store_memory"] * _STORE_SHARE / len(rows)
        options.resource_limits = ExecutionResources.for_limits(object_store_memory=store)
    split = [dataset_name(name) for name, number in rows.items() if number >= workers * size]
    return ray.train.DataConfig(datasets_to_split=split, execution_options=options)


def _stream(rows: DataIterator, size: int, window: int, seed: int, shuffle: int, skip: int) -> Iterator[Batch]:
    """Endless batches of one bucket, shuffled within windows of batches; the first ``skip`` are left out.

    Fewer rows than a batch are repeated in it, each in turn. ``shuffle`` tells ranks and buckets apart.
    """
    drawn, epoch = 0, 0
    while True:
        for index, loaded in enumerate(rows.iter_torch_batches(batch_size=window * size, dtypes=_TYPES, device="cpu")):
            number = len(loaded["latents"])
            order = torch.randperm(number, generator=step_generator(seed + 1, epoch * 100_003 + index, shuffle))
            if index == 0 and 0 < number < size:
                order = order.repeat(-(-size // number))
            for i in range(0, len(order) - size + 1, size):
                drawn += 1
                if drawn > skip:
                    yield {name: loaded[name][order[i : i + size]] for name in COLUMNS}
        if drawn == 0:
            raise ValueError("a worker was given no rows of a bucket")
        epoch += 1
