"""Buckets in training: all ranks draw from the same one, every row equally often, and a resumed run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray.data
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from components.config import AdapterConfig, TrainingConfig
from components.errors import DataError
from components.model.adapter import RealCustomAdapter
from components.model.miniature import MiniatureLayout
from components.model.unconditional_inputs import UnconditionalInputs
from components.model.vision import VisionFeatures
from components.training import batches as batches_module
from components.training.batches import draw_batches, part_steps, parts_in_order, read_batches
from components.training.bucket_order import bucket_at, positions
from components.training.dataset_rows import Batch, Rows, find_rows, held_out_batches, row_ids
from components.training.objective import SubjectDenoiser, diffusion_loss, draw_example
from components.training.partners import Piece
from components.training.window_reader import PLACE, load_piece
from tests.fixtures.prepared_dataset import write_prepared

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


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two buckets, neither square, one with fewer rows than two workers' batches."""
    directory = tmp_path_factory.mktemp("dataset")
    write_prepared(directory, {("train", "48x80"): 40, ("train", "80x48"): 6, ("validation", "80x48"): 3})
    return directory


SETTINGS = TrainingConfig(steps=30, batch_size=8, shuffle_rows=16)


def test_batches_of_a_dataset_have_one_shape_each(dataset: Path, ray_cluster: None) -> None:
    batches = list(read_batches(dataset, SETTINGS))
    assert len(batches) == 30
    shapes = {tuple(batch["latents"].shape) for batch in batches}
    assert shapes == {(8, 4, 20, 12), (8, 4, 12, 20)}
    assert all(batch["mask"].shape == batch["head"].shape == (8, *batch["latents"].shape[2:]) for batch in batches)
    tall = [numbers(batch) for batch in batches if batch["latents"].shape[2] == 20]
    assert sorted(number for batch in tall[:5] for number in batch) == list(range(40))
    wide = Counter(number for batch in batches if batch["latents"].shape[2] == 12 for number in numbers(batch))
    assert set(wide) == set(range(6)) and max(wide.values()) - min(wide.values()) <= 1  # fewer rows than a batch


