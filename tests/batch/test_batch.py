"""A table of prompts: each row is the picture that it would be alone, and none is lost or drawn twice."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

from components.batch.prompt_table import read_table
from components.batch.ray_stage import RenderRows, Task, task_block
from components.batch.renderer import Renderer
from components.batch.row import BatchRow, read_row
from components.batch.row_results import PictureFacts, RowResults
from components.batch.run import generate_table
from components.characters.character import Reference
from components.characters.store import CharacterStore
from components.config import PACKAGE_ROOT, Config, SamplingConfig, load_config
from components.cut_outs import cut_out
from components.data.blocks import read_done
from components.data.region import subject_mask
from components.data.source_files import SourceFiles
from components.errors import DataError
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.provenance.image_files import (
    MACHINE_MADE,
    TEXT_KEY,
    GenerationParameters,
    ModelName,
    Output,
    PictureWriter,
)
from tests.fakes.pipeline import FakePipeline
from tests.fixtures.faults import family, kill_all
from tests.fixtures.tolerances import LEVEL

FAKES = "tests.fakes.batch"
SAMPLING = SamplingConfig(steps=3, height=64, width=64)


def write_jsonl(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def photograph(file: Path, color: str = "red") -> Path:
    picture = Image.new("RGB", (160, 160), "lightgreen")
    ImageDraw.Draw(picture).ellipse((30, 30, 130, 130), fill=color)
    picture.save(file)
    return file


def results(output: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in pq.read_table(output / "results.parquet").to_pylist()}


def test_the_same_rows_in_three_formats(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "prompt": "a robot", "seed": 3, "reference": "rob.png", "word": "robot", "strength": 0.5},
        {"id": "b", "prompt": "a cat", "size": "32x64", "steps": 7, "guidance_scale": 2.0, "negative_prompt": "snow"},
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (tmp_path / "rows.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    pq.write_table(pa.Table.from_pylist([dict.fromkeys(columns) | row for row in rows]), tmp_path / "rows.parquet")
    read = [read_table(tmp_path / f"rows.{ending}", SAMPLING) for ending in ("jsonl", "csv", "parquet")]
    assert read[0].rows == read[1].rows == read[2].rows
    first, second = read[0].rows
    assert (first.size, first.steps, first.subjects[0].references) == ("64x64", 3, ("rob.png",))
    assert (second.width, second.height, second.steps, second.subjects) == (32, 64, 7, ())
    assert read[0].order == ["a", "b"] and read[0].faults == {}


def test_lists_stand_in_cells_as_json(tmp_path: Path) -> None:
    cast = json.dumps([{"references": ["a.png"], "word": "cat"}, {"character": "char-1"}])
    with (tmp_path / "rows.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [["prompt", "references", "word", "subjects"], ["x", '["a.png", "b.png"]', "y", ""], ["x", "", "", cast]]
        )
    first, second = read_table(tmp_path / "rows.csv", SAMPLING).rows
    assert first.references == ["a.png", "b.png"]
    assert [subject.word for subject in second.subjects] == ["cat", None]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prompt": ""}, "prompt"),
        ({"seed": 1}, "prompt"),
        ({"prompt": "x", "seed": -1}, "seed"),
        ({"prompt": "x", "seed": "seven"}, "seed"),
        ({"prompt": "x", "size": "100x100"}, "multiples of 8"),
        ({"prompt": "x", "size": "large"}, "size"),
        ({"prompt": "x", "steps": 0}, "steps"),
        ({"prompt": "x", "word": "cat"}, "reference or a character"),
        ({"prompt": "x", "reference": "a.png", "character": "char-1"}, "not both"),
        ({"prompt": "x", "reference": "a.png", "subjects": [{"character": "char-1"}]}, "not both"),
        ({"prompt": "x", "subjects": "[{"}, "JSON"),
        ({"prompt": "x", "subjects": [{"references": ["a"]}, {"references": ["b"]}]}, "word"),
        ({"prompt": "x", "reference": "a.png", "strength": 3}, "strength"),
        (["prompt"], "JSON object"),
        (None, "JSON object"),
    ],
)
def test_a_row_that_cannot_be_drawn_says_why(values: Any, said: str) -> None:
    with pytest.raises(DataError, match=said) as refused:
        read_row(values, "000001", SAMPLING)
    assert "seven" not in str(refused.value) and "large" not in str(refused.value), "no values in reasons"


def test_every_row_of_a_table_is_a_row_or_a_fault(tmp_path: Path) -> None:
    table = tmp_path / "rows.jsonl"
    table.write_text(
        '{"prompt": "one"}\n{"prompt": \n{"id": "a/b", "prompt": "x"}\n{"id": "000001", "prompt": "again"}\n'
    )
    read = read_table(table, SAMPLING)
    assert [row.id for row in read.rows] == ["000001"]
    assert read.order == ["000001", "000002", "row-000003", "row-000004"]
    assert {name: reason.split(":")[0] for name, reason in read.faults.items()} == {
        "000002": "the row is no JSON object", "row-000003": "id", "row-000004": "id",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.jsonl", b"", "holds no rows"),
        ("rows.txt", b"x", "a .jsonl, .csv or .parquet"),
        ("rows.jsonl", b"\xff\xfe\x00", "cannot be read"),
        ("rows.parquet", b"PAR1 no", "cannot be read"),
        ("missing.csv", None, "does not exist"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_error(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"--table .*{said}"):
        read_table(tmp_path / name, SAMPLING)


def test_a_picture_says_what_it_was_drawn_from(tmp_path: Path) -> None:
    results = RowResults(tmp_path)
    results.make()
    parameters = GenerationParameters(3, ("café",), 4, 3.5, None, "a café in 東京")
    writer = PictureWriter(ModelName("m", "1"), with_prompt=True)
    results.save("a", writer(Image.new("RGB", (8, 8)), Output(), parameters, mark="mark", size="64x64", seconds=0.1))
    assert results.facts("a") == PictureFacts("mark", "m", "1", "a café in 東京", 3, "64x64", 4, 3.5, 0.1, ["café"])
    assert results.has("a", "mark") and not results.has("a", "other")
    assert MACHINE_MADE.encode() in results.picture("a").read_bytes()
    Image.new("RGB", (8, 8)).save(results.picture("b"))
    assert results.facts("b") is None and results.facts("c") is None
    results.fail("a", "why")
    assert results.reason("a") == "why" and not results.has("a", "mark")
    assert sorted(file.name for file in (tmp_path / "pictures").iterdir()) == ["b.png"]


@pytest.fixture
def pipeline(config: Config) -> RealCustomPipeline:
    """An adapter with random values, so that subjects make a difference."""
    made = RealCustomPipeline.from_config(config)
    torch.manual_seed(0)
    for name, parameter in made.adapter.named_parameters():
        if "to_v_vision" in name:
            nn.init.normal_(parameter, std=0.2)
    return made


def test_a_row_is_the_picture_that_it_would_be_alone(
    config: Config, pipeline: RealCustomPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CharacterStore(config.serving.store)
    picture = Image.open(photograph(tmp_path / "cat.png", "blue"))
    kept = store.create("Tom", "a cat", "cat", [Reference(picture, subject_mask(picture))])
    photograph(tmp_path / "rob.png")
    table = write_jsonl(
        tmp_path / "rows.jsonl",
        [
            {"prompt": "a robot in the snow", "seed": 1, "reference": "rob.png", "word": "robot", "steps": 4},
            {"prompt": "a bird at night", "seed": 2, "steps": 6},
            {"prompt": "a cat on the beach", "seed": 3, "character": kept.id, "steps": 3, "size": "96x64"},
            {"prompt": "a bird at night", "seed": 3, "guidance_scale": 1, "steps": 5},
        ],
    )
    rows = read_table(table, config.sampling).rows
    expected = [alone(pipeline, row, tmp_path) for row in rows]
    monkeypatch.setattr("components.registry.versions.load_pipeline", lambda *_: pipeline)
    results = RowResults(tmp_path / "out")
    results.make()
    worker = RenderRows(config, ("m", "1"), "components.registry.versions", SourceFiles.at(tmp_path), results)
    assert read_done(worker(task_block([Task(row, "mark") for row in rows]))) == 4
    for row, wanted in zip(rows, expected, strict=True):
        drawn = np.asarray(Image.open(results.picture(row.id)), int)
        assert drawn.shape == np.asarray(wanted).shape
        assert np.abs(drawn - np.asarray(wanted, int)).max() <= LEVEL, row.id
    different = [np.asarray(Image.open(results.picture(row.id)).resize((64, 64)), int) for row in rows]
    assert np.abs(different[1] - different[3]).max() > 10, "rows are not the same picture"
    facts = results.facts(rows[2].id)
    assert facts is not None and facts.target_words == ["cat"] and facts.seconds > 0
    assert store.tokens(kept.id, pipeline.token_identity) is not None, "they are kept for the service"


def alone(pipeline: RealCustomPipeline, row: BatchRow, folder: Path) -> Image.Image:
    """The picture of a single call."""
    subject = None
    if row.subjects:
        picture = Image.open(folder / ("rob.png" if row.references else "cat.png"))
        cutout = cut_out(picture, subject_mask(picture), pipeline.reference_size)
        subject = Subject(pipeline.encode_subject([cutout]), "robot" if row.references else "cat")
    drawn = pipeline(
        row.prompt,
        subjects=subject,
        num_inference_steps=row.steps,
        guidance_scale=row.guidance_scale,
        height=row.height,
        width=row.width,
        generator=torch.Generator().manual_seed(row.seed),
    )
    return drawn.images[0]


def test_a_picture_that_cannot_be_signed_costs_no_other(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sign(picture: bytes, mime: str) -> bytes:
        with Image.open(io.BytesIO(picture)) as written:
            if json.loads(written.info[TEXT_KEY])["seed"] == 2:
                raise OSError("nobody tells the time")
        return picture

    writer = PictureWriter(ModelName("m", "1"), with_prompt=True, sign=sign)
    monkeypatch.setattr("components.batch.ray_stage.picture_writer", lambda *_, **__: writer)
    table = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a bird", "seed": seed, "steps": 2} for seed in (1, 2, 3)])
    rows, results = read_table(table, config.sampling).rows, RowResults(tmp_path / "out")
    results.make()
    worker = RenderRows(config, ("m", "1"), FAKES, SourceFiles.at(tmp_path), results)
    assert read_done(worker(task_block([Task(row, "mark") for row in rows]))) == 3
    assert [results.has(row.id, "mark") for row in rows] == [True, False, True]
    assert results.reason(rows[1].id) == "internal error (OSError)"


def test_a_word_is_found_where_none_is_given(config: Config, pipeline: RealCustomPipeline, tmp_path: Path) -> None:
    photograph(tmp_path / "rob.png")
    renderer = Renderer(config, pipeline, SourceFiles.at(tmp_path))
    drawn = renderer.render(read_row({"prompt": "a robot in the snow", "reference": "rob.png"}, "a", SAMPLING))
    renderer.close()
    assert len(drawn.words) == 1 and drawn.words[0] in drawn.prompt


def test_the_budget_is_measured_no_longer_than_a_service_warms_up(tmp_path: Path) -> None:
    """At full size on a processor a trial of eight images takes minutes."""
    config = load_config("tiny", [f"serving.store={tmp_path}/store", "serving.warm_up_s=0.001", "sampling.steps=2"])
    pipeline, trials = FakePipeline(), list[int]()
    denoiser = pipeline.denoiser

    def counting() -> Any:
        call = denoiser()
        return lambda inputs: (trials.append(len(inputs)), time.sleep(0.01), call(inputs))[-1]

    pipeline.denoiser = counting  # type: ignore[method-assign]
    Renderer(config, pipeline, SourceFiles.at(tmp_path)).close()
    assert trials == [1, 1], "the two steps of one image"


def test_transparency_says_where_the_subject_of_a_reference_is(tmp_path: Path) -> None:
    layered = Image.new("RGBA", (160, 160), (255, 0, 0, 255))
    layered.paste((0, 0, 255, 0), (0, 0, 160, 100))
    layered.paste((0, 0, 255, 255), (60, 20, 100, 60))
    layered.save(tmp_path / "a.png")
    config = load_config("tiny", [f"serving.store={tmp_path}/store", "serving.pixel_budget=8192"])
    pipeline = FakePipeline()
    seen: list[Image.Image] = []
    encode = pipeline.encode_subject
    pipeline.encode_subject = lambda pictures: seen.extend(pictures) or encode(pictures)  # type: ignore[method-assign]
    renderer = Renderer(config, pipeline, SourceFiles.at(tmp_path))
    renderer.render(read_row({"prompt": "a robot", "word": "robot", "reference": "a.png"}, "a", SAMPLING))
    renderer.close()
    mask = layered.getchannel("A")
    assert seen[0].tobytes() == cut_out(layered.convert("RGB"), mask, pipeline.reference_size).tobytes()


def mixed(folder: Path) -> Path:
    """Six rows; three of them cannot be drawn."""
    photograph(folder / "rob.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    robot = {"prompt": "a robot", "word": "robot"}
    return write_jsonl(
        folder / "rows.jsonl",
        [
            robot | {"reference": "rob.png", "seed": 1},
            robot | {"reference": "broken.png"},
            {"prompt": "a bird", "seed": 2},
            {"prompt": "a bird", "reference": "rob.png", "word": "robot"},
            {"prompt": "a bird", "seed": "two"},
            {"prompt": "a bird", "seed": 3},
        ],
    )


@pytest.mark.slow
def test_poisoned_rows_are_kept_with_their_reasons_and_resumed(tmp_path: Path, ray_cluster: None) -> None:
    table, output = mixed(tmp_path), tmp_path / "out"
    config = load_config("tiny", ["sampling.steps=2", f"serving.store={tmp_path}/store", "serving.pixel_budget=8192"])
    report = generate_table(config, table, output, FAKES)
    assert (report.rows, report.done, report.failed, report.generated) == (6, 3, 3, 3)
    rows = results(output)
    assert [row["status"] for row in rows.values()] == ["done", "failed", "done", "failed", "failed", "done"]
    reasons = [row["reason"] for row in rows.values() if row["status"] == "failed"]
    assert [said in reason for said, reason in zip(("not a picture", "word", "seed"), reasons, strict=True)] == [
        True
    ] * 3
    before = {file.name: file.stat().st_mtime_ns for file in (output / "pictures").iterdir()}

    photograph(tmp_path / "broken.png", "blue")  # mended
    report = generate_table(config, table, output, FAKES)
    assert (report.done, report.failed, report.generated) == (4, 2, 1), "only what was missing is drawn"
    after = {file.name: file.stat().st_mtime_ns for file in (output / "pictures").iterdir()}
    assert {name: after[name] for name in before} == before

    photograph(tmp_path / "rob.png", "black")  # another reference is another picture
    report = generate_table(config, table, output, FAKES)
    assert (report.done, report.generated) == (4, 1)
    assert (output / results(output)["000001"]["picture"]).exists()


@pytest.mark.slow
def test_a_row_that_kills_its_process_is_found_and_costs_no_other(tmp_path: Path, ray_cluster: None) -> None:
    rows = [{"prompt": "a bird", "seed": seed} for seed in range(8)]
    rows[3]["prompt"] = "a deadly bird"
    table = write_jsonl(tmp_path / "rows.jsonl", rows)
    config = load_config("tiny", ["sampling.steps=2", "serving.pixel_budget=8192"])
    report = generate_table(config, table, tmp_path / "out", FAKES)
    assert (report.rows, report.done, report.failed) == (8, 7, 1)
    assert "died 3 times" in results(tmp_path / "out")["000004"]["reason"]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    rows = [{"prompt": "a slow bird", "seed": seed} for seed in range(24)]
    table, output = write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path / "out"
    # One picture at a time, so that some are done and some are not.
    settings = ["sampling.steps=2", "serving.pixel_budget=4096", "batch.rows=8"]
    command = [sys.executable, "-m", FAKES, str(table), str(output), *settings]
    running = subprocess.Popen(command, cwd=PACKAGE_ROOT)
    deadline = time.monotonic() + 120
    while len(list((output / "pictures").glob("[0-9]*.png"))) < 5:
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.05)
    kill_all(family(running.pid))
    running.wait(30)
    kept = {file.name: file.stat().st_mtime_ns for file in (output / "pictures").glob("[0-9]*.png")}
    assert 5 <= len(kept) < 24 and not (output / "results.parquet").exists()
    for name in kept:
        Image.open(output / "pictures" / name).load()

    again = subprocess.run(command, cwd=PACKAGE_ROOT, capture_output=True, text=True, timeout=300, check=True)
    print(f"killed after {len(kept)} of 24 pictures; then: {again.stdout.strip()}")
    assert again.stdout.split() == ["24", "24", "0", str(24 - len(kept))]
    assert {name: (output / "pictures" / name).stat().st_mtime_ns for name in kept} == kept
    assert not list((output / "pictures").glob(".*")), "nothing half-written is left"


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    from filelock import FileLock

    table = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a bird"}])
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(DataError, match="another run"):
        generate_table(load_config("tiny"), table, tmp_path / "out", FAKES)


def test_generate_takes_a_prompt_or_a_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from workflows import batch
    from workflows.cli import app

    seen: list[Any] = []
    monkeypatch.setattr(batch, "run", lambda config, **arguments: seen.append(arguments))
    assert CliRunner().invoke(app, ["generate", "--table", "rows.csv", "--output", "x"]).exit_code == 0
    assert seen == [{"table": "rows.csv", "output": Path("x")}]
    refused = CliRunner().invoke(app, ["generate"])
    assert refused.exit_code == 2 and "--table" in refused.output
