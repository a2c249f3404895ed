"""The authors' release: its parameter lists and sizes, its conversion, its sampler, its encoders' features."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel, SiglipVisionConfig, SiglipVisionModel
from typer.testing import CliRunner

from components.config import AdapterConfig, Config, ModelConfig, VisionConfig, load_config
from components.errors import ArtifactError, ConfigError
from components.model.adapter import RealCustomAdapter
from components.model.attention import SubjectAttention, SubjectContext
from components.model.miniature import MiniatureLayout
from components.model.official import OfficialScheduler, convert, meta_adapter, meta_unet, official_scheduler
from components.model.pipeline import RealCustomPipeline
from components.model.projector import build_projector
from components.model.text import encode_prompts
from components.model.vision import VisionEncoder, VisionFeatures, encoder_identity
from components.registry import tracking, versions
from tests.fixtures.tolerances import additions, bound
from workflows.cli import app

SMALL_UNET: dict[str, Any] = {
    "sample_size": 8,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [32, 64],
    "norm_num_groups": 8,
    "attention_head_dim": [2, 4],
    "cross_attention_dim": 24,
    "use_linear_projection": True,
}
SMALL = AdapterConfig(head_dim=8, hidden_dim=16)
KINDS = [{"projector": "highres"}, {"projector": "highres", "adaptive_scale": True}, {"projector": "shallow"}]


def released(**kind: Any) -> dict[str, Tensor]:
    """Random weights under the official names, for the small U-Net and 40 vision channels."""
    adapter = meta_adapter(meta_unet(SMALL_UNET), 40, SMALL.model_copy(update=kind))
    return {name: torch.randn(value.shape) for name, value in adapter.official_state_dict().items()}


def converted(source: Path, target: Path) -> RealCustomAdapter:
    return convert(source, target, unet=SMALL_UNET, vision_channels=40, sizes=SMALL)


@pytest.mark.parametrize(("projector", "tensors", "millions"), [("highres", 157, 400.4), ("shallow", 172, 455.6)])
def test_the_full_size_adapter_fits_the_full_size_unet(projector: Any, tensors: int, millions: float) -> None:
    unet = meta_unet()
    assert len(unet.state_dict()) == 1680
    assert sum(p.numel() for p in unet.parameters()) == 2_567_463_684
    adapter = meta_adapter(unet, config=AdapterConfig(projector=projector))
    assert len(adapter.official_state_dict()) == tensors
    assert round(sum(p.numel() for p in adapter.parameters()) / 1e6, 1) == millions
    assert sum(p.numel() for p in adapter.layers.parameters()) / 1e6 == pytest.approx(340.8, abs=0.05)
    with torch.device("meta"), torch.no_grad():
        seen = [torch.empty(1, n, 2176) for n in (729, 2916, 729, 729, 729)]
        tokens = adapter(VisionFeatures(seen[0], seen[1], tuple(seen[2:])))
        assert tokens.shape == (1, 729 if projector == "highres" else 1458, 2048)
        adapter.attach(unet)
        conditions = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}
        subject = SubjectContext((96, 128), [SubjectAttention(tokens)])
        noise = unet(
            torch.empty(1, 4, 96, 128),
            torch.empty(1),
            torch.empty(1, 77, 2048),
            added_cond_kwargs=conditions,
            cross_attention_kwargs={"subject": subject},
        ).sample
    unet.set_attn_processor(AttnProcessor2_0())
    assert noise.shape == (1, 4, 96, 128)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", KINDS, ids=["highres", "adaptive", "shallow"])
def test_a_converted_adapter_is_the_release(kind: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    source, weights = tmp_path / f"release{suffix}", released(**kind)
    if suffix == ".pth":
        torch.save(weights, source)
    else:
        save_file(weights, source)
    converted(source, tmp_path / "adapter")
    loaded = RealCustomAdapter.from_pretrained(tmp_path / "adapter")
    ours = loaded.official_state_dict()
    assert ours.keys() == weights.keys()
    assert all(torch.equal(ours[name], weights[name]) for name in weights)
    assert kind.items() <= loaded.projector_config.model_dump().items()
    assert loaded.projector_config.shallow_fusion == ("code" if kind["projector"] == "shallow" else "figure")
    assert loaded.encoder_identity is None
    assert loaded.conditioning.model_dump() == {"text_pooling": "unprojected", "scheduler": "realcustom"}
    assert json.loads((tmp_path / "adapter" / "sha256.json").read_text()).keys() == {
        "adapter.safetensors",
        "config.json",
    }


def test_what_does_not_fit_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    weights = released()
    gone, other = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v_vision.weight", next(iter(weights))
    del weights[gone]
    weights |= {other: torch.zeros(3), "unknown.weight": torch.zeros(2)}
    torch.save(weights, tmp_path / "release.pth")
    with pytest.raises(ArtifactError) as error:
        converted(tmp_path / "release.pth", tmp_path / "adapter")
    said = str(error.value)
    assert f"1 missing: {gone}" in said and "1 unexpected: unknown.weight" in said
    assert f"1 misshaped: {other} is [3], not [" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["release.pth"]


class Smuggled:
    """Anything but a tensor."""


@pytest.mark.parametrize("content", [b"no weights", Smuggled(), {"weight": Smuggled()}, {"epoch": 3}, [torch.zeros(1)]])
def test_only_named_tensors_are_read(content: Any, tmp_path: Path) -> None:
    source = tmp_path / "release.pth"
    if isinstance(content, bytes):
        source.write_bytes(content)
    else:
        torch.save(content, source)
    with pytest.raises(ArtifactError, match=r"release\.pth (is no file of weights|holds something else)"):
        converted(source, tmp_path / "adapter")


@pytest.mark.parametrize("name", ["absent.pth", "one.safetensors"])
def test_the_command_refuses_in_one_line(name: str, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "one.safetensors")
    result = CliRunner().invoke(app, ["convert", "--from", str(tmp_path / name), "--to", str(tmp_path / "adapter")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1 and name in result.stderr
    assert not (tmp_path / "adapter").exists()


def test_a_converted_adapter_goes_through_the_registry(config: Config, tmp_path: Path) -> None:
    made = RealCustomPipeline.from_config(config)
    weights = {name: torch.randn(v.shape) * 0.1 for name, v in made.adapter.official_state_dict().items()}
    save_file(weights, tmp_path / "release.safetensors")
    target = tmp_path / "adapter"
    convert(
        tmp_path / "release.safetensors",
        target,
        unet={key: value for key, value in made.unet.config.items() if not key.startswith("_")},
        vision_channels=made.vision_encoder.channels,
        sizes=config.adapter,
    )
    with tracking.run(config, "convert", {}) as run_id:
        version = versions.register(config, target, run_id, {})
    loaded = versions.load_pipeline(config, version.uri)
    assert isinstance(loaded.scheduler, OfficialScheduler)
    assert all(torch.equal(v, weights[name]) for name, v in loaded.adapter.official_state_dict().items())


def test_shipped_adapters_keep_their_meaning() -> None:
    config = load_config("tiny")
    assert config.model.adapter is not None
    adapter = RealCustomAdapter.from_pretrained(config.model.adapter)
    assert adapter.conditioning.model_dump() == {"text_pooling": "projected", "scheduler": None}
    assert adapter.projector_config.projector == "highres"
    assert adapter.encoder_identity == encoder_identity(config.model, config.vision)


def test_an_adapter_without_identity_checks_the_width_alone(tmp_path: Path) -> None:
    torch.save(released(), tmp_path / "release.pth")
    adapter = converted(tmp_path / "release.pth", tmp_path / "adapter")
    adapter.check_encoder(SimpleNamespace(identity="any", channels=40))  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="40 vision channels"):
        adapter.check_encoder(SimpleNamespace(identity="any", channels=41))  # type: ignore[arg-type]
    adapter.register_to_config(encoder_identity="another")
    with pytest.raises(ArtifactError, match="other vision encoders"):
        adapter.check_encoder(SimpleNamespace(identity="any", channels=40))  # type: ignore[arg-type]


def test_the_figure_adds_the_local_views_and_the_code_drops_them() -> None:
    torch.manual_seed(0)
    features = VisionFeatures(torch.randn(1, 4, 40), torch.randn(1, 16, 40), tuple(torch.randn(3, 1, 4, 40)))
    other = VisionFeatures(features.deep, torch.randn(1, 16, 40), features.shallow)
    figure = build_projector(40, 24, SMALL.model_copy(update={"projector": "shallow"}))
    code = build_projector(40, 24, SMALL.model_copy(update={"projector": "shallow", "shallow_fusion": "code"}))
    code.load_state_dict(figure.state_dict())
    assert torch.equal(code(features), code(other))
    assert torch.equal(figure(features)[:, 4:], code(features)[:, 4:])
    added, expected = figure(features)[:, :4] - code(features)[:, :4], figure.across_scales(features)
    largest = float(figure(features).abs().max())
    assert (added - expected).abs().max() < bound(torch.float32, 2, largest)  # a sum and a difference
    assert not torch.allclose(figure(features)[:, :4], figure(other)[:, :4])


def test_a_shallow_adapter_says_what_it_lacks() -> None:
    projector = build_projector(40, 24, SMALL.model_copy(update={"projector": "shallow"}))
    with pytest.raises(ArtifactError, match=r"vision\.siglip_shallow"):
        projector(VisionFeatures(torch.zeros(1, 4, 40), torch.zeros(1, 16, 40)))


def test_shallow_blocks_pair_up() -> None:
    with pytest.raises(ConfigError, match="equally many"):
        load_config("tiny", ["vision.siglip_shallow=[0, 1]"])


def test_shallow_features_are_earlier_blocks_of_the_global_view(miniature: MiniatureLayout) -> None:
    parts = ModelConfig(base=str(miniature.base), siglip=str(miniature.siglip), dinov2=str(miniature.dinov2))
    plain = VisionConfig(view_size=64, siglip_block=2, dinov2_block=2)
    several = plain.model_copy(update={"siglip_shallow": (0, 1), "dinov2_shallow": (1, 0)})
    pixels = torch.rand(2, 3, 128, 128) * 2 - 1
    ours = VisionEncoder.load(parts, several)(pixels)
    without = VisionEncoder.load(parts, plain)(pixels)
    assert without.shallow == () and len(ours.shallow) == 2
    assert torch.equal(ours.deep, without.deep) and torch.equal(ours.local, without.local)
    for index, (siglip, dinov2) in enumerate([(0, 1), (1, 0)]):
        alone = VisionEncoder.load(parts, VisionConfig(view_size=64, siglip_block=siglip, dinov2_block=dinov2))
        assert torch.equal(ours.shallow[index], alone(pixels).deep)
    assert encoder_identity(parts, plain) != encoder_identity(parts, several)


def test_the_unprojected_pooled_text_is_what_the_projection_reads(miniature: MiniatureLayout) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(miniature.base)
    prompts = ["a red cat", ""]
    stock, raw = encode_prompts(pipeline, prompts), encode_prompts(pipeline, prompts, pooling="unprojected")
    assert torch.equal(stock.tokens, raw.tokens)
    projected, projection = stock.pooled, pipeline.text_encoder_2.text_projection
    allowed = bound(torch.float32, additions(projection), float(projected.abs().max()))
    assert (projection(raw.pooled) - projected).abs().max() < allowed
    assert not torch.allclose(raw.pooled, stock.pooled)


def test_the_sampler_runs_on_trailing_timesteps_and_ends_at_x0() -> None:
    scheduler = official_scheduler()
    scheduler.set_timesteps(25)
    assert scheduler.timesteps.tolist() == list(range(999, 0, -40))
    assert scheduler.order_list == [1, 1, *[2, 1] * 11, 1]
    assert OfficialScheduler.from_config(scheduler.config).config == scheduler.config


def test_a_pipeline_saved_with_the_sampler_loads_again(miniature: MiniatureLayout, tmp_path: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(miniature.base, unet=None, vae=None)
    pipeline.scheduler = official_scheduler()
    pipeline.save_pretrained(tmp_path)
    loaded = StableDiffusionXLPipeline.from_pretrained(tmp_path, unet=None, vae=None).scheduler
    assert isinstance(loaded, OfficialScheduler)
    loaded.set_timesteps(10)
    pipeline.scheduler.set_timesteps(10)
    assert torch.equal(loaded.sigmas, pipeline.scheduler.sigmas)


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 25])
def test_a_perfect_model_is_followed_to_the_picture(steps: int) -> None:
    """For a model that always knows x0, every solver ends there."""
    scheduler, x0 = official_scheduler(), torch.full((1, 4, 2, 2), 0.3)
    scheduler.set_timesteps(steps)
    x = noise = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    for t in scheduler.timesteps:
        alpha, sigma = scheduler.alpha_t[t], scheduler.sigma_t[t]
        x = scheduler.step((x - alpha * x0) / sigma, t, x).prev_sample
    # The last step takes x / alpha - sigma / alpha * noise: less than ten roundings, here all in one direction.
    size = float((1 / scheduler.alpha_t).max() * noise.abs().max())
    assert (x - x0).abs().max() < bound(torch.float32, 10**2, size) < 1e-4


class _Named(type):
    """A class whose every attribute is its own name."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds torchvision modules full of empty classes."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Any:
        ours = fullname.split(".")[0] == "torchvision"
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if ours else None

    def exec_module(self, module: ModuleType) -> None:
        def attribute(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return _Named(name, (), {})

        module.__getattr__ = attribute  # type: ignore[method-assign]


@contextmanager
def stand_in_for_torchvision() -> Iterator[None]:
    """Lets timm be imported without torchvision, of which its vision transformers use nothing."""
    finder = _StandIn()
    sys.meta_path.append(finder)  # last: where torchvision is installed, it is used
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n, m in sys.modules.items() if getattr(m, "__loader__", None) is finder]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def timm() -> ModuleType:
    with stand_in_for_torchvision():
        return pytest.importorskip("timm", reason="timm is not installed: pip install --no-deps timm")


