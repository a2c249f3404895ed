"""Schedulers by name: each request has its own, and they share one denoiser."""

from __future__ import annotations

import pytest
from diffusers import DDIMScheduler

from components.engine.request import Request
from components.errors import ConfigError
from components.model.official import OfficialScheduler, official_scheduler
from components.model.pipeline import RealCustomPipeline
from components.model.schedulers import NAMES, OFFICIAL, SCHEDULERS, new_scheduler
from tests.engine.test_engine_model import Subjects, assert_same, drawn, pipeline, subjects

__all__ = ["pipeline", "subjects"]


def test_every_scheduler_gives_the_same_alone_and_in_a_batch_of_all(
    pipeline: RealCustomPipeline, subjects: Subjects
) -> None:
    def requests() -> list[Request]:  # a scheduler has a state: each drawing needs new ones
        return [
            Request(
                "a red cat on the beach",
                seed,
                64,
                64,
                steps,
                3.5,
                subjects=(subjects.cat,),
                scheduler=new_scheduler(name, pipeline.scheduler),
            )
            for seed, (name, steps) in enumerate((name, steps) for name in SCHEDULERS for steps in (1, 2, 5))
        ]

    batched = drawn(pipeline, requests(), [seed % 3 for seed in range(len(requests()))])
    for request, together in zip(requests(), batched, strict=True):
        alone = drawn(pipeline, [request], [0])[0]
        assert alone.isfinite().all()
        assert_same(pipeline, request, alone, together)


def test_schedulers_give_different_images(pipeline: RealCustomPipeline) -> None:
    asked = [
        Request("a bird", 1, 64, 64, 4, 1.0, scheduler=new_scheduler(name, pipeline.scheduler)) for name in SCHEDULERS
    ]
    latents = drawn(pipeline, asked, [0] * len(asked))
    pairs = [(a, b) for i, a in enumerate(latents) for b in latents[:i]]
    assert all((a - b).abs().max() > 1e-3 for a, b in pairs)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_has_the_models_noise_schedule(name: str) -> None:
    own = DDIMScheduler(beta_start=0.001, beta_end=0.02, prediction_type="v_prediction", num_train_timesteps=500)
    made = new_scheduler(name, own)
    assert isinstance(made, SCHEDULERS[name]) and made is not own
    kept = ("beta_start", "beta_end", "prediction_type", "num_train_timesteps")
    assert [made.config[key] for key in kept] == [own.config[key] for key in kept]


def test_the_authors_scheduler_is_for_their_adapters() -> None:
    own = official_scheduler()
    made = new_scheduler(OFFICIAL, own)
    assert isinstance(made, OfficialScheduler) and made is not own and made.config == own.config
    with pytest.raises(ConfigError, match="does not name"):
        new_scheduler(OFFICIAL, DDIMScheduler())
    with pytest.raises(ConfigError, match="choose one of") as refused:
        new_scheduler("heun", own)
    assert all(name in str(refused.value) for name in NAMES)
