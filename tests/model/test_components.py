"""Adapter and vision encoder as components of a diffusers pipeline: moved, offloaded, saved, uploaded and shared.

The tests need no accelerator. Two stand-ins show what offloading does to parameters: the ``meta`` device as execution
device shows where they are during a call; offloading from the CPU to ``meta`` or to disk, with the CPU as execution
device, shows that a call reads no parameter that was not loaded for it.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from diffusers import StableDiffusionXLPipeline
from diffusers.hooks import apply_group_offloading
from PIL import Image
from torch import Tensor, nn

from components.config import GuidanceConfig
from components.errors import ArtifactError
from components.model.adapter import RealCustomAdapter
from components.model.attention import SubjectAttention, SubjectContext
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.model.vision import VisionEncoder
from tests.fixtures.random_adapters import random_adapter_pipeline

PROMPT, WORD = "a red cat on the beach", "cat"
SHORT = {"num_inference_steps": 3, "height": 64, "width": 64, "output_type": "latent"}
COMPONENTS = {"unet", "vae", "text_encoder", "text_encoder_2", "adapter", "vision_encoder"}


@pytest.fixture(scope="module")
def original(miniature) -> RealCustomPipeline:  # type: ignore[no-untyped-def]
    """An adapter with random (not zero) values, so that a subject makes a difference."""
    return random_adapter_pipeline(miniature)


@pytest.fixture
def pipeline(original: RealCustomPipeline) -> RealCustomPipeline:
    """A copy to move and to place hooks on."""
    own = copy.deepcopy(original)
    own.adapter.attach(own.unet)
    return own


def generate(pipeline: RealCustomPipeline, **arguments: Any) -> Tensor:
    """Latents with a subject that is encoded by the same pipeline."""
    tokens = pipeline.encode_subject([Image.new("RGB", (128, 128), "red")])
    generator = torch.Generator().manual_seed(0)
    images: Tensor = pipeline(PROMPT, Subject(tokens, WORD), generator=generator, **SHORT | arguments).images
    return images


@pytest.fixture(scope="module")
def expected(original: RealCustomPipeline) -> Tensor:
    return generate(original)


def devices(module: nn.Module) -> set[str]:
    return {parameter.device.type for parameter in module.parameters()}


def test_each_parameter_belongs_to_one_component(original: RealCustomPipeline, miniature) -> None:  # type: ignore[no-untyped-def]
    modules = {name: part for name, part in original.components.items() if isinstance(part, nn.Module)}
    assert modules.keys() == COMPONENTS
    owners = [id(parameter) for module in modules.values() for parameter in module.parameters()]
    assert len(owners) == len(set(owners))
    stock = StableDiffusionXLPipeline.from_pretrained(miniature.base)
    assert original.unet.state_dict().keys() == stock.unet.state_dict().keys()
    assert original.config["adapter"] == ("components.model.adapter", "RealCustomAdapter")


def test_a_move_reaches_adapter_and_vision_encoder(pipeline: RealCustomPipeline) -> None:
    assert pipeline.to(torch.float64) is pipeline
    parts = [pipeline.components[name] for name in COMPONENTS]
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.float64}
    assert generate(pipeline).dtype == torch.float64
    pipeline.to("meta")
    assert all(devices(part) == {"meta"} for part in parts)
    # The U-Net's attention processors refer to the moved parameters.
    call_unet(pipeline, torch.float64)


def call_unet(pipeline: RealCustomPipeline, dtype: torch.dtype) -> None:
    """A U-Net call with a subject, of meta tensors: a parameter on another device raises."""
    with torch.device("meta"):
        latents, text = torch.randn(1, 4, 16, 16, dtype=dtype), torch.randn(1, 32, 128, dtype=dtype)
        added = {"text_embeds": torch.randn(1, 64, dtype=dtype), "time_ids": torch.zeros(1, 6, dtype=dtype)}
        context = SubjectContext((16, 16), [SubjectAttention(torch.randn(1, 64, 128, dtype=dtype))])
        timestep = torch.tensor(10)
    output = pipeline.unet(
        latents, timestep, text, added_cond_kwargs=added, cross_attention_kwargs={"subject": context}
    )
    assert output.sample.device.type == "meta"


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> str:
    """The meta device, which has no memory to be freed and no values to be copied back."""
    monkeypatch.setattr("diffusers.pipelines.pipeline_utils.empty_device_cache", lambda device: None)
    monkeypatch.setattr("accelerate.hooks.CpuOffload.init_hook", lambda self, module: module.to_empty(device="cpu"))
    return "meta"


def test_model_offload_puts_the_adapter_beside_the_unet(pipeline: RealCustomPipeline, meta: str) -> None:
    pipeline.enable_model_cpu_offload(device=meta)
    assert all(devices(pipeline.components[name]) == {"cpu"} for name in COMPONENTS)
    call_unet(pipeline, torch.float32)
    assert devices(pipeline.unet) == devices(pipeline.adapter) == {"meta"}
    assert devices(pipeline.vision_encoder) == devices(pipeline.vae) == devices(pipeline.text_encoder) == {"cpu"}
    # The next module of the sequence sends the adapter back.
    pipeline.text_encoder(torch.zeros(1, 4, dtype=torch.long, device="meta"))
    assert devices(pipeline.adapter) == {"cpu"}


def test_the_vision_encoder_goes_back_once_the_adapter_runs(pipeline: RealCustomPipeline, meta: str) -> None:
    pipeline.enable_model_cpu_offload(device=meta)
    features = pipeline.vision_encoder(torch.zeros(1, 3, 128, 128, device="meta"))
    assert devices(pipeline.vision_encoder) == {"meta"}
    pipeline.adapter(features)
    assert devices(pipeline.vision_encoder) == {"cpu"} and devices(pipeline.adapter) == {"meta"}


def test_model_offload_generates_the_same(pipeline: RealCustomPipeline, expected: Tensor) -> None:
    pipeline.enable_model_cpu_offload(device="cpu")
    assert {hook.model for hook in pipeline._all_hooks} == {pipeline.components[name] for name in COMPONENTS}
    assert torch.equal(generate(pipeline), expected)
    assert torch.equal(generate(pipeline), expected), "the hooks are renewed after a call"
    pipeline.remove_all_hooks()
    assert torch.equal(generate(pipeline), expected)


def test_sequential_offload_generates_the_same(
    pipeline: RealCustomPipeline, expected: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offload(module: nn.Module, device: torch.device, offload_buffers: bool) -> None:
        # diffusers gives the device an index, which parameters on a CPU do not have.
        cpu_offload(module, torch.device(device.type), offload_buffers=offload_buffers)

    monkeypatch.setattr("accelerate.cpu_offload", offload)
    pipeline.enable_sequential_cpu_offload(device="cpu")
    offloaded = [pipeline.components[name] for name in COMPONENTS]
    assert all(devices(part) == {"meta"} for part in offloaded)
    assert torch.equal(generate(pipeline), expected)
    assert all(devices(part) == {"meta"} for part in offloaded)


@pytest.mark.parametrize(
    "level", [{"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}]
)
def test_group_offload_generates_the_same(
    pipeline: RealCustomPipeline, expected: Tensor, level: dict[str, Any], tmp_path: Path
) -> None:
    """On disk: parameters that are not loaded hold arbitrary numbers, which this test makes not-a-number."""
    pipeline.enable_group_offload(torch.device("cpu"), offload_to_disk_path=str(tmp_path), **level)
    with torch.no_grad():
        for parameter in pipeline.adapter.layers.parameters():
            parameter.data.fill_(torch.nan)
    assert torch.equal(generate(pipeline), expected)


def test_the_adapter_alone_takes_group_offload(pipeline: RealCustomPipeline, expected: Tensor, tmp_path: Path) -> None:
    apply_group_offloading(
        pipeline.adapter,
        onload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        offload_to_disk_path=str(tmp_path),
    )
    assert torch.equal(generate(pipeline), expected)


def test_a_pipeline_from_components_or_from_a_pipe_is_the_same(
    pipeline: RealCustomPipeline, expected: Tensor, miniature
) -> None:  # type: ignore[no-untyped-def]
    again = RealCustomPipeline(**pipeline.components, guidance=pipeline.guidance)
    assert torch.equal(generate(again), expected)
    piped = RealCustomPipeline.from_pipe(pipeline)
    assert piped.adapter is pipeline.adapter and piped.guidance == pipeline.guidance
    assert torch.equal(generate(piped), expected)

    stock = StableDiffusionXLPipeline.from_pipe(pipeline)
    assert type(stock) is StableDiffusionXLPipeline and stock.unet is pipeline.unet
    assert stock(PROMPT, generator=torch.Generator().manual_seed(0), **SHORT).images.isfinite().all()
    base = StableDiffusionXLPipeline.from_pretrained(miniature.base)
    parts = {"adapter": pipeline.adapter, "vision_encoder": pipeline.vision_encoder, "guidance": pipeline.guidance}
    assert torch.equal(generate(RealCustomPipeline.from_pipe(base, **parts)), expected)


def test_the_guidance_is_saved_and_survives_a_change(pipeline: RealCustomPipeline, tmp_path: Path) -> None:
    pipeline.guidance = GuidanceConfig(scope=0.4, layers=("up_blocks",), source="separate", absent="all")
    pipeline.save_pretrained(tmp_path)
    assert RealCustomPipeline.from_pretrained(tmp_path).guidance == pipeline.guidance


def test_a_saved_pipeline_has_all_components_and_loads_in_any_precision(
    original: RealCustomPipeline, expected: Tensor, tmp_path: Path
) -> None:
    original.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["adapter"] == ["components.model.adapter", "RealCustomAdapter"]
    assert index["vision_encoder"] == ["components.model.vision", "VisionEncoder"]
    again = RealCustomPipeline.from_pretrained(tmp_path)
    assert again.token_identity == original.token_identity
    assert torch.equal(generate(again), expected)
    half = RealCustomPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {half.components[name].dtype for name in COMPONENTS} == {torch.bfloat16}
    vision = VisionEncoder.from_pretrained(tmp_path, subfolder="vision_encoder")
    assert (vision.identity, vision.vision_config) == (
        original.vision_encoder.identity,
        original.vision_encoder.vision_config,
    )
    adapter = RealCustomAdapter.from_pretrained(tmp_path, subfolder="adapter")
    assert adapter.digest == original.adapter.digest and adapter.conditioning == original.adapter.conditioning


def test_saving_keeps_the_other_files_of_a_directory(original: RealCustomPipeline, tmp_path: Path) -> None:
    directory = tmp_path / "mine"
    (directory / "unet").mkdir(parents=True)
    mine = [directory / "notes.txt", directory / "unet" / "notes.txt"]
    for file in mine:
        file.write_text("keep")
    for _ in range(2):  # over an earlier save as well
        original.save_pretrained(directory)
        original.adapter.save_pretrained(directory / "unet")
    assert [file.read_text() for file in mine] == ["keep", "keep"]
    assert not [file for file in directory.rglob("*") if "partial" in file.name]


def test_an_interrupted_save_leaves_every_file_as_it_was(
    original: RealCustomPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original.save_pretrained(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    def half(tensors: dict[str, Tensor], file: Path) -> None:
        Path(file).write_bytes(b"half of the weights")
        raise KeyboardInterrupt

    monkeypatch.setattr("components.model.adapter.save_file", half)
    for save in (original.save_pretrained, original.adapter.save_pretrained):
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path / "adapter" if save == original.adapter.save_pretrained else tmp_path)
        assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_no_subject_travels_with_the_adapter(
    original: RealCustomPipeline, expected: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter that brings the tokens of "no subject" along generates the same, and encodes only its subject."""
    vision = original.vision_encoder
    original.adapter.save_pretrained(tmp_path)
    black = vision.encode_images([Image.new("RGB", (128, 128))])
    complete = RealCustomAdapter.from_pretrained(tmp_path)
    complete.store_no_subject(black, vision.identity)
    complete.add_no_subject(tmp_path)
    loaded = RealCustomAdapter.from_pretrained(tmp_path)
    assert loaded.no_subject_tokens("another encoder") is None
    assert loaded.digest == original.adapter.digest and "_no_subject" not in loaded.state_dict()

    seen = []
    encode = VisionEncoder.encode_images
    monkeypatch.setattr(VisionEncoder, "encode_images", lambda *a, **k: seen.append(len(a[1])) or encode(*a, **k))
    assert torch.equal(generate(original.with_adapter(loaded)), expected) and seen == [1]

    loaded.save_pretrained(tmp_path / "again", dtype=torch.bfloat16)
    stored = RealCustomAdapter.from_pretrained(tmp_path / "again", dtype=torch.bfloat16).no_subject_tokens(
        vision.identity
    )
    assert stored is not None and stored.dtype == torch.bfloat16
    (tmp_path / "no_subject.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="sha256"):
        RealCustomAdapter.from_pretrained(tmp_path)
    loaded.forget_no_subject()
    loaded.save_pretrained(tmp_path)
    assert RealCustomAdapter.from_pretrained(tmp_path).no_subject_tokens(vision.identity) is None


def test_a_whole_save_replaces_the_shards_of_an_earlier_one(
    original: RealCustomPipeline, expected: Tensor, tmp_path: Path
) -> None:
    original.save_pretrained(tmp_path, max_shard_size="2MB")
    unet = tmp_path / "unet"
    assert len(list(unet.glob("*-of-*.safetensors"))) > 1
    original.save_pretrained(tmp_path)
    assert [file.name for file in unet.glob("*safetensors*")] == ["diffusion_pytorch_model.safetensors"]
    assert torch.equal(generate(RealCustomPipeline.from_pretrained(tmp_path)), expected)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the hub's repositories."""
    root = tmp_path / "hub"

    def create(repo_id: str, **_: Any) -> SimpleNamespace:
        (root / repo_id).mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(repo_id=repo_id)

    def upload(*, repo_id: str, folder_path: str, path_in_repo: str | None = None, **_: Any) -> None:
        shutil.copytree(folder_path, root / repo_id / (path_in_repo or ""), dirs_exist_ok=True)

    def card(*_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(save=lambda file: Path(file).write_text("card"), data=SimpleNamespace(tags=None))

    fakes = {"create_repo": create, "load_or_create_model_card": card, "populate_model_card": lambda card: card}
    for module in ("diffusers.utils.hub_utils", "diffusers.pipelines.pipeline_utils"):
        for name, fake in fakes.items():
            monkeypatch.setattr(f"{module}.{name}", fake)
    monkeypatch.setattr("diffusers.utils.hub_utils.upload_folder", upload)
    monkeypatch.setattr("components.model.adapter.snapshot_download", lambda repo_id, **_: str(root / repo_id))
    return root


def test_pipeline_and_adapter_are_pushed_to_the_hub(
    original: RealCustomPipeline, expected: Tensor, hub: Path, tmp_path: Path
) -> None:
    original.push_to_hub("owner/pushed")
    original.save_pretrained(tmp_path / "local", push_to_hub=True)
    for directory in (hub / "owner" / "pushed", hub / "local", tmp_path / "local"):
        assert torch.equal(generate(RealCustomPipeline.from_pretrained(directory)), expected)
        assert (directory / "README.md").exists()
    original.adapter.push_to_hub("owner/adapter")
    original.adapter.save_pretrained(tmp_path / "saved", push_to_hub=True, repo_id="owner/other")
    for repository in ("owner/adapter", "owner/other"):
        assert {"adapter.safetensors", "config.json", "sha256.json"} <= {f.name for f in (hub / repository).iterdir()}
        assert RealCustomAdapter.from_pretrained(repository).digest == original.adapter.digest
    with pytest.raises(ArtifactError, match="no adapter"):
        RealCustomAdapter.from_pretrained("owner/unknown")


def test_unknown_arguments_are_refused(original: RealCustomPipeline, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="compress"):
        original.adapter.save_pretrained(tmp_path / "adapter", compress=True)
    original.adapter.save_pretrained(tmp_path / "adapter")
    with pytest.raises(TypeError, match="compress"):
        RealCustomAdapter.from_pretrained(tmp_path / "adapter", compress=True)
