"""A rehearsal: its inputs, its report, the memory that it sees, and all of it with the miniature."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from benchmarks.alternating import alternate, ratio_of_rounds
from components.config import load_config
from components.errors import ArtifactError, ConfigError, RealCustomError
from components.evaluation.dreambench.protocol import read_protocol
from components.evaluation.encoders import PublishedEncoders
from components.model.miniature import build_unet
from components.model.official import convert, meta_adapter
from components.pretraining.random_sdxl import judge_parts, save_random_release, save_random_sdxl
from components.rehearsal import run as running
from components.rehearsal.drawn_characters import draw_characters
from components.rehearsal.process_memory import MARKER, marked_processes, watch_memory
from components.rehearsal.report import Report, StageReport, find_report
from components.rehearsal.settings import Places, rehearsal_config, settings_mark, write_settings
from components.rehearsal.stages import Rehearsal, _equal, _start_seconds, stages
from components.rehearsal.written_inputs import captions, rows, write_dreambench, write_pictures, write_table
from workflows import rehearse

FRESH = Report(commit="abc", preset="tiny", settings="s", machine={"cores": 2})


def test_the_inputs_are_what_the_commands_read(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    write_pictures(pictures, 64, seed=1)
    write_pictures(pictures, 64, seed=1)
    assert len(rows(pictures)) == 8 and len({row["group"] for row in rows(pictures)}) == 2
    assert len(captions(pictures)) == 8
    write_dreambench(pictures, tmp_path / "dreambench")
    bench = load_config("tiny", [f"evaluation.dreambench.source={tmp_path}/dreambench"]).evaluation.dreambench
    protocol = read_protocol(bench.model_copy(update={"subjects": 1, "prompts": 2, "seeds": 1}), 0)
    assert [spec.text for spec in protocol.specs] == [
        f"a {protocol.subjects[0].noun} on the beach",
        f"a {protocol.subjects[0].noun} in the snow",
    ]
    lines = [json.loads(line) for line in write_table(pictures).read_text().splitlines()]
    assert len(lines) == 2 and all((pictures / line["reference"]).exists() for line in lines)
    assert all(line["word"] in line["prompt"] for line in lines)


def test_random_judges_score_and_a_random_release_converts(tmp_path: Path) -> None:
    """The judges at full size, since they are small; the release for the miniature's U-Net."""

    def parts(tokenizer: CLIPTokenizer):  # type: ignore[no-untyped-def]
        return judge_parts(tokenizer)

    save_random_sdxl(tmp_path / "family", ["a red cat"], dtype=torch.float32, parts=parts)
    judges = PublishedEncoders(str(tmp_path / "family" / "dino"), str(tmp_path / "family" / "clip"))
    assert judges.similarity == ("dino", "clip_i")

    with torch.device("meta"):
        unet = build_unet()
    sizes = load_config("tiny").adapter
    save_random_release(tmp_path / "release.safetensors", 3, meta_adapter(unet, 192, sizes))
    described = {name: value for name, value in unet.config.items() if not name.startswith("_")}
    adapter = convert(
        tmp_path / "release.safetensors", tmp_path / "adapter", unet=described, vision_channels=192, sizes=sizes
    )
    assert adapter.conditioning.text_pooling == "unprojected"
    first = load_file(tmp_path / "release.safetensors")
    save_random_release(tmp_path / "again.safetensors", 3, meta_adapter(unet, 192, sizes))
    assert all(torch.equal(first[name], value) for name, value in load_file(tmp_path / "again.safetensors").items())


def test_a_report_goes_on_where_the_settings_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "abc.json"
    assert find_report(file, FRESH) is FRESH
    done = FRESH.model_copy(deep=True)
    done.stages["train"] = StageReport(seconds=3, peak_gb=1.5, processes={"ray::x": 1.0}, values={"train_peak_gb": 1.0})
    done.save(file)
    assert find_report(file, FRESH).values == {"train_peak_gb": 1.0}
    assert find_report(file, FRESH.model_copy(update={"settings": "other"})).stages == {}
    file.write_text("{")
    assert find_report(file, FRESH) is FRESH
    table = done.table(["train", "serve"])
    assert [list(column.cells) for column in table.columns][4] == ["train_peak_gb 1", "not run"]


