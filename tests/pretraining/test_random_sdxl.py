"""The random SDXL family: written whole at the miniature's size, and the sizes of its parts."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from components.config import Config
from components.errors import ArtifactError
from components.model import miniature
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.pretraining.random_sdxl import Part, save_random_sdxl, sdxl_parts

CAPTIONS = ["a red cat on the beach", "a robot in the snow"]


def small_parts(tokenizer: CLIPTokenizer) -> tuple[Part, ...]:
    """The parts of the family, at the size of the miniature."""
    builders: dict[str, Any] = {
        "base/unet": miniature.build_unet,
        "base/vae": miniature.build_vae,
        "base/text_encoder": lambda: miniature.build_text_encoders(tokenizer)[0],
        "base/text_encoder_2": lambda: miniature.build_text_encoders(tokenizer)[1],
        "siglip": partial(miniature.build_siglip, tokenizer, 32),
        "dinov2": partial(miniature.build_dinov2, 32),
    }
    return tuple(Part(part.place, part.weights, builders[part.place]) for part in sdxl_parts(tokenizer))


def test_the_parts_have_the_sizes_of_the_released_ones() -> None:
    tokenizer = miniature.build_tokenizer(CAPTIONS, 77)
    millions = {}
    for part in sdxl_parts(tokenizer):
        with torch.device("meta"):
            millions[part.place] = round(sum(p.numel() for p in part.build().parameters()) / 1e6, 1)
    assert millions == {
        "base/unet": 2567.5,
        "base/vae": 83.7,
        "base/text_encoder": 123.1,
        "base/text_encoder_2": 694.7,
        "siglip": 878.0,
        "dinov2": 304.4,
    }


def test_a_family_generates_with_a_subject(config: Config, tmp_path: Path) -> None:
    layout = save_random_sdxl(tmp_path / "family", CAPTIONS, parts=small_parts)
    places = {name: str(getattr(layout, name)) for name in ("base", "siglip", "dinov2")}
    model = config.model.model_copy(update=places | {"dtype": "bfloat16", "device": "cpu"})
    pipeline = RealCustomPipeline.from_config(config.model_copy(update={"model": model}))
    assert pipeline.unet.dtype == torch.bfloat16
    subject = Subject(pipeline.encode_subject([Image.new("RGB", (128, 128), "red")]), "robot")
    drawn = pipeline(["a robot in the snow"], subjects=[[subject]], num_inference_steps=2, height=64, width=64)
    assert drawn.images[0].size == (64, 64)


def test_an_interrupted_family_is_completed_with_the_same_weights(tmp_path: Path) -> None:
    whole = save_random_sdxl(tmp_path / "whole", CAPTIONS, seed=3, parts=small_parts)
    part = save_random_sdxl(tmp_path / "part", CAPTIONS, seed=3, parts=small_parts)
    kept = os.stat(part.dinov2 / "model.safetensors").st_mtime_ns
    shutil.rmtree(part.base / "unet")
    save_random_sdxl(tmp_path / "part", CAPTIONS, seed=3, parts=small_parts)
    assert os.stat(part.dinov2 / "model.safetensors").st_mtime_ns == kept
    name = "base/unet/diffusion_pytorch_model.safetensors"
    ours, theirs = (load_file(layout.root / name) for layout in (part, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs) and ours.keys() == theirs.keys()
    assert {value.dtype for value in ours.values()} == {torch.bfloat16}
    with pytest.raises(ArtifactError, match="random weights of"):
        save_random_sdxl(tmp_path / "part", CAPTIONS, seed=4, parts=small_parts)


def test_foreign_directories_and_full_disks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").touch()
    with pytest.raises(ArtifactError, match="other files"):
        save_random_sdxl(tmp_path / "used", CAPTIONS, parts=small_parts)
    usage = shutil.disk_usage(tmp_path)._replace(free=10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ArtifactError, match="choose a directory on another one"):
        save_random_sdxl(tmp_path / "new", CAPTIONS, parts=small_parts)
