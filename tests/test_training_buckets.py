"""Buckets in training: all ranks draw from the same one, every row equally often, and a resumed run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import ray.data
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from components.config import AdapterConfig, TrainingConfig
from components.data.manifest import shards
from components.errors import DataError
from components.model.adapter import RealCustomAdapter
from components.model.miniature import MiniatureLayout
from components.model.vision import VisionFeatures
from components.training.batches import COLUMNS, Batch, draw_batches, open_dataset, read_batches, shared_out
from components.training.buckets import bucket_at, positions
from components.training.objective import Absent, SubjectDenoiser, diffusion_loss, draw_example
from components.training.state import step_generator
from tests.prepared_dataset import write_prepared

ROWS = {"48x80": 30, "64x64": 60, "80x48": 10}


def drawn(rows: dict[str, int], seed: int, steps: range) -> list[str]:
    return [bucket_at(rows, seed, step) for step in steps]


@given(st.integers(0, 1000), st.integers(0, 60))
def test_positions_count_what_was_drawn_before(seed: int, step: int) -> None:
    before = drawn(ROWS, seed, range(step))
    assert positions(ROWS, seed, step) == {name: before.count(name) for name in ROWS}


def test_choice_needs_nothing_but_seed_and_step() -> None:
    assert drawn(ROWS, 3, range(50)) == drawn(dict(reversed(ROWS.items())), 3, range(50))
    assert drawn(ROWS, 3, range(50)) != drawn(ROWS, 4, range(50))


def test_shares_follow_the_rows() -> None:
    counts = Counter(drawn(ROWS, 0, range(4000)))
    assert all(abs(counts[name] / 4000 - number / 100) < 0.03 for name, number in ROWS.items())


def test_one_bucket_is_always_drawn() -> None:
    assert set(drawn({"64x64": 5}, 0, range(20))) == {"64x64"}
    assert positions({"64x64": 5}, 0, 20) == {"64x64": 20}


class Rows:
    """A worker's rows of one bucket: their numbers, handed out in order as Ray Data does it."""

    def __init__(self, count: int, first: int = 0) -> None:
        self.numbers = torch.arange(first, first + count)

    def iter_torch_batches(self, batch_size: int, **_: Any) -> Iterator[Batch]:
        for numbers in self.numbers.split(batch_size):
            yield {name: numbers for name in COLUMNS}


def numbers(batches: Iterator[Batch], count: int) -> list[list[int]]:
    return [batch["latents"].tolist() for batch in islice(batches, count)]


def test_a_single_bucket_is_shuffled_in_windows_of_sixteen_batches() -> None:
    """The order of a run is part of its result: it stays what it was before there were buckets."""
    size, rank, expected = 3, 1, []
    for epoch in range(2):
        for index, window in enumerate(torch.arange(100).split(16 * size)):
            order = torch.randperm(len(window), generator=step_generator(7 + 1, epoch * 100_003 + index, rank))
            expected += [window[order][i : i + size].tolist() for i in range(0, len(window) - size + 1, size)]
    batches = draw_batches({"64x64": Rows(100)}, {"64x64": 200}, size, 7, rank=rank, world=2)  # type: ignore[dict-item]
    assert numbers(batches, len(expected)) == expected


@pytest.mark.parametrize("skip", [1, 7, 40])
def test_a_resumed_run_draws_what_an_uninterrupted_one_would(skip: int) -> None:
    def draw(skip: int) -> Iterator[Batch]:
        buckets = {name: Rows(number, first) for (name, number), first in zip(ROWS.items(), (0, 100, 200), strict=True)}
        return draw_batches(buckets, ROWS, 4, 5, skip=skip)  # type: ignore[arg-type]

    assert numbers(draw(skip), 30) == numbers(draw(0), skip + 30)[skip:]