def test_only_missing_stages_are_run_and_a_failure_keeps_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def stage(name: str):  # type: ignore[no-untyped-def]
        def run(rehearsal: Rehearsal) -> dict[str, float]:
            ran.append(name)
            if name == "third" and len(ran) < 4:
                raise RealCustomError("out of order")
            return {name: 1.0}

        return run

    class NoRay(running.HeadNode):
        running = staticmethod(lambda: watch_memory("nobody"))  # type: ignore[assignment]

    monkeypatch.setattr(running, "stages", lambda full: {name: stage(name) for name in ("first", "second", "third")})
    monkeypatch.setattr(running, "HeadNode", NoRay)
    places = Places(tmp_path, tmp_path / "weights")
    running.rehearse("tiny", places, "abc", only=["first"])
    with pytest.raises(RealCustomError, match="out of order"):
        running.rehearse("tiny", places, "abc")
    assert running.rehearse("tiny", places, "abc").values == {"first": 1.0, "second": 1.0, "third": 1.0}
    running.rehearse("tiny", places, "abc")
    assert ran == ["first", "second", "third", "third"]
    assert running.rehearse("tiny", places, "def", only=["first"]).values == {"first": 1.0}, "another commit"
    with pytest.raises(ConfigError, match="--only nothing: choose among inputs, register"):
        rehearse.run("tiny", tmp_path, only=["nothing"])


def test_the_settings_are_those_of_the_preset_at_few_pixels(tmp_path: Path) -> None:
    places = Places(tmp_path / "sdxl", tmp_path / "weights")
    config = rehearsal_config("sdxl", places, "cpu", 2, [])
    assert (config.sampling.width, config.data.image_size, config.training.use_gpu) == (512, 512, False)
    assert config.model.base == str(tmp_path / "weights" / "base") and config.model.adapter == str(places.adapter)
    assert config.adapter.hidden_dim == 8704 and config.model.dtype == "bfloat16"
    gpu = rehearsal_config("sdxl", places, "cuda", 16, ["training.batch_size=4"])
    assert (gpu.sampling.width, gpu.training.batch_size, gpu.serving.generator_gpus) == (1024, 4, 1)
    assert settings_mark(config, 2) != settings_mark(gpu, 16)
    write_settings(config, places.settings)
    assert load_config(file=places.settings) == config
    assert set(stages(True)) - set(stages(False)) == {"convert"}


def test_room_is_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_DISK", 2**70)
    with pytest.raises(ArtifactError, match="choose another --output"):
        running.check_room(tmp_path / "out", tmp_path / "weights")
    (tmp_path / "out" / "adapter").write_bytes(b"x" * 10)  # a rehearsal is resumed
    monkeypatch.setattr(running.shutil, "disk_usage", lambda _: SimpleNamespace(free=5))
    monkeypatch.setattr(running, "_DISK", 16)
    with pytest.raises(ArtifactError, match="choose another --output"):
        running.check_room(tmp_path / "out", tmp_path / "weights")
    monkeypatch.setattr(running, "_DISK", 15)
    running.check_room(tmp_path / "out", tmp_path / "weights")
    monkeypatch.setattr(running, "_MEMORY", 2**70)
    with pytest.raises(ArtifactError, match="--preset tiny"):
        running.check_room(tmp_path / "out", tmp_path / "weights")


def test_memory_of_all_marked_processes_is_seen() -> None:
    code = "import time, sys; data = b'x' * 300_000_000; print(len(data), flush=True); time.sleep(60)"
    marked = os.environ | {MARKER: "a test"}
    with watch_memory("a test") as peak:
        started = [
            subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE)
            for env in (marked, marked, os.environ | {MARKER: "another"})
        ]
        try:
            for process in started:
                assert process.stdout is not None and process.stdout.readline()
            assert {each.pid for each in marked_processes("a test")} == {each.pid for each in started[:2]}
            time.sleep(1.2)
        finally:
            for process in started:
                process.kill()
                process.wait()
    assert 0.6 < peak.total_gb < 0.9 and max(peak.largest.values()) > 0.3