SIDE, WIDTH, DEPTH = 56, 32, 4


def _blocks(ours: Any, names: dict[str, str]) -> dict[str, Tensor]:
    """timm's names for the weights of a transformers encoder's blocks."""
    tensors: dict[str, Tensor] = {}
    for index, layer in enumerate(ours):
        state = layer.state_dict()
        for theirs, mine in names.items():
            for kind in ("weight", "bias"):
                parts = [state[f"{name}.{kind}"] for name in mine.split()]
                tensors[f"blocks.{index}.{theirs}.{kind}"] = torch.cat(parts)
    return tensors


def _scatter(model: nn.Module) -> None:
    """Random weights everywhere, norms, biases and layer scales included."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3


def _compare(theirs: nn.Module, mine: list[Tensor], pixels: Tensor, approximation: float = 0) -> None:
    """Block by block, un-normalised, patch tokens only; ``approximation`` is how far another GELU may lead."""
    tolerance = bound(torch.float32, additions(theirs)) + approximation
    listed = theirs.eval().forward_intermediates(pixels, norm=False, output_fmt="NLC", intermediates_only=True)  # type: ignore[operator]
    assert len(listed) == DEPTH
    for block, features in enumerate(listed):
        assert (mine[block] - features).abs().max() < tolerance * features.abs().max(), block
    for earlier, later in pairwise(mine):
        assert (earlier - later).abs().max() > 0.1  # neighbours differ: an index off by one would be seen


def _encoder(activation: str = "gelu", dino_side: int = SIDE) -> VisionEncoder:
    """Shaped like SigLIP so400m (its odd MLP width too) and DINOv2 with four registers, random weights."""
    siglip = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=int(WIDTH * 3.7362),
            num_hidden_layers=DEPTH,
            num_attention_heads=2,
            image_size=SIDE,
            patch_size=14,
            hidden_act=activation,
        )
    ).eval()
    dinov2 = Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=2, image_size=dino_side, patch_size=14
        )
    ).eval()
    for model in (siglip, dinov2):
        _scatter(model)
    everything = tuple(range(DEPTH))
    config = VisionConfig(
        view_size=SIDE, siglip_block=0, dinov2_block=0, siglip_shallow=everything, dinov2_shallow=everything
    )
    return VisionEncoder.from_models(siglip, dinov2, config, "test")


@torch.no_grad()
def _features(encoder: VisionEncoder, pixels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Our SigLIP and DINOv2 features of every block, of global views ``pixels`` in [-1, 1]."""
    both = encoder(pixels.repeat_interleave(2, -1).repeat_interleave(2, -2)).shallow
    return [x[..., :WIDTH] for x in both], [x[..., WIDTH:] for x in both]