def test_a_worker_has_one_pipeline_over_all_buckets(
    dataset: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, from_items = [], ray.data.from_items
    monkeypatch.setattr(ray.data, "from_items", lambda items, **more: made.append(items) or from_items(items, **more))
    batches = [batch["latents"].shape[2] for batch in read_batches(dataset, SETTINGS)]
    assert set(batches) == {12, 20}, "rows of both buckets"
    (items,) = made
    folders = {Path(file).parent.name for item in items for file in item["files"]}
    assert folders == {"bucket=48x80", "bucket=80x48"}
    for item in items:
        assert len({Path(file).parent for file in item["files"]}) == 1
        assert set(item["piece"]) == set(range(len(item["files"]))), "row groups of its rows alone"


def test_a_row_is_found_again_by_its_place(dataset: Path, ray_cluster: None) -> None:
    rows = find_rows(dataset, SETTINGS)
    for step, [(_, batch)] in enumerate(draw_batches(rows, 0, 6)):
        bucket = bucket_at(rows.counts, rows.seed, step)
        assert row_ids(rows, bucket, batch[PLACE].tolist()) == [
            f"{bucket}-{number:.0f}.png" for number in numbers(batch)
        ]


@pytest.mark.parametrize("start", [3, 16, 29])
def test_a_resumed_run_draws_what_an_uninterrupted_one_would(dataset: Path, ray_cluster: None, start: int) -> None:
    rows = find_rows(dataset, SETTINGS)
    whole = [numbers(batch) for [(_, batch)] in draw_batches(rows, 0, 30)]
    assert [numbers(batch) for [(_, batch)] in draw_batches(rows, start, 30)] == whole[start:]


def ingest_of(rows: Rows, steps: float) -> float:
    """Gigabytes for parts of so many steps."""
    total = {name: sizes.total for name, sizes in rows.row_bytes.items()}
    return 2 * steps * rows.batch * max(sum(total.values()), 4 * max(total.values())) / 1e9


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_what_waits_in_the_worker_is_at_most_half_of_the_memory(
    dataset: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Measured of what was drawn and not used yet; files of constant pictures are much smaller than their tensors."""
    rows = find_rows(dataset, SETTINGS.model_copy(update={"shuffle_rows": 80}))
    drawn, used, peak = 0, 0, 0
    micro_batches = batches_module._micro_batches

    def counted(*args: Any) -> Iterator[tuple[str, Batch]]:
        nonlocal drawn, peak
        for owner, batch in micro_batches(*args):
            drawn += sum(values.nbytes for values in batch.values())
            peak = max(peak, drawn - used)
            yield owner, batch

    monkeypatch.setattr(batches_module, "_micro_batches", counted)
    ingest = ingest_of(rows, steps)
    for [(_, batch)] in draw_batches(rows, 0, 30, ingest_gb=ingest):
        used += sum(values.nbytes for values in batch.values())
    index_columns = 3 * 8 * rows.batch * steps * len(rows.orders)
    assert 0 < peak <= ingest * 1e9 / 2 + index_columns and drawn == used


def test_little_memory_changes_only_how_often_a_piece_is_read(dataset: Path, ray_cluster: None) -> None:
    rows = find_rows(dataset, SETTINGS.model_copy(update={"shuffle_rows": 80}))
    little = ingest_of(rows, 2.5)
    assert part_steps(rows, 1, little) == 2 and part_steps(rows, 1, 1e-9) == 1 and part_steps(rows, 2, little) == 1
    parts = {most: parts_in_order(rows, 3, 30, most) for most in (1, 2, 100)}
    for most, found in parts.items():
        assert sorted(step for part in found for step in part.steps) == list(range(3, 30))
        assert [part.steps[0] for part in found] == sorted(part.steps[0] for part in found)
        assert max(len(part.steps) for part in found) <= most
    assert len(parts[1]) == 27 > len(parts[2]) > len(parts[100])
    whole = [numbers(batch) for [(_, batch)] in draw_batches(rows, 0, 30)]
    assert [numbers(batch) for [(_, batch)] in draw_batches(rows, 0, 30, ingest_gb=little)] == whole


def test_workers_that_are_missing_change_nothing_but_who_draws(dataset: Path, ray_cluster: None) -> None:
    rows = find_rows(dataset, SETTINGS.model_copy(update={"workers": 3, "batch_size": 2}))

    def drawn_by(world: int) -> list[dict[int, list[float]]]:
        shares = [list(draw_batches(rows, 0, 8, rank, world)) for rank in range(world)]
        return [{lane: numbers(batch) for share in shares for lane, batch in share[step]} for step in range(8)]

    alone = drawn_by(1)
    assert all(sorted(step) == [0, 1, 2] for step in alone)
    assert drawn_by(2) == drawn_by(3) == alone


def numbers(batch: Batch) -> list[float]:
    """The numbers of a batch's rows in their bucket."""
    values: list[float] = batch["latents"][:, 0, 0, 0].tolist()
    return values


def test_a_directory_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prepared dataset"):
        next(read_batches(tmp_path, SETTINGS))


def test_one_adapter_learns_from_pictures_of_two_shapes(
    dataset: Path, miniature: MiniatureLayout, ray_cluster: None
) -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_pretrained(miniature.base, subfolder="unet")
    adapter = RealCustomAdapter.for_unet(unet, 16, AdapterConfig(head_dim=8, hidden_dim=32), "test")
    denoiser = SubjectDenoiser(unet, adapter)
    absent = UnconditionalInputs(
        VisionFeatures(torch.zeros(1, 4, 16), torch.zeros(1, 16, 16)), torch.zeros(1, 32, 128), torch.zeros(1, 64)
    )
    settings = TrainingConfig(group_dropout=1, subject_weight=4)
    for shape in ((20, 12), (12, 20)):
        batches = read_batches(dataset, SETTINGS.model_copy(update={"batch_size": 4}))
        rows = next(b for b in batches if b["latents"].shape[2:] == shape)
        generator = torch.Generator().manual_seed(0)
        example = draw_example(rows, absent, settings, 0.5, generator)
        assert example.weight is not None and example.weight.shape == (4, *shape)
        adapter.zero_grad()
        diffusion_loss(denoiser, example, DDPMScheduler(), generator, torch.device("cpu")).backward()
        assert gradient(adapter).isfinite().all() and gradient(adapter).any()


def gradient(adapter: RealCustomAdapter) -> Tensor:
    return torch.cat([p.grad.flatten() for p in adapter.parameters() if p.grad is not None])


def test_validation_reads_no_more_pieces_than_its_rows_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_prepared(tmp_path / "dataset", {("validation", "48x80"): 30, ("validation", "80x48"): 30})
    loaded: list[Piece] = []

    def load(piece: Piece) -> dict[str, np.ndarray]:
        loaded.append(piece)
        return load_piece(piece)

    monkeypatch.setattr("components.training.dataset_rows.load_piece", load)
    batches = [batch for _, batch in held_out_batches(tmp_path / "dataset", 4, 10)]
    assert [len(batch["time_ids"]) for batch in batches] == [4, 3, 3]
    assert [piece.rows for piece in loaded] == [7, 7], "ten rows lie in the first two pieces"
