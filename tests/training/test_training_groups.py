"""Weighted losses and dropped groups: what counts, what is left out, and that switched off they change nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from components.checkpoint import step_generator
from components.config import AdapterConfig, CurriculumConfig, TrainingConfig, load_config
from components.model.adapter import RealCustomAdapter
from components.model.miniature import MiniatureLayout
from components.model.unconditional_inputs import UnconditionalInputs
from components.model.vision import VisionFeatures
from components.training.objective import Example, SubjectDenoiser, diffusion_loss, draw_example
from components.training.token_groups import Dropped, drop_groups, kept_positions, subject_weights, token_gain
from tests.fixtures.tolerances import additions, bound
from tests.training.test_training import CHANNELS
from tests.training.test_training import rows as plain_rows

CPU = torch.device("cpu")
#: Nothing is dropped by chance, and a row's reference is its own picture.
PLAIN = TrainingConfig(condition_dropout=0, text_dropout=0, curriculum=CurriculumConfig(start=0, end=0))
ABSENT = UnconditionalInputs(
    VisionFeatures(torch.zeros(1, 4, CHANNELS), torch.zeros(1, 16, CHANNELS)),
    torch.zeros(1, 32, 128),
    torch.zeros(1, 64),
)
#: The subject covers rows and columns 4 to 12 of the latents, its head the upper half of that.
MASK, HEAD = torch.zeros(16, 16), torch.zeros(16, 16)
MASK[4:12, 4:12] = 1
HEAD[4:8, 4:12] = 1
BODY = (MASK > HEAD).float()


def rows(count: int, face: tuple[int, ...] = (1, 1, 0, 0)) -> dict[str, Tensor]:
    return plain_rows(count) | {
        "mask": MASK.half().repeat(count, 1, 1),
        "head": HEAD.half().repeat(count, 1, 1) * max(face),
        "face": torch.tensor([face] * count).half(),
        "other_face": torch.tensor([face[::-1]] * count).half(),
    }


def settings(**changes: object) -> TrainingConfig:
    return PLAIN.model_copy(update=changes)


@pytest.fixture
def denoiser(miniature: MiniatureLayout) -> SubjectDenoiser:
    """One whose vision branch acts."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_pretrained(miniature.base, subfolder="unet")
    adapter = RealCustomAdapter.for_unet(unet, CHANNELS, AdapterConfig(head_dim=8, hidden_dim=32), "test")
    for layer in adapter.layers.values():
        nn.init.normal_(layer.to_v_vision.weight, std=0.1)
    return SubjectDenoiser(unet, adapter)


class Shifted(DDPMScheduler):
    """A target that differs from the true one where ``shift`` is not 0; the noisy latents do not."""

    shift: Tensor = torch.zeros(())

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return super().get_velocity(sample, noise, timesteps) + self.shift


def gradients(denoiser: SubjectDenoiser, example: Example, shift: Tensor) -> Tensor:
    """Gradients of all that is trained, for the true target plus ``shift``."""
    noise = Shifted(prediction_type="v_prediction")
    noise.shift = shift
    denoiser.zero_grad()
    diffusion_loss(denoiser, example, noise, torch.Generator().manual_seed(1), CPU).backward()
    return torch.cat([p.grad.flatten() for p in denoiser.adapter.parameters() if p.grad is not None])


def seeds() -> Iterator[torch.Generator]:
    return (torch.Generator().manual_seed(seed) for seed in range(10_000))


def example_that_drops(group: str) -> Example:
    """One row that lost its ``group``."""
    gain = {"face": [0.0, 0.0, 1.0, 1.0], "body": [1.0, 1.0, 0.0, 0.0]}[group]
    drawn = (draw_example(rows(1), ABSENT, settings(group_dropout=1.0), 0.5, g) for g in seeds())
    return next(e for e in drawn if e.gain is not None and e.gain[0].tolist() == gain)


# -- switched off


