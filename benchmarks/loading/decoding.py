"""Decoding and resizing only: Ray Data and torch's `DataLoader` with the same function and number of processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from components.data.decode import decode_picture

_MAX_PIXELS = 50_000_000
#: Images per block or batch that is passed between processes.
_BATCH = 64


def shrink(file: str, side: int) -> NDArray[np.uint8]:
    """Decode an image file to [side, side, 3]."""
    picture = decode_picture(Path(file).read_bytes(), _MAX_PIXELS)
    return np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS))


def _shrink_batch(batch: dict[str, NDArray[Any]], side: int) -> dict[str, NDArray[np.uint8]]:
    pictures = np.empty((len(batch["file"]), side, side, 3), np.uint8)
    for picture, file in zip(pictures, batch["file"], strict=True):
        picture[:] = shrink(file, side)
    return {"picture": pictures}


class _Pictures(Dataset[NDArray[np.uint8]]):
    def __init__(self, files: Sequence[str], side: int) -> None:
        self.files, self.side = files, side

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> NDArray[np.uint8]:
        return shrink(self.files[place], self.side)


def ray_data(files: Sequence[str], side: int, processes: int) -> Callable[[], int]:
    """Decode ``files`` with Ray Data, block by block; returns the number of images."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = _BATCH * side * side * 3  # a batch is a block, and is copied once
    context.op_resource_reservation_enabled = False  # with one operator it only delays the second task, by a second
    # As many tasks wait at the node as run, since Ray Data lets time go by between two, and several a process, so that
    # no process waits long for the other's last. It plans with twice the processors that Ray, which runs them, has.
    waiting = 2 * processes
    dataset = ray.data.from_items([{"file": file} for file in files], override_num_blocks=2 * waiting).map_batches(
        _shrink_batch,
        batch_size=_BATCH,
        fn_kwargs={"side": side},
        compute=ray.data.TaskPoolStrategy(size=waiting),
    )
    dataset.context.execution_options.resource_limits = ray.data.ExecutionResources(cpu=waiting)

    def run() -> int:
        return sum(len(batch["picture"]) for batch in dataset.iter_batches(batch_size=None, batch_format="numpy"))

    return run


def data_loader(files: Sequence[str], side: int, processes: int) -> Callable[[], int]:
    """The same with torch's `DataLoader` with persistent workers."""
    loader = DataLoader(
        _Pictures(files, side),
        batch_size=_BATCH,
        num_workers=processes,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )

    def run() -> int:
        return sum(len(batch) for batch in loader)

    return run


def take_turns(readers: dict[str, Callable[[], int]], expected: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of ``rounds`` alternating passes, after an untimed one that starts all processes."""
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for turn in range(rounds + 1):
        for name, run in readers.items():
            start = time.perf_counter()
            if run() != expected:
                raise RuntimeError(f"{name} lost pictures")
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds
