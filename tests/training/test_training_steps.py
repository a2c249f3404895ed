"""What a worker does between steps without waiting for its device, and the choices of a step."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from components.config import Config, TrainingConfig
from components.errors import ArtifactError, DataError
from components.model.vision import VisionEncoder, VisionFeatures
from components.training.batches import read_window
from components.training.dataset_rows import find_rows, held_out_batches
from components.training.interruptions import Interruption, Interruptions
from components.training.learner import Learner, StepResult
from components.training.partners import Partners, Piece
from components.training.recent_steps import RecentSteps
from components.training.row_order import OrderedRow, RowOrder, Window
from components.training.sample_cases import sample_cases
from components.training.window_reader import BucketRows, load_piece, load_rows, read_windows, window_work
from tests.fixtures.dreambench import write_dreambench
from tests.fixtures.prepared_dataset import write_prepared

CPU = torch.device("cpu")


def result(norm: float) -> StepResult:
    return StepResult({0: torch.tensor(1.0), 2: torch.tensor(2.0)}, torch.tensor(norm), 1e-3)


def test_the_loss_of_two_lanes_is_the_mean_of_two_workers() -> None:
    a, b = torch.tensor(0.1), torch.tensor(0.4447291195392609)
    workers = [StepResult({lane: loss}, torch.tensor(1.0), 1e-3).loss for lane, loss in enumerate((a, b))]
    assert float((a + b) / 2) != sum(workers) / 2, "float32 rounds it"
    assert StepResult({0: a, 1: b}, torch.tensor(1.0), 1e-3).loss == sum(workers) / 2


def test_the_first_step_that_failed_is_found_later() -> None:
    recent = RecentSteps()
    assert recent.check() is None
    for step, norm in enumerate((1.0, float("inf"), float("nan"))):
        recent.add(step, result(norm), {0: torch.tensor([step])})
    failed = recent.check()
    assert failed is not None and failed.step == 1 and failed.rows[0].tolist() == [1]
    assert recent.check() is None, "what was checked is forgotten"
    assert result(1.0).loss == 1.5 and result(1.0).finite and not result(float("nan")).finite


def test_a_stop_is_seen_soon_and_the_disk_is_looked_at_rarely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, looks = [0.0], []
    monkeypatch.setattr("components.training.interruptions.time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr("components.training.interruptions.ray.train.get_preemption_info", lambda: None)
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: looks.append(path) or exists(path))
    interruptions = Interruptions(tmp_path / "stop", CPU)

    def steps(count: int, seconds: float) -> list[Interruption]:
        found = []
        for _ in range(count):
            clock[0] += seconds
            found.append(interruptions.poll())
        return found

    assert set(steps(1000, 0.01)) == {Interruption.NONE}
    assert len(looks) < 40, "about every half second"
    looks.clear()
    assert set(steps(80, 20.0)) == {Interruption.NONE}
    assert len(looks) >= 10, "long steps are followed by a look each, after one more interval"
    (tmp_path / "stop").touch()
    assert Interruption.STOP in steps(2, 20.0)


def settings(config: Config, **training: object) -> Config:
    update = {"steps": 4, "batch_size": 4, "warmup": 1, "workers": 1, "bf16": False, "shuffle_rows": 8}
    return config.model_copy(
        update={
            "adapter": config.adapter.model_copy(update={"head_dim": 8, "hidden_dim": 32}),
            "training": config.training.model_copy(update=update | training),
        }
    )


def write_rows(config: Config, more: dict[str, tuple[int, ...]] | None = None) -> None:
    patches, channels = 64, 192
    shapes = {"deep": (patches, channels), "local": (4 * patches, channels), "face": (patches,)} | (more or {})
    write_prepared(
        Path(config.training.dataset),
        {("train", "64x64"): 16, ("validation", "64x64"): 20},
        references=shapes,
    )


def test_adafactor_learns_keeps_little_and_resumes(config: Config, tmp_path: Path) -> None:
    write_rows(config)
    chosen = settings(config, optimizer="adafactor", learning_rate=1e-2)
    rows = find_rows(config.training.dataset, chosen.training)
    whole = Learner(chosen, CPU)
    start = {name: value.clone() for name, value in whole.shared.adapter.state_dict().items()}
    for step in range(2):
        whole.train_step(step, read_window(rows, step, [0]))
    whole.save(tmp_path / "state", 2, write=True)
    resumed = Learner(chosen, CPU)
    assert resumed.load(tmp_path / "state") == 2
    for learner in (whole, resumed):
        learner.train_step(2, read_window(rows, 2, [0]))
    ends = [learner.shared.adapter.state_dict() for learner in (whole, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in start)
    assert any(not torch.equal(ends[0][name], start[name]) for name in start)
    held = [value for slots in whole.optimizer.state_dict()["state"].values() for value in slots.values()]
    trained = sum(value.numel() for value in whole.shared.adapter.parameters())
    assert sum(value.numel() for value in held) < trained / 10
    with pytest.raises(ValueError, match="optimizer=adafactor cannot be sharded"):
        TrainingConfig(optimizer="adafactor", sharding="fsdp")


def test_the_shallow_projector_trains(config: Config) -> None:
    write_rows(config, {"shallow": (2, 64, 192)})
    chosen = settings(config)
    chosen = chosen.model_copy(update={"adapter": chosen.adapter.model_copy(update={"projector": "shallow"})})
    blocks = chosen.vision.model_copy(update={"siglip_shallow": (0, 1), "dinov2_shallow": (0, 1)})
    chosen = chosen.model_copy(update={"vision": blocks})
    learner = Learner(chosen, CPU)
    assert len(learner.absent.vision.shallow) == 2
    rows = find_rows(config.training.dataset, chosen.training)
    example = learner.example(read_window(rows, 0, [0])[0][1], chosen.training, 1.0, torch.Generator())
    assert [each.shape for each in example.reference.shallow] == [(4, 64, 192)] * 2
    assert learner.train_step(0, read_window(rows, 0, [0])).finite
    gradients = {name for name, value in learner.optimizer.state_dict()["state"].items() if value["step"] == 1}
    assert len(gradients) == len(list(learner.shared.adapter.parameters()))
    with pytest.raises(ArtifactError, match="shallow"):
        learner.shared.adapter(VisionFeatures(example.reference.deep, example.reference.local))


def test_workers_read_only_the_validation_rows_that_they_score(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(config)
    loaded = []
    monkeypatch.setattr(
        "components.training.dataset_rows.load_piece", lambda piece: loaded.append(piece) or load_piece(piece)
    )
    whole = list(held_out_batches(config.training.dataset, 7, 20))
    assert [len(batch["time_ids"]) for _, batch in whole] == [7, 3, 7, 3] and len(loaded) == 4
    loaded.clear()
    parts = [list(held_out_batches(config.training.dataset, 7, 20, rank, 3)) for rank in range(3)]
    assert [[index for index, _ in part] for part in parts] == [[0, 3], [1], [2]] and len(loaded) == 4
    for index, batch in (pair for part in parts for pair in part):
        assert torch.equal(batch["latents"], whole[index][1]["latents"])


#: Rows of version 3 in a row group: of each its group, and the picture that is stored as its other view.
PAIRED = {
    "id": ["a1", "a2", "a3", "a4", "a1#2", "b1", "b2", "c1", "c2"],
    # The other view of c2 is of another row group, since its source names it.
    "other_id": ["a2", "a1", "a4", "a3", "a3", "b2", "b1", "c1", "c9"],
}
SHOWN = [{1, 2, 3}, {0, 2, 3, 4}, {0, 1, 3, 4}, {0, 1, 2, 4}, {1, 2, 3}, {6}, {5}, {-8}, {-9}]


def column(*values: float) -> pa.FixedShapeTensorArray:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.array(values)[:, None])


def paired_rows(file: Path) -> Piece:
    """Rows of version 3; ``deep`` of a reference is 0 to 8 for a row's own, 100 more for its stored other one."""
    own = column(*range(9))
    names = ("text_tokens", "text_pooled", "time_ids", "mask", "head", "latents", "deep", "local", "face")
    others = {name: column(*range(100, 109)) for name in ("other_deep", "other_local", "other_face")}
    texts = PAIRED | {"group": [name[0] for name in PAIRED["id"]]}
    pq.write_table(pa.table(texts | dict.fromkeys(names, own) | others), file)
    return Piece(str(file), 0, 9, None)


def rows_with_references(folder: Path) -> tuple[Piece, ...]:
    """The same rows as `paired_rows` in two buckets, each picture with one reference, as ``deep`` of its first row."""
    numbers = {"a1": 0, "a2": 1, "a3": 2, "a4": 3, "b1": 5, "b2": 6, "c1": 7, "c2": 8, "c9": 108}
    references = {"reference": pa.array(numbers.values(), pa.int32()), "id": list(numbers)}
    features = dict.fromkeys(("deep", "local", "face"), column(*numbers.values()))
    pq.write_table(pa.table(references | features), folder / "references.parquet", row_group_size=2)
    others = {
        name: [other for other in numbers if other[0] == name[0] and other not in (name, "c9")] for name in numbers
    } | {"c1": [], "c2": ["c9"]}
    pieces = []
    for bucket, ids in (("x", ["a1", "a3", "a1#2", "b1", "c1"]), ("y", ["a2", "a4", "b2", "c2"])):
        pictures = [name.partition("#")[0] for name in ids]
        places = column(*(PAIRED["id"].index(name) for name in ids))
        rows = dict.fromkeys(("text_tokens", "text_pooled", "time_ids", "mask", "head", "latents"), places) | {
            "id": ids,
            "reference": pa.array([numbers[name] for name in pictures], pa.int32()),
            "others": pa.array([[numbers[other] for other in others[name]] for name in pictures]),
        }
        pq.write_table(pa.table(rows), folder / f"{bucket}.parquet")
        pieces.append(Piece(str(folder / f"{bucket}.parquet"), 0, len(ids), str(folder / "references.parquet")))
    return tuple(pieces)