def _pixels() -> Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) * 2 - 1


def _timm_siglip(timm: ModuleType, encoder: VisionEncoder) -> nn.Module:
    theirs = timm.create_model(
        "vit_so400m_patch14_siglip_384", img_size=SIDE, embed_dim=WIDTH, depth=DEPTH, num_heads=2
    )
    state = encoder.siglip.state_dict()
    state = {name.removeprefix("vision_model."): value for name, value in state.items()}
    layers = dict(encoder.siglip.named_modules())
    blocks = next(m for name, m in layers.items() if name.endswith("encoder.layers"))
    names = {
        "norm1": "layer_norm1",
        "attn.qkv": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
        "attn.proj": "self_attn.out_proj",
        "norm2": "layer_norm2",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    weights = _blocks(blocks, names) | {
        "pos_embed": state["embeddings.position_embedding.weight"][None],
        "patch_embed.proj.weight": state["embeddings.patch_embedding.weight"],
        "patch_embed.proj.bias": state["embeddings.patch_embedding.bias"],
    }
    left = theirs.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys and all(name.startswith(("norm.", "attn_pool.")) for name in left.missing_keys)
    return theirs


def test_siglip_features_are_those_of_timm(timm: ModuleType) -> None:
    encoder, pixels = _encoder(), _pixels()
    theirs = _timm_siglip(timm, encoder)
    with torch.no_grad():
        _compare(theirs, _features(encoder, pixels)[0], pixels)


def test_siglip_features_of_the_published_configuration_are_close_to_timm(timm: ModuleType) -> None:
    """The hub's configuration takes GELU's tanh approximation, timm's the exact function."""
    encoder, pixels = _encoder("gelu_pytorch_tanh"), _pixels()
    theirs = _timm_siglip(timm, encoder)
    with torch.no_grad():
        _compare(theirs, _features(encoder, pixels)[0], pixels, 1e-2)


@pytest.mark.parametrize("side", [SIDE, 98])
def test_dinov2_features_are_those_of_timm(timm: ModuleType, side: int) -> None:
    """Also where the position embedding has to be resized, as from 518 to 384 pixels."""
    encoder, pixels = _encoder(dino_side=side), _pixels()
    theirs = timm.create_model(
        "vit_large_patch14_reg4_dinov2", img_size=SIDE, embed_dim=WIDTH, depth=DEPTH, num_heads=2
    )
    state = encoder.dinov2.state_dict()
    names = {
        "norm1": "norm1",
        "attn.qkv": "attention.q_proj attention.k_proj attention.v_proj",
        "attn.proj": "attention.o_proj",
        "norm2": "norm2",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    places = state["embeddings.position_embeddings"]
    with stand_in_for_torchvision():
        from timm.layers import resample_abs_pos_embed
    grid = SIDE // 14
    weights = _blocks(encoder.dinov2.encoder.layer, names) | {
        "cls_token": state["embeddings.cls_token"] + places[:, :1],
        "reg_token": state["embeddings.register_tokens"],
        "pos_embed": resample_abs_pos_embed(places[:, 1:], [grid, grid], num_prefix_tokens=0),
        "patch_embed.proj.weight": state["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": state["embeddings.patch_embeddings.projection.bias"],
    }
    for index, layer in enumerate(encoder.dinov2.encoder.layer):
        weights[f"blocks.{index}.ls1.gamma"] = layer.layer_scale1.lambda1
        weights[f"blocks.{index}.ls2.gamma"] = layer.layer_scale2.lambda1
    left = theirs.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys and all(name.startswith("norm.") for name in left.missing_keys)
    mean, std = (torch.tensor(theirs.default_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        _compare(theirs, _features(encoder, pixels)[1], ((pixels + 1) / 2 - mean) / std)
    if side == SIDE:
        with pytest.raises(AssertionError):  # the registers in the place of patches would be noticed
            _compare(theirs, [x.roll(4, 1) for x in _features(encoder, pixels)[1]], pixels)
