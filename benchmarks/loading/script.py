"""Preparation as a plain PyTorch script: a `DataLoader` curates row by row, the main process encodes.

It calls this project's functions for every image, caption and shard, without the features of a pipeline: an image in
several rows is read, cut out and encoded for each of them, and an interrupted run starts again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from components.config import Config
from components.data.curate import Curated, Row, curate
from components.data.encode import Encoder
from components.data.finished_units import FinishedUnits
from components.data.prepare import plan_work
from components.data.sources import read_source
from components.data.subject_image import CurateSettings, ReferenceCutOut, TrainingView
from components.data.unit_writer import prepare_unit
from components.data.units import MarkedRow, Unit


@dataclass
class _Packed:
    """Curated rows with pixels as tensors, which workers pass through shared memory."""

    jobs: list[MarkedRow]
    rows: list[Row]
    views: list[TrainingView]
    boxes: list[Any]
    cutout_ids: list[str]
    tensors: dict[str, Tensor]


class _Rows(Dataset[tuple[MarkedRow, Curated]]):
    def __init__(self, jobs: Sequence[MarkedRow], settings: CurateSettings) -> None:
        self.jobs, self.settings = jobs, settings

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, place: int) -> tuple[MarkedRow, Curated]:
        return self.jobs[place], curate([self.jobs[place].job], self.settings)


def prepare_by_script(config: Config, directory: Path, processes: int) -> int:
    """Prepare ``config.data.source`` into shards below ``directory``; returns the number of rows."""
    work = plan_work(config, read_source(config.data))
    settings = CurateSettings.of(config, work.source.store)
    loader = DataLoader(
        _Rows(work.jobs, settings),
        batch_size=config.data.batch_size,
        num_workers=processes - 1,
        collate_fn=_pack,
        multiprocessing_context="spawn",
    )
    directory.mkdir(parents=True)
    encoder, parts = Encoder(config.model, config.vision), FinishedUnits(directory)
    done = 0
    for packed in loader:
        unit, curated = Unit(tuple(packed.jobs)), _unpack(packed)
        done += len(prepare_unit(unit, curated, parts, encoder, _no_namer, config.data.batch_size).rows)
    return done


def _pack(batch: list[tuple[MarkedRow, Curated]]) -> _Packed:
    """Collate rows, without sharing values between them."""
    rows: list[Row] = []
    views: list[TrainingView] = []
    cutouts: list[ReferenceCutOut] = []
    ids: list[str] = []
    for _, curated in batch:
        for row in curated.rows:
            others = tuple(at + len(cutouts) for at in row.others)
            rows.append(row._replace(view=row.view + len(views), cutout=row.cutout + len(cutouts), others=others))
        views += curated.views
        cutouts += curated.cutouts
        ids += curated.cutout_ids
    blank = np.zeros_like(views[0].mask)
    pixels = {
        "picture": [view.picture for view in views],
        "mask": [view.mask for view in views],
        "head": [blank if view.head is None else view.head for view in views],
        "cutout": [cutout.pixels for cutout in cutouts],
    }
    bare = [view._replace(picture=None, mask=None, head=view.head is not None) for view in views]  # type: ignore[arg-type]
    tensors = {name: torch.from_numpy(np.stack(values)) for name, values in pixels.items()}
    return _Packed([job for job, _ in batch], rows, bare, [cutout.face_box for cutout in cutouts], ids, tensors)


def _unpack(packed: _Packed) -> Curated:
    planes = {name: tensor.numpy() for name, tensor in packed.tensors.items()}
    views = [
        view._replace(
            picture=planes["picture"][i], mask=planes["mask"][i], head=planes["head"][i] if view.head else None
        )
        for i, view in enumerate(packed.views)
    ]
    cutouts = [ReferenceCutOut(pixels, box) for pixels, box in zip(planes["cutout"], packed.boxes, strict=True)]
    return Curated(packed.rows, views, cutouts, [], packed.cutout_ids)


def _no_namer() -> Any:
    raise RuntimeError("every row of the toy world has its word")