def test_equal_adapters_and_start_seconds_are_told(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        save_file({"x": torch.full((3,), value)}, tmp_path / name)
    assert _equal(tmp_path / "a", tmp_path / "b") and not _equal(tmp_path / "a", tmp_path / "c")
    page = 'realcustom_start_seconds{part="load",replica="x",version="1"} 30.5\n'
    assert _start_seconds(page, "load") == 30.5
    with pytest.raises(RealCustomError, match="warm_up"):
        _start_seconds(page, "warm_up")


def test_the_first_image_of_a_character_is_compared_in_a_warm_service(tmp_path: Path) -> None:
    """A service that takes 0.3 s for its first image, 0.1 s more for the first one of a character, 0.05 s always.

    It has encoded a character when it is asked the second time.
    """
    write_pictures(tmp_path, 64, seed=1)
    shown: list[str] = []
    created, encoded = 0, 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal created, encoded
        if request.url.path == "/metrics":
            sample = f'realcustom_subject_tokens_total{{replica="x",source="computed"}} {encoded}\n'
            encoded = created
            return httpx.Response(200, text="# TYPE realcustom_subject_tokens counter\n" + sample)
        if request.url.path == "/v1/characters":
            created += 1
            return httpx.Response(201, json={"id": f"character-{len(shown)}"})
        if created > 1 and len(shown) == 1:
            assert encoded == 2
        (character,) = json.loads(request.content)["characters"]
        time.sleep(0.05 + 0.3 * (not shown) + 0.1 * (character["id"] not in shown))
        shown.append(character["id"])
        file = io.BytesIO()
        Image.new("RGB", (64, 64)).save(file, "PNG")
        return httpx.Response(200, json={"data": [{"b64_json": base64.b64encode(file.getvalue()).decode()}]})

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://service") as client:
        drawn = draw_characters(client, tmp_path, (64, 64))
        with pytest.raises(RealCustomError, match="not 128 x 64 pixels"):
            draw_characters(client, tmp_path, (128, 64))
    assert shown[:3] == ["character-0", "character-1", "character-1"]
    assert drawn["new_character_s"] > 0.4 and 0.15 < drawn["stored_character_s"] < 0.4
    assert 2 < drawn["first_over_second"] == drawn["stored_character_s"] / drawn["next_s"]


def test_implementations_take_turns_step_by_step() -> None:
    order: list[str] = []

    def run(name: str):  # type: ignore[no-untyped-def]
        def steps(count: int, after_step):  # type: ignore[no-untyped-def]
            for _ in range(count):
                order.append(name)
                after_step()

        return steps

    seconds = alternate({"a": run("a"), "b": run("b")}, 3)
    assert order == ["a", "b"] * 3 and [len(each) for each in seconds.values()] == [3, 3]
    rounds = [{"default": 3.0, "stock": 2.0}, {"default": 2.0, "stock": 2.0}, {"default": 6.0, "stock": 5.0}]
    assert ratio_of_rounds(rounds) == {"ours_over_stock": 1.2, "spread": {"low": 1.0, "high": 1.5}}


def test_sigterm_ends_the_head_node_too(tmp_path: Path) -> None:
    script = f"""
import time
from pathlib import Path
from components.rehearsal.head_node import HeadNode
node = HeadNode(Path({str(tmp_path / "log")!r}), 1, 0)
with node.running():
    print(node.marker, flush=True)
    time.sleep(600)
"""
    started = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    marker = started.stdout.readline().strip()
    assert len(marked_processes(marker)) > 2
    started.terminate()
    assert started.wait(60) == 128 + signal.SIGTERM
    assert not marked_processes(marker)


@pytest.mark.slow
def test_the_miniature_is_rehearsed(tmp_path: Path) -> None:
    rehearse.run("tiny", tmp_path)
    report = rehearse.run("tiny", tmp_path, only=["encodings"])
    assert set(report.stages) == {*stages(False), "encodings"}
    sizes = [float(report.values[f"row_mb.{way}"]) for way in ("all", "latents", "text")]
    assert sizes[0] > sizes[1] > 0 and sizes[2] > 0
    assert all(0 <= float(report.values[f"wait_share.{way}"]) <= 1 for way in ("all", "latents", "latents_beside"))
    assert report.values["resumed_equal"] is True and report.values["killed_workers"] == 1.0
    assert report.values["images"] == 2.0
    assert float(report.values["first_over_second"]) > 0 and float(report.values["ready_s"]) < 90
    assert float(report.values["train_peak_gb"]) > 0.2 and float(report.values["train_samples_per_s"]) > 0
