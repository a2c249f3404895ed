"""A step asks its device for everything and reads nothing of it, so that a GPU never waits for the processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from components.config import Config, CurriculumConfig
from components.training.learner import Learner
from components.training.transfer import to_device

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class NoWaiting(TorchDispatchMode):
    """Refuses copies from the processor that wait for their device; tensors on ``meta`` refuse to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and args[0].device.type == "cpu":
            target = kwargs.get("device")
            if target is not None and torch.device(target).type != "cpu":
                assert kwargs.get("non_blocking"), f"a copy of {tuple(args[0].shape)} waits for the device"
                self.copies += 1
        return func(*args, **kwargs)


@contextmanager
def watched(device: torch.device) -> Iterator[None]:
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return
    with NoWaiting() as mode:
        yield
    assert mode.copies > 5


def batch(learner: Learner, pixels: bool, config: Config) -> dict[str, Tensor]:
    """Four rows with stored features, or with pixels."""
    absent, side = learner.absent, 2 * config.vision.view_size
    rows = {
        "text_tokens": torch.rand(4, *absent.text_tokens.shape[1:]).half(),
        "text_pooled": torch.rand(4, *absent.text_pooled.shape[1:]).half(),
        "time_ids": torch.rand(4, 6),
        "mask": torch.ones(4, 16, 16).half(),
        "head": torch.zeros(4, 16, 16).half(),
    }
    if pixels:
        rows["picture"] = torch.zeros(4, 64, 64, 3, dtype=torch.uint8)
        for name in ("", "other_"):
            rows[f"{name}cutout"] = torch.zeros(4, side, side, 3, dtype=torch.uint8)
            rows[f"{name}face_box"] = torch.tensor([[0, 0, 32, 32]] * 4).half()
        return rows
    rows["latents"] = torch.rand(4, 4, 16, 16).half()
    for name in ("", "other_"):
        rows[f"{name}deep"] = torch.rand(4, *absent.vision.deep.shape[1:]).half()
        rows[f"{name}local"] = torch.rand(4, *absent.vision.local.shape[1:]).half()
        rows[f"{name}face"] = torch.ones(4, absent.vision.deep.shape[1]).half()
    return rows


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("kind", ["meta", pytest.param("cuda", marks=needs_cuda)])
def test_no_step_after_the_first_waits_for_its_device(config: Config, kind: str, pixels: bool) -> None:
    curriculum = CurriculumConfig(rotation=20, scale=0.2, shift=0.1)
    more = {"curriculum": curriculum, "subject_weight": 4.0, "group_dropout": 0.3, "min_snr": 5.0}
    settings = {"steps": 4, "warmup": 1, "workers": 1, "batch_size": 4, "bf16": False} | more
    chosen = config.model_copy(update={"training": config.training.model_copy(update=settings)})
    device = torch.device(kind)
    learner = Learner(chosen, device)
    rows = batch(learner, pixels, chosen)
    learner.train_step(0, [(0, rows)])  # loads what is missing
    with watched(device):
        result = learner.train_step(1, [(0, rows)])
    assert result.gradient_norm.device.type == kind


def test_copies_are_equal_and_stay_where_they_are() -> None:
    value = torch.rand(3)
    assert to_device(value, torch.device("cpu")) is value


@needs_cuda
def test_a_copy_to_a_gpu_does_not_wait() -> None:
    value = torch.rand(1000)
    torch.cuda.set_sync_debug_mode("error")
    try:
        copied = to_device(value, torch.device("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(copied.cpu(), value)