def test_switched_off_is_the_plain_objective_to_the_last_bit(denoiser: SubjectDenoiser) -> None:
    defaults = TrainingConfig()
    assert (defaults.subject_weight, defaults.group_dropout) == (1.0, 0.0)
    noise, g, plain = DDPMScheduler(prediction_type="v_prediction"), *(step_generator(7, 3) for _ in range(2))
    example = draw_example(rows(8), ABSENT, defaults, 0.5, g)
    assert example.gain is None and example.weight is None
    loss = diffusion_loss(denoiser, example, noise, g, CPU)
    loss.backward()
    ours = [p.grad.clone() for p in denoiser.adapter.parameters() if p.grad is not None]

    for _ in range(3):  # multi-view, image dropout, text dropout
        torch.rand(8, generator=plain)
    target = torch.randn(8, 4, 16, 16, generator=plain)
    timesteps = ((torch.arange(8) + torch.rand(8, generator=plain)) / 8 * 1000).long()
    clean = example.latents
    denoiser.zero_grad()
    predicted = denoiser(noise.add_noise(clean, target, timesteps), timesteps, example)
    expected = F.mse_loss(predicted, noise.get_velocity(clean, target, timesteps))
    expected.backward()
    assert torch.equal(loss, expected)
    theirs = [p.grad for p in denoiser.adapter.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(torch.rand(4, generator=g), torch.rand(4, generator=plain))


def test_rows_without_a_face_are_trained_whole() -> None:
    example = draw_example(rows(64, (0, 0, 0, 0)), ABSENT, settings(group_dropout=1.0), 0.5, torch.Generator())
    assert example.gain is not None and example.weight is not None
    assert (example.gain == 1).all() and (example.weight == 1).all()


def test_rows_without_a_reference_are_trained_whole() -> None:
    dropping = settings(group_dropout=1.0, condition_dropout=1.0)
    example = draw_example(rows(64), ABSENT, dropping, 0.5, torch.Generator())
    assert example.gain is not None and example.weight is not None
    assert (example.gain == 1).all() and (example.weight == 1).all()


# -- weights


def test_subject_counts_as_configured_and_a_row_as_before() -> None:
    mask = torch.stack([MASK, 0.5 * MASK, torch.ones(16, 16), torch.zeros(16, 16)])
    weights = subject_weights(mask, 4.0)
    torch.testing.assert_close(weights.mean((1, 2)), torch.ones(4))
    assert (weights[0, 5, 5] / weights[0, 0, 0]).item() == pytest.approx(4)
    assert (weights[1, 5, 5] / weights[1, 0, 0]).item() == pytest.approx(2.5)
    torch.testing.assert_close(weights[2:], torch.ones(2, 16, 16))


def test_loss_is_the_mean_of_weighted_errors() -> None:
    class Nothing(nn.Module):
        def forward(self, noisy: Tensor, timesteps: Tensor, example: Example) -> Tensor:
            return torch.zeros_like(noisy)

    example = draw_example(rows(4), ABSENT, settings(subject_weight=3.0), 0.5, torch.Generator())
    loss = diffusion_loss(Nothing(), example, DDPMScheduler(), torch.Generator().manual_seed(1), CPU)
    squared = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(1)).square()
    inside, outside = squared[..., MASK == 1].sum(), squared[..., MASK == 0].sum()
    share = MASK.mean().item()
    expected = (3 * inside + outside) / (3 * share + 1 - share) / squared.numel()
    assert loss.item() == pytest.approx(expected.item(), rel=bound(torch.float32, squared.numel()))


# -- groups


def test_groups_are_dropped_as_often_as_configured_and_never_both() -> None:
    face = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).repeat(10_000, 1)
    dropped = drop_groups(face, 0.3, torch.Generator().manual_seed(0))
    assert not (dropped.face & dropped.body).any()
    assert not (dropped.face | dropped.body)[1::2].any()
    for group in dropped:
        assert abs(group[::2].float().mean().item() - 0.15) < 0.015


def test_dropped_group_is_silent_and_its_positions_do_not_count() -> None:
    dropped = Dropped(torch.tensor([True, False, False]), torch.tensor([False, True, False]))
    gain = token_gain(torch.tensor([[1.0, 0.0, 0.0]] * 3), dropped)
    assert gain.tolist() == [[0, 1, 1], [1, 0, 0], [1, 1, 1]]
    kept = kept_positions(MASK.repeat(3, 1, 1), HEAD.repeat(3, 1, 1), dropped)
    assert torch.equal(kept, torch.stack([1 - HEAD, 1 - BODY, torch.ones(16, 16)]))


