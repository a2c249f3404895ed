"""Timesteps: one from each range, and never one that the schedule lacks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.training.timesteps import stratified_timesteps

#: The largest number that `torch.rand` gives in float32.
LARGEST = 1 - 2**-24


@pytest.mark.parametrize("count", [1, 2, 3, 8, 31, 64])
def test_the_largest_draw_stays_within_the_schedule(count: int) -> None:
    timesteps = stratified_timesteps(torch.full((count,), LARGEST), 1000)
    assert timesteps.max() == 999


def test_without_a_bound_the_largest_draw_would_leave_the_schedule() -> None:
    spread = (torch.arange(8) + torch.full((8,), LARGEST)) / 8
    assert int(spread.max() * 1000) == 1000


@given(st.integers(1, 64), st.integers(0, 2**31))
def test_every_range_has_its_timestep(count: int, seed: int) -> None:
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(seed))
    timesteps = stratified_timesteps(uniform, 1000)
    ranges = torch.arange(count)
    assert bool((timesteps >= (ranges * 1000 / count).floor()).all())
    assert bool((timesteps <= ((ranges + 1) * 1000 / count).ceil()).all())