def test_ranks_draw_other_rows_of_the_same_bucket() -> None:
    firsts = {"48x80": 0, "64x64": 100, "80x48": 200}
    buckets = {name: Rows(40, first) for name, first in firsts.items()}
    a, b = (numbers(draw_batches(buckets, ROWS, 4, 5, rank, 2), 30) for rank in range(2))  # type: ignore[arg-type]
    assert [batch[0] // 100 for batch in a] == [batch[0] // 100 for batch in b]
    assert a != b


def test_fewer_rows_than_a_batch_are_repeated_each_in_turn() -> None:
    batches = draw_batches({"64x64": Rows(3)}, {"64x64": 3}, 8, 0)  # type: ignore[dict-item]
    for batch in numbers(batches, 5):
        assert sorted(Counter(batch).values()) == [2, 3, 3]


def test_a_bucket_without_rows_ends_the_run_instead_of_waiting_for_ever() -> None:
    with pytest.raises(ValueError, match="no rows"):
        next(draw_batches({"64x64": Rows(0)}, {"64x64": 3}, 2, 0))  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two buckets, neither square, one with fewer rows than two workers' batches."""
    directory = tmp_path_factory.mktemp("dataset")
    write_prepared(directory, {("train", "48x80"): 40, ("train", "80x48"): 6, ("validation", "80x48"): 3})
    return directory


def test_batches_of_a_dataset_have_one_shape_each(dataset: Path, ray_cluster: None) -> None:
    batches = list(islice(read_batches(dataset, 8), 30))
    shapes = {tuple(batch["latents"].shape) for batch in batches}
    assert shapes == {(8, 4, 20, 12), (8, 4, 12, 20)}
    assert all(batch["mask"].shape == batch["head"].shape == (8, *batch["latents"].shape[2:]) for batch in batches)
    tall = [batch["latents"][:, 0, 0, 0].tolist() for batch in batches if batch["latents"].shape[2] == 20]
    assert sorted(n for batch in tall[:5] for n in batch) == list(range(40))


def test_a_dataset_in_one_bucket_is_read_as_a_whole_split_was(tmp_path: Path, ray_cluster: None) -> None:
    write_prepared(tmp_path, {("train", "64x64"): 40})
    whole = ray.data.read_parquet(str(shards(tmp_path, "train")), columns=list(COLUMNS))
    whole.context.execution_options.preserve_order = True
    before = draw_batches({"64x64": whole.iterator()}, {"64x64": 40}, 4, 0)
    assert [numbers_of(b) for b in islice(before, 10)] == [numbers_of(b) for b in islice(read_batches(tmp_path, 4), 10)]


def numbers_of(batch: Batch) -> list[float]:
    values: list[float] = batch["latents"][:, 0, 0, 0].tolist()
    return values


def test_workers_share_large_buckets_and_each_get_small_ones_whole(dataset: Path, ray_cluster: None) -> None:
    datasets, rows = open_dataset(dataset)
    assert rows == {"48x80": 40, "80x48": 6}
    config = shared_out(rows, 2, 8)
    shares = config.configure(
        {f"train-{name}": data for name, data in datasets.items()}, 2, worker_handles=None, worker_node_ids=None
    )
    small = [sum(len(b["latents"]) for b in share["train-80x48"].iter_torch_batches()) for share in shares]
    assert small == [6, 6]
    assert config._datasets_to_split == ["train-48x80"]


def test_a_directory_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prepared dataset"):
        read_batches(tmp_path, 4)


def test_one_adapter_learns_from_pictures_of_two_shapes(
    dataset: Path, miniature: MiniatureLayout, ray_cluster: None
) -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_pretrained(miniature.base, subfolder="unet")
    adapter = RealCustomAdapter.for_unet(unet, 16, AdapterConfig(head_dim=8, hidden_dim=32), "test")
    denoiser = SubjectDenoiser(unet, adapter)
    absent = Absent(
        VisionFeatures(torch.zeros(1, 4, 16), torch.zeros(1, 16, 16)), torch.zeros(1, 32, 128), torch.zeros(1, 64)
    )
    settings = TrainingConfig(group_dropout=1, subject_weight=4)
    for shape in ((20, 12), (12, 20)):
        rows = next(b for b in read_batches(dataset, 4) if b["latents"].shape[2:] == shape)
        generator = torch.Generator().manual_seed(0)
        example = draw_example(rows, absent, settings, 0.5, generator)
        assert example.weight is not None and example.weight.shape == (4, *shape)
        adapter.zero_grad()
        diffusion_loss(denoiser, example, DDPMScheduler(), generator, torch.device("cpu")).backward()
        assert gradient(adapter).isfinite().all() and gradient(adapter).any()


def gradient(adapter: RealCustomAdapter) -> Tensor:
    return torch.cat([p.grad.flatten() for p in adapter.parameters() if p.grad is not None])
