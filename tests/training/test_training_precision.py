"""Frozen parts in bfloat16: how far a step may move, what stays in float32, and what a worker need not load."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPTextModel

from components.config import Config
from components.errors import ArtifactError
from components.model.unconditional_inputs import UnconditionalInputs
from components.model.vision import VisionEncoder, encoder_channels
from components.precision import frozen_dtype
from components.training.batches import read_window
from components.training.dataset_rows import find_rows
from components.training.learner import Learner
from components.training.sample_cases import sample_cases
from components.training.samples import sample_grid
from components.training.unconditional import encode_unconditional, write_unconditional
from components.training.validation import validation_loss
from tests.fixtures.prepared_dataset import write_prepared
from tests.fixtures.tolerances import attends_in_bf16, bound, distance, outputs

CPU = torch.device("cpu")
needs_bf16 = pytest.mark.skipif(not attends_in_bf16(), reason="attention in bfloat16 asks for AVX-512")


def settings(config: Config, dtype: str, **training: object) -> Config:
    """A small adapter, trained with frozen parts in ``dtype``."""
    changed = {"steps": 2, "batch_size": 4, "warmup": 1, "workers": 1, "learning_rate": 1e-3, "shuffle_rows": 8}
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"dtype": dtype}),
            "adapter": config.adapter.model_copy(update={"head_dim": 8, "hidden_dim": 32}),
            "training": config.training.model_copy(update=changed | training),
        }
    )


@pytest.fixture
def prepared(config: Config) -> Config:
    """A dataset of the miniature's shapes."""
    patches, channels = 64, encoder_channels(config.model)
    shapes = {"deep": (patches, channels), "local": (4 * patches, channels), "face": (patches,)}
    write_prepared(
        Path(config.training.dataset),
        {("train", "64x64"): 16, ("validation", "64x64"): 4},
        references=shapes,
    )
    return config


def gradients(config: Config, round_to: torch.dtype | None = None) -> tuple[float, Tensor]:
    """Loss and gradients [n] of the first step, with norms that are not 1 and vision values that are not 0.

    Args:
        round_to: also round the frozen weights to this dtype.
    """
    learner = Learner(config, CPU)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in learner.shared.denoiser.named_parameters():
            frozen = not parameter.requires_grad
            if (parameter.ndim == 1 and frozen) or name.endswith("to_v_vision.weight"):
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
            if frozen and round_to is not None:
                parameter.copy_(parameter.to(round_to))
    seen: list[Tensor] = []
    clip = learner.shared.clip_gradient

    def look(most: float) -> Tensor:
        seen.extend(p.grad.flatten().clone() for p in learner.shared.adapter.parameters() if p.grad is not None)
        return clip(most)

    learner.shared.clip_gradient = look  # type: ignore[method-assign]
    rows = find_rows(config.training.dataset, config.training)
    loss = learner.train_step(0, read_window(rows, 0, [0])).loss
    return loss, torch.cat(seen)


def refuse(*args: object, **kwargs: object) -> Any:
    raise AssertionError("an encoder is loaded")


@needs_bf16
def test_a_step_with_frozen_parts_in_bf16_is_within_their_roundings(prepared: Config) -> None:
    exact_loss, exact = gradients(settings(prepared, "float32", bf16=False))
    loss, found = gradients(settings(prepared, "bfloat16", bf16=True))
    denoiser = Learner(settings(prepared, "float32"), CPU).shared.denoiser
    # Each layer rounds its weights and its outputs; the backward pass rounds as often as the forward pass.
    allowed = bound(torch.bfloat16, 2 * outputs(denoiser))
    assert 0 < distance(found, exact) <= allowed
    assert loss == pytest.approx(exact_loss, rel=allowed)
    # The bound is one of bfloat16: with two bits of mantissa, the frozen weights do not meet it.
    _, coarse = gradients(settings(prepared, "bfloat16", bf16=True), round_to=torch.float8_e5m2)
    assert distance(coarse, exact) > allowed