def seen(*pieces: Piece) -> tuple[dict[float, set[float]], dict[float, set[float]]]:
    """By row of `PAIRED`, its own references and the other ones that training sees in nine epochs, by ``deep``."""
    own: dict[float, set[float]] = {}
    other: dict[float, set[float]] = {}
    order = RowOrder(tuple(piece.rows for piece in pieces), 3, 1, 0, 9)
    for step in range(27):
        work = window_work(BucketRows(pieces, order), Window(step, step + 1), step, step + 1, [step], (0,))
        for batch in read_windows({name: np.array([value]) for name, value in work.items()}):
            assert np.array_equal(batch["deep"], batch["local"])
            for row, mine, others in zip(batch["latents"], batch["deep"], batch["other_deep"], strict=True):
                own.setdefault(row.item(), set()).add(mine.item())
                other.setdefault(row.item(), set()).add(others.item())
    return own, other


def test_rows_of_version_3_are_shown_with_each_picture_of_their_row_group(tmp_path: Path) -> None:
    piece = paired_rows(tmp_path / "shard.parquet")
    partners = Partners.read(piece)
    assert [{partners.of(row, epoch) for epoch in range(8)} for row in range(9)] == SHOWN
    own, other = seen(piece)
    assert own == {float(row): {float(row)} for row in range(9)}
    stored = [{at if at >= 0 else 99 - at for at in shown} for shown in SHOWN]
    assert other == {float(row): set(map(float, shown)) for row, shown in enumerate(stored)}


def test_training_sees_the_same_references_as_with_version_3(tmp_path: Path) -> None:
    """Across buckets too, and a caption shares the reference of its picture: row 4 is another caption of row 0."""
    own, other = seen(*rows_with_references(tmp_path))
    before = seen(paired_rows(tmp_path / "paired.parquet"))
    same = {4.0: 0.0, 107.0: 7.0}  # a reference that was stored twice
    for now, then in ((own, before[0]), (other, before[1])):
        assert now == {row: {same.get(at, at) for at in shown} for row, shown in then.items()}


def test_a_dataset_without_its_references_is_refused(tmp_path: Path) -> None:
    write_prepared(tmp_path, {("train", "64x64"): 3})
    next((tmp_path / "references").rglob("*.parquet")).unlink()
    with pytest.raises(DataError, match=r"references.* is missing: copy it too"):
        find_rows(tmp_path, TrainingConfig())


def test_of_references_only_those_shown_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piece, _ = rows_with_references(tmp_path)
    read: list[int] = []
    one = pq.ParquetFile.read_row_group

    def count(self: pq.ParquetFile, group: int, columns: list[str]) -> pa.Table:
        read.append(group) if "deep" in columns else None
        return one(self, group, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", count)
    order = OrderedRow(0, 3, 0)  # b1, which is shown with b2: both in the third row group
    row = load_rows({piece: [order]})[piece].row(order)
    assert (row["deep"].item(), row["other_deep"].item()) == (5, 6) and read == [2]


def test_sample_grids_show_subjects_of_the_validation_split_first(config: Config) -> None:
    pictures = {("train", "64x64"): [{"id": f"{i}", "group": f"t{i}"} for i in range(3)]}
    held = {
        ("validation", "64x64"): [{"id": f"v{i}", "group": f"v{i // 2}", "caption": f"a cat {i}"} for i in range(4)]
    }
    write_prepared(Path(config.training.dataset), pictures | held)

    def refuse() -> None:
        raise AssertionError("stored features need no encoder")

    cases = sample_cases(settings(config, sample_columns=4), refuse)  # type: ignore[arg-type]
    assert [case.prompt for case in cases] == ["a cat 0", "a cat 2", "a red cat", "a red cat"]
    assert {case.word for case in cases} == {"cat"}


def test_sample_grids_show_the_subjects_of_a_dreambench_folder(config: Config, tmp_path: Path) -> None:
    """One photograph of each, with the prompts in turn; the dataset is not looked at."""
    folder = write_dreambench(tmp_path / "dreambench", ("cup", "rex", "tin"))
    vision = VisionEncoder.load(config.model, config.vision)
    chosen = settings(config, sample_references=folder, sample_columns=2)
    cases = sample_cases(chosen, lambda: vision)
    assert [(case.prompt, case.word) for case in cases] == [("a cup on the beach", "cup"), ("a red rex", "rex")]
    for case, color in zip(cases, ((200, 0, 0), (0, 200, 0)), strict=True):
        assert isinstance(case.shown, Image.Image) and case.shown.getpixel((64, 64)) == color
        torch.testing.assert_close(case.features.deep, vision.encode_images([case.shown]).deep)
    missing = settings(config, sample_references=tmp_path)
    with pytest.raises(DataError, match=r"^training\.sample_references: "):
        sample_cases(missing, lambda: vision)
