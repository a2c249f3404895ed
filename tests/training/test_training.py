"""Training: what moves, what stays frozen, and that nothing depends on being uninterrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from components.config import AdapterConfig, CurriculumConfig, TrainingConfig
from components.model.adapter import RealCustomAdapter
from components.model.miniature import MiniatureLayout
from components.model.unconditional_inputs import UnconditionalInputs
from components.model.vision import VisionFeatures
from components.pretraining.loop import Schedule, fit
from components.training.curriculum import choose_multi_view, difficulty, multi_view_share
from components.training.objective import SubjectDenoiser, diffusion_loss, draw_example
from tests.fixtures.tolerances import bound

CHANNELS = 16


def rows(count: int, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=g).half()

    return {
        "latents": draw(4, 16, 16),
        "text_tokens": draw(32, 128),
        "text_pooled": draw(64),
        "time_ids": torch.full((count, 6), 64.0),
        "deep": draw(4, CHANNELS),
        "local": draw(16, CHANNELS),
        "other_deep": draw(4, CHANNELS),
        "other_local": draw(16, CHANNELS),
    }


ABSENT = UnconditionalInputs(
    VisionFeatures(torch.zeros(1, 4, CHANNELS), torch.zeros(1, 16, CHANNELS)),
    torch.zeros(1, 32, 128),
    torch.zeros(1, 64),
)


@pytest.fixture
def denoiser(miniature: MiniatureLayout) -> SubjectDenoiser:
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_pretrained(miniature.base, subfolder="unet")
    config = AdapterConfig(head_dim=8, hidden_dim=32)
    return SubjectDenoiser(unet, RealCustomAdapter.for_unet(unet, CHANNELS, config, "test"))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1))
def test_difficulty_rises_from_zero_to_one(a: float, b: float, ramp: float) -> None:
    low, high = sorted((a, b))
    assert 0 <= difficulty(low, ramp) <= difficulty(high, ramp) <= 1
    assert difficulty(0, ramp) == 0
    assert difficulty(1, ramp) == 1


def test_the_share_of_other_views_follows_the_curriculum() -> None:
    curriculum = CurriculumConfig(start=0.2, end=0.8, ramp=0.5)
    assert [round(multi_view_share(p, curriculum), 6) for p in (0, 0.25, 0.5, 1)] == [0.2, 0.5, 0.8, 0.8]
    chosen = choose_multi_view(4000, 0.25, curriculum, torch.Generator().manual_seed(0))
    assert abs(chosen.float().mean() - 0.5) < 0.03


def test_references_are_other_views_or_dropped_as_configured() -> None:
    batch, g = rows(8), torch.Generator().manual_seed(0)
    own = TrainingConfig(condition_dropout=0, text_dropout=0, curriculum=CurriculumConfig(start=0, end=0))
    assert torch.equal(draw_example(batch, ABSENT, own, 0.5, g).reference.deep, batch["deep"].float())
    other = own.model_copy(update={"curriculum": CurriculumConfig(start=1, end=1)})
    assert torch.equal(draw_example(batch, ABSENT, other, 0.5, g).reference.local, batch["other_local"].float())
    nothing = own.model_copy(update={"condition_dropout": 1.0, "text_dropout": 1.0})
    example = draw_example(batch, ABSENT, nothing, 0.5, g)
    assert not example.reference.deep.any()
    assert not example.text_tokens.any()
    assert torch.equal(example.latents, batch["latents"].float())


def test_only_the_adapter_learns_and_it_learns(denoiser: SubjectDenoiser) -> None:
    before = {k: v.clone() for k, v in denoiser.unet.state_dict().items()}
    config = TrainingConfig(condition_dropout=0, text_dropout=0)
    optimizer = torch.optim.AdamW([p for p in denoiser.parameters() if p.requires_grad], lr=3e-3)
    trained = {n for n, p in denoiser.named_parameters() if p.requires_grad}
    assert trained and all(n.startswith("adapter.") for n in trained)
    noise = DDPMScheduler(prediction_type="v_prediction")
    losses = []
    for _ in range(12):
        g = torch.Generator().manual_seed(1)  # the same noise again and again, so that the loss must fall
        loss = diffusion_loss(denoiser, draw_example(rows(8), ABSENT, config, 0.5, g), noise, g, torch.device("cpu"))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.01
    assert all(torch.equal(before[k], v) for k, v in denoiser.unet.state_dict().items())
    assert "adapter" not in "".join(before)  # the stock U-Net owns nothing of the adapter's


def test_the_target_is_noise_or_v_as_the_base_predicts() -> None:
    class Echo(nn.Module):
        def forward(self, noisy: Tensor, timesteps: Tensor, example: object) -> Tensor:
            return torch.zeros_like(noisy)

    batch = rows(16)
    example = draw_example(batch, ABSENT, TrainingConfig(), 0.5, torch.Generator().manual_seed(0))
    losses = []
    for kind in ("epsilon", "v_prediction"):
        g = torch.Generator().manual_seed(2)
        noise = DDPMScheduler(prediction_type=kind)
        losses.append(diffusion_loss(Echo(), example, noise, g, torch.device("cpu")).item())
    g = torch.Generator().manual_seed(2)
    assert losses[0] == pytest.approx(
        torch.randn(16, 4, 16, 16, generator=g).pow(2).mean().item(), rel=bound(torch.float32, 16 * 4 * 16 * 16)
    )
    assert losses[1] != losses[0]


def test_a_killed_fit_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    target = torch.randn(8, generator=torch.Generator().manual_seed(9))

    def attempt(name: str, stop_at: int | None) -> Tensor:
        torch.manual_seed(0)
        module = nn.Linear(4, 8)
        calls = 0

        def loss_of(g: torch.Generator) -> Tensor:
            nonlocal calls
            calls += 1
            if stop_at is not None and calls > stop_at:
                raise KeyboardInterrupt
            return (module(torch.randn(4, generator=g)) - target).pow(2).mean()

        schedule = Schedule(20, 1e-2, 1, warmup=3, checkpoint_every=5)
        return next(fit(module, loss_of, schedule, tmp_path / name).parameters()).clone()

    whole = attempt("whole", None)
    with pytest.raises(KeyboardInterrupt):
        attempt("killed", 13)
    assert torch.equal(attempt("killed", None), whole)
    assert not list(tmp_path.glob(".*"))