@needs_bf16
@pytest.mark.parametrize("checkpointing", [False, True])
def test_frozen_parts_are_stored_in_bf16_and_what_is_trained_in_float32(
    prepared: Config, tmp_path: Path, checkpointing: bool
) -> None:
    config = settings(prepared, "bfloat16", bf16=True, gradient_checkpointing=checkpointing)
    learner = Learner(config, CPU)
    rows = find_rows(config.training.dataset, config.training)
    losses = [learner.train_step(step, read_window(rows, step, [0])).loss for step in range(2)]
    kinds = {p.requires_grad: set() for p in learner.shared.denoiser.parameters()}
    for parameter in learner.shared.denoiser.parameters():
        kinds[parameter.requires_grad].add(parameter.dtype)
    assert kinds == {False: {torch.bfloat16}, True: {torch.float32}}
    states = learner.optimizer.state_dict()["state"].values()
    assert {value.dtype for slots in states for value in slots.values()} == {torch.float32}
    assert all(map(isfinite, [*losses, validation_loss(learner, config.training.dataset) or 0.0]))
    learner.save(tmp_path / "state", 2, write=True)
    resumed = Learner(config, CPU)
    assert resumed.load(tmp_path / "state") == 2
    for ours, theirs in zip(learner.shared.adapter.parameters(), resumed.shared.adapter.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_frozen_parts_are_in_float32_unless_stored_and_computed_in_bf16() -> None:
    assert frozen_dtype("bfloat16", CPU, True) == torch.bfloat16
    for stored, mixed in (("bfloat16", False), ("float32", True), ("float16", True)):
        assert frozen_dtype(stored, CPU, mixed) == torch.float32


def test_a_worker_with_stored_features_loads_no_encoder(
    prepared: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_unconditional(prepared, tmp_path / "unconditional.safetensors")
    expected = encode_unconditional(prepared)

    monkeypatch.setattr(VisionEncoder, "load", refuse)
    monkeypatch.setattr(CLIPTextModel, "from_pretrained", refuse)
    config = settings(prepared, "float32")
    learner = Learner(config, CPU, UnconditionalInputs.read(tmp_path / "unconditional.safetensors"))
    assert torch.equal(learner.absent.vision.local, expected.vision.local)
    assert torch.equal(learner.absent.text_tokens, expected.text_tokens)
    rows = find_rows(config.training.dataset, config.training)
    assert learner.train_step(0, read_window(rows, 0, [0])).finite
    assert validation_loss(learner, config.training.dataset) is not None
    learner.save(tmp_path / "state", 1, write=True)


@needs_bf16
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sample_grid_leaves_no_trace_in_training(prepared: Config, dtype: str) -> None:
    config = settings(prepared, dtype, bf16=True)
    config = config.model_copy(update={"sampling": config.sampling.model_copy(update={"steps": 2})})
    rows = find_rows(config.training.dataset, config.training)
    batches = read_window(rows, 0, [0])
    learner, untouched = Learner(config, CPU), Learner(config, CPU)
    cases = [replace(case, word="cat") for case in sample_cases(config, refuse)] * 2
    assert [case.prompt for case in cases] == ["a red cat"] * 2
    with learner.shared.borrowed_unet() as unet:
        grid = sample_grid(config, unet, learner.shared.whole_average(), cases, learner.absent.vision)
    assert grid is not None and grid.width >= 2 * config.sampling.width
    assert not [name for name, _ in learner.shared.averaged.named_buffers()]
    assert {p.dtype for p in learner.shared.averaged.parameters()} == {torch.float32}
    assert learner.train_step(0, batches).losses == untouched.train_step(0, batches).losses


def test_the_state_of_another_adapter_is_refused(prepared: Config, tmp_path: Path) -> None:
    config = settings(prepared, "float32")
    Learner(config, CPU).save(tmp_path / "state", 1, write=True)
    wider = config.model_copy(update={"adapter": config.adapter.model_copy(update={"hidden_dim": 40})})
    with pytest.raises(ArtifactError, match="another model"):
        Learner(wider, CPU).load(tmp_path / "state")