def test_position_that_shows_both_groups_counts_for_neither_alone() -> None:
    mask, head = torch.full((2, 1, 1), 0.75), torch.full((2, 1, 1), 0.25)
    dropped = Dropped(torch.tensor([True, False]), torch.tensor([False, True]))
    assert not kept_positions(mask, head, dropped).any()


def test_dropped_row_draws_the_face_of_the_reference_it_shows() -> None:
    other = settings(group_dropout=1.0, curriculum=CurriculumConfig(start=1, end=1))
    example = draw_example(rows(64, (1, 0, 0, 0)), ABSENT, other, 0.5, torch.Generator())
    assert example.gain is not None
    assert {tuple(g) for g in example.gain.tolist()} == {(1, 1, 1, 0), (0, 0, 0, 1)}


def test_weights_and_groups_multiply() -> None:
    both = settings(group_dropout=1.0, subject_weight=4.0)
    example = draw_example(rows(64), ABSENT, both, 0.5, torch.Generator().manual_seed(0))
    assert example.gain is not None and example.weight is not None
    weights = subject_weights(MASK[None], 4.0)[0]
    for gain, weight in zip(example.gain, example.weight, strict=True):
        torch.testing.assert_close(weight, weights * (1 - (BODY if gain[0] else HEAD)))


def test_what_is_drawn_next_does_not_depend_on_faces() -> None:
    def after(batch: dict[str, Tensor]) -> Tensor:
        g = step_generator(0, 5)
        draw_example(batch, ABSENT, settings(group_dropout=0.5), 0.5, g)
        return torch.rand(4, generator=g)

    assert torch.equal(after(rows(8)), after(rows(8, (0, 0, 0, 0))))


def test_step_drawn_again_is_the_same_step() -> None:
    def draw(step: int) -> Example:
        config = settings(group_dropout=0.5, subject_weight=2.0)
        return draw_example(rows(16), ABSENT, config, 0.5, step_generator(0, step))

    first, again = draw(3), draw(3)
    assert first.gain is not None and again.gain is not None and first.weight is not None and again.weight is not None
    assert torch.equal(first.gain, again.gain) and torch.equal(first.weight, again.weight)
    assert len({str(draw(step).gain) for step in range(5)}) == 5


# -- the whole step


@pytest.mark.parametrize(("group", "left_out", "judged"), [("body", BODY, HEAD), ("face", HEAD, BODY)])
def test_what_is_learnt_does_not_depend_on_what_the_target_shows_of_a_dropped_group(
    denoiser: SubjectDenoiser, group: str, left_out: Tensor, judged: Tensor
) -> None:
    example = example_that_drops(group)
    true = gradients(denoiser, example, torch.zeros(()))
    assert true.abs().max() > 0
    assert torch.equal(gradients(denoiser, example, 5 * left_out), true)
    assert not torch.allclose(gradients(denoiser, example, 5 * judged), true)
    whole = draw_example(rows(1), ABSENT, PLAIN, 0.5, torch.Generator())
    assert not torch.allclose(gradients(denoiser, whole, 5 * left_out), gradients(denoiser, whole, torch.zeros(())))


def test_reference_whose_every_token_is_dropped_changes_nothing(denoiser: SubjectDenoiser) -> None:
    example = draw_example(rows(16, (1, 1, 1, 1)), ABSENT, settings(group_dropout=1.0), 0.5, torch.Generator())
    assert example.gain is not None
    silent = example.gain.sum(1) == 0
    assert silent.any() and not silent.all()
    noisy, timesteps = torch.randn(16, 4, 16, 16), torch.full((16,), 500)
    with torch.no_grad():
        ours = denoiser(noisy, timesteps, example)
        stock = denoiser.unet(
            noisy,
            timesteps,
            example.text_tokens,
            added_cond_kwargs={"text_embeds": example.text_pooled, "time_ids": example.time_ids},
        ).sample
    allowed = bound(torch.float32, additions(denoiser.unet), float(stock.abs().max()))
    assert (ours[silent] - stock[silent]).abs().max() < allowed < 1e-4
    assert (ours[~silent] - stock[~silent]).abs().amax((1, 2, 3)).min() > 1e-3


def test_presets_train_groups() -> None:
    tiny, full = load_config("tiny").training, load_config("sdxl").training
    assert (tiny.subject_weight, tiny.group_dropout) == (4.0, 0.3)
    assert (full.subject_weight, full.group_dropout) == (1.0, 0.1)
