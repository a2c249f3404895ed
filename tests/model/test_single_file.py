"""Single-file checkpoints of SDXL as base model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.config import Config, for_workers, load_config
from components.errors import ArtifactError
from components.model.pipeline import RealCustomPipeline
from components.registry import version_config
from components.registry.compatibility import check_adapter
from components.registry.origin import base_identity
from tests.fixtures.single_file import save_base, save_configurations, save_single_file

SHORT: dict[str, Any] = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "pt"}


@pytest.fixture(scope="module")
def files(miniature: Any, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A base as a directory, its weights as one file, and its configurations without weights."""
    root = tmp_path_factory.mktemp("single-file")
    save_base(miniature.base, root / "base")
    save_configurations(root / "base", root / "configurations")
    save_single_file(StableDiffusionXLPipeline.from_pretrained(root / "base"), root / "base-model.safetensors")
    return SimpleNamespace(base=root / "base", file=root / "base-model.safetensors", layout=root / "configurations")


def settings(miniature: Any, base: Path, *others: str) -> Config:
    parts = [f"model.{name}={getattr(miniature, name)}" for name in ("siglip", "dinov2")]
    return load_config("tiny", [*parts, f"model.base={base}", "model.adapter=null", *others])


def generated(pipeline: Any) -> Tensor:
    seed = torch.Generator().manual_seed(5)
    images: Tensor = pipeline("a robot in the snow", generator=seed, **SHORT).images
    return images


def test_a_single_file_gives_the_images_of_the_directory(miniature: Any, files: SimpleNamespace) -> None:
    single = RealCustomPipeline.from_config(settings(miniature, files.file, f"model.base_config={files.layout}"))
    directory = RealCustomPipeline.from_config(settings(miniature, files.base))
    stock = StableDiffusionXLPipeline.from_single_file(str(files.file), config=str(files.layout))
    images = generated(single)
    assert images.std() > 0.01
    assert torch.equal(images, generated(directory))
    stock_images = stock(
        "a robot in the snow",
        generator=torch.Generator().manual_seed(5),
        guidance_scale=3.5,
        num_inference_steps=2,
        height=64,
        width=64,
        output_type="pt",
    ).images
    assert torch.equal(images, stock_images)


def test_the_configurations_may_lie_beside_the_file(miniature: Any, files: SimpleNamespace, tmp_path: Path) -> None:
    named, beside = tmp_path / "named", tmp_path / "beside"
    save_configurations(files.layout, named / "anime")
    save_configurations(files.layout, beside)
    for directory in (named, beside):
        file = directory / "anime.safetensors"
        file.symlink_to(files.file)
        pipeline = RealCustomPipeline.from_config(settings(miniature, file))
        assert torch.equal(
            pipeline.unet.conv_in.weight, load_file(file)["model.diffusion_model.input_blocks.0.0.weight"]
        )


def test_a_single_file_that_cannot_be_loaded_says_why(miniature: Any, files: SimpleNamespace, tmp_path: Path) -> None:
    weights = load_file(files.file)
    projection = "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"
    other = {name: w for name, w in weights.items() if "label_emb" not in name}
    for name, content in {
        "lacking": {name: w for name, w in weights.items() if name != projection},
        "other": other,
        "wide": weights | {projection: torch.zeros(8, 8, 3, 3)},
    }.items():
        save_file(content, tmp_path / f"{name}.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"\x07" * 64)
    (tmp_path / "pickled.ckpt").write_bytes(b"")
    layout = f"model.base_config={files.layout}"
    for name, chosen, expected in (
        ("lacking", layout, "lacks weights of a part"),
        ("other", layout, "is no single-file checkpoint of Stable Diffusion XL"),
        ("wide", layout, r"model\.base.*conv1.weight"),
        ("damaged", layout, "model.base"),
        ("missing", layout, "there is no file"),
        ("other", "model.base_config=null", "set model.base_config to a directory with model_index.json"),
    ):
        with pytest.raises(ArtifactError, match=expected):
            RealCustomPipeline.from_config(settings(miniature, tmp_path / f"{name}.safetensors", chosen))
    with pytest.raises(ArtifactError, match=r"pickled checkpoint, which is not read; give a \.safetensors file"):
        RealCustomPipeline.from_config(settings(miniature, tmp_path / "pickled.ckpt", layout))


def test_the_registry_knows_a_single_file(
    miniature: Any, files: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(miniature, files.file, f"model.base_config={files.layout}")
    assert version_config.pack(config)["model"]["base_config"] == str(files.layout)
    monkeypatch.chdir(files.file.parent)
    moved = for_workers(settings(miniature, Path(files.file.name), f"model.base_config={files.layout.name}"))
    assert (moved.model.base, moved.model.base_config) == (str(files.file), str(files.layout))
    changed = tmp_path / files.file.name
    save_file({name: w + 1 for name, w in load_file(files.file).items()}, changed)
    assert base_identity(str(files.file)).startswith("sha256:") and base_identity(str(files.file)) != base_identity(
        str(changed)
    )
    RealCustomPipeline.from_config(config).adapter.save_pretrained(tmp_path / "adapter")
    check_adapter(config, tmp_path / "adapter")
    with pytest.raises(ArtifactError, match="the adapter belongs to another U-Net"):
        check_adapter(settings(miniature, miniature.base), tmp_path / "adapter")
