"""The mathematics of consistency distillation, against diffusers' schedulers."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler
from torch import Tensor

from components.distillation.consistency import (
    NoiseLevels,
    boundary_scalings,
    consistency_function,
    ddim_step,
    guide,
    previous_timesteps,
    pseudo_huber,
    timestep_grid,
)

TYPES = ["epsilon", "v_prediction"]


def _levels(prediction_type: str) -> NoiseLevels:
    return NoiseLevels(LCMScheduler(prediction_type=prediction_type).alphas_cumprod, prediction_type)


def _noise(seed: int) -> Tensor:
    return torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("timestep", [0, 1, 19, 499, 999])
def test_the_boundary_scalings_are_those_of_the_lcm_scheduler(timestep: int) -> None:
    expected = LCMScheduler().get_scalings_for_boundary_condition_discrete(timestep)
    found = boundary_scalings(torch.tensor([timestep]))
    assert [float(value) for value in found] == pytest.approx(expected, rel=1e-6)


def test_the_consistency_function_is_the_identity_where_there_is_no_noise_left() -> None:
    clean, timesteps = _noise(0), torch.tensor([0, 0])
    assert torch.equal(consistency_function(clean, _noise(1), timesteps), clean)


@pytest.mark.parametrize("prediction_type", TYPES)
def test_the_consistency_function_is_what_the_lcm_scheduler_ends_with(prediction_type: str) -> None:
    scheduler = LCMScheduler(prediction_type=prediction_type)
    scheduler.set_timesteps(1)
    noisy, prediction, timesteps = _noise(0), _noise(1), torch.tensor([999, 999])
    sample, _ = _levels(prediction_type).split(noisy, prediction, timesteps)
    expected = scheduler.step(prediction, scheduler.timesteps[0], noisy).denoised
    torch.testing.assert_close(consistency_function(noisy, sample, timesteps), expected)


@pytest.mark.parametrize("prediction_type", TYPES)
def test_a_ddim_step_equals_the_schedulers(prediction_type: str) -> None:
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(25)
    timesteps = torch.tensor([999, 999])
    levels = _levels(prediction_type)
    sample, noise = levels.split(_noise(0), _noise(1), timesteps)
    found = ddim_step(levels, sample, noise, previous_timesteps(timesteps, 40))
    torch.testing.assert_close(found, scheduler.step(_noise(1), 999, _noise(0)).prev_sample)


@pytest.mark.parametrize("prediction_type", TYPES)
def test_a_prediction_is_split_into_the_sample_and_the_noise_it_was_made_of(prediction_type: str) -> None:
    levels, clean, noise, timesteps = _levels(prediction_type), _noise(0), _noise(1), torch.tensor([39, 799])
    alpha, sigma = levels.at(timesteps)
    prediction = noise if prediction_type == "epsilon" else alpha * noise - sigma * clean
    found = levels.split(levels.add_noise(clean, noise, timesteps), prediction, timesteps)
    torch.testing.assert_close(found[0], clean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1], noise, rtol=1e-4, atol=1e-4)


def test_a_base_that_predicts_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="'sample' cannot be distilled"):
        NoiseLevels(torch.ones(10), "sample")


def test_the_grid_is_that_from_which_the_lcm_scheduler_takes_its_timesteps() -> None:
    scheduler = LCMScheduler(original_inference_steps=25)
    scheduler.set_timesteps(25)
    assert timestep_grid(1000, 25).tolist() == scheduler.timesteps.flip(0).tolist()
    assert previous_timesteps(timestep_grid(1000, 25), 40).tolist() == [0, *scheduler.timesteps.flip(0)[:-1].tolist()]
    with pytest.raises(ValueError, match="grid_steps: 1001 is more than the base's 1000 timesteps"):
        timestep_grid(1000, 1001)


def test_guidance_has_a_scale_of_its_own_for_each_latent() -> None:
    unconditional, conditional = _noise(0), _noise(1)
    guided = guide(unconditional, conditional, torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(guided[0], conditional[0])
    torch.testing.assert_close(guided[1], 3 * conditional[1] - 2 * unconditional[1])


def test_the_pseudo_huber_loss_is_squared_within_its_width_and_linear_outside() -> None:
    zero = torch.zeros(1)
    assert float(pseudo_huber(zero, zero, 0.1)) == 0
    assert float(pseudo_huber(zero + 1e-3, zero, 0.1)) == pytest.approx(1e-6 / (2 * 0.1), rel=1e-3)
    assert float(pseudo_huber(zero + 50, zero, 0.1)) == pytest.approx(50 - 0.1, rel=1e-4)
