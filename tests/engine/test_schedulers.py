"""Samplers by name: the settings of each on every noise schedule, and one denoiser for all of them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    StableDiffusionXLPipeline,
    TCDScheduler,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from torch import Tensor

from components.config import load_config
from components.engine.request import Request
from components.engine.step import begin
from components.errors import ConfigError
from components.model.official import OfficialScheduler, official_scheduler
from components.model.pipeline import RealCustomPipeline
from components.model.schedulers import NAMES, OFFICIAL, SAMPLERS, check_steps, new_scheduler, unet_calls
from tests.engine.test_engine_model import Subjects, assert_same, drawn, pipeline, subjects

__all__ = ["pipeline", "subjects"]

_SDXL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
#: Noise schedules of models: the authors' release, SDXL base, one with zero terminal SNR, and the miniature.
_OWN: dict[str, Any] = {
    "official": official_scheduler,
    "sdxl": lambda: EulerDiscreteScheduler(**_SDXL, timestep_spacing="leading", steps_offset=1),
    "zero_snr": lambda: EulerDiscreteScheduler(
        **_SDXL, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    ),
    "miniature": lambda: DPMSolverMultistepScheduler(
        **_SDXL, prediction_type="v_prediction", timestep_spacing="trailing"
    ),
}
#: What diffusers' documentation sets for each sampler beside the model's own configuration.
_DIFFUSERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "dpmpp_2m_exponential": (DPMSolverMultistepScheduler, {"use_exponential_sigmas": True}),
    "dpmpp_2m_sde_karras": (
        DPMSolverMultistepScheduler,
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    "dpmpp_sde": (DPMSolverSinglestepScheduler, {"algorithm_type": "sde-dpmsolver++", "lower_order_final": True}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_a": (EulerAncestralDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, {}),
    "lcm": (LCMScheduler, {}),
    "tcd": (TCDScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
}


def own_alphas(own: Any) -> Tensor:
    kept = {key: own.config[key] for key in _SDXL}
    zero = own.config.get("rescale_betas_zero_snr", False)
    return DDIMScheduler(**kept, rescale_betas_zero_snr=zero).alphas_cumprod


def fits(name: str, schedule: str) -> bool:
    return schedule != "zero_snr" or not name.endswith(("_karras", "_exponential"))


@pytest.mark.parametrize("steps", [1, 2, 4, 25])
@pytest.mark.parametrize("schedule", _OWN)
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_perfect_model_is_followed_to_its_image(name: str, schedule: str, steps: int) -> None:
    """A model that knows the image predicts its noise exactly; every sampler must then end at the image."""
    if not fits(name, schedule):
        pytest.skip("refused, see below")
    own = _OWN[schedule]()
    scheduler, alphas = new_scheduler(name, own), own_alphas(own)
    scheduler.set_timesteps(steps)
    assert len(scheduler.timesteps) == unet_calls(name, steps)
    generator = torch.Generator().manual_seed(0)
    image = torch.full((1, 4, 4, 4), 2.5)  # beyond the [-1, 1] to which `clip_sample` clamps
    x = torch.randn(image.shape, generator=generator) * scheduler.init_noise_sigma
    accepts = inspect.signature(scheduler.step).parameters
    more = {"generator": generator} if "generator" in accepts else {}
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, timestep)
        alpha = alphas[round(float(timestep))]
        noise = (scaled - alpha.sqrt() * image) / (1 - alpha).sqrt()
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * image
        predicted = velocity if own.config.prediction_type == "v_prediction" else noise
        x = scheduler.step(predicted, timestep, x, **more, return_dict=False)[0]
    # The last noise level of SDXL's schedule, where a sampler ends there, is 0.03 of unit noise.
    assert (x - image).abs().max() < 0.13


@pytest.mark.parametrize("name", [name for name in SAMPLERS if not fits(name, "zero_snr")])
def test_spaced_noise_levels_are_refused_where_they_have_no_end(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no end on this model's schedule; use \w+$"):
        new_scheduler(name, _OWN["zero_snr"]())


@pytest.fixture(scope="module")
def stock(miniature: Any) -> StableDiffusionXLPipeline:
    """Diffusers' own pipeline of the miniature base; tests give it a scheduler."""
    return StableDiffusionXLPipeline.from_pretrained(miniature.base)


@pytest.fixture(scope="module")
def stock_settings(stock: StableDiffusionXLPipeline) -> Any:
    """The configuration of the base's own scheduler."""
    return stock.scheduler.config


@pytest.mark.parametrize("name", _DIFFUSERS)
def test_without_a_subject_it_equals_diffusers_own_pipeline(
    pipeline: RealCustomPipeline, stock: StableDiffusionXLPipeline, stock_settings: Any, name: str
) -> None:
    kind, settings = _DIFFUSERS[name]
    stock.scheduler = kind.from_config(stock_settings, **settings)
    asked: dict[str, Any] = {"num_inference_steps": 3, "height": 64, "width": 64, "output_type": "latent"}
    expected = stock(
        "a cat", negative_prompt="", guidance_scale=3.5, generator=torch.Generator().manual_seed(1), **asked
    )
    ours = pipeline("a cat", sampler=name, generator=torch.Generator().manual_seed(1), **asked)
    assert torch.equal(ours.images, expected.images)


@pytest.mark.parametrize(
    "names", [["euler_a", "heun", "lcm", "dpmpp_sde"], pytest.param(list(SAMPLERS), marks=pytest.mark.slow)]
)
def test_samplers_give_the_same_alone_and_in_a_batch_of_all(
    pipeline: RealCustomPipeline, subjects: Subjects, names: list[str]
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
            for seed, (name, steps) in enumerate((name, steps) for name in names for steps in (1, 4))
        ]

    batched = drawn(pipeline, requests(), [seed % 3 for seed in range(len(requests()))])
    for request, together in zip(requests(), batched, strict=True):
        alone = drawn(pipeline, [request], [0])[0]
        assert alone.isfinite().all()
        assert_same(pipeline, request, alone, together)


def test_samplers_give_different_images(pipeline: RealCustomPipeline) -> None:
    same = {"dpm++", "ddim_trailing", "euler_trailing", "euler_a_trailing"}  # the miniature's own spacing is trailing
    distinct = [name for name in SAMPLERS if name not in same]
    asked = [
        Request("a bird", 1, 64, 64, 4, 1.0, scheduler=new_scheduler(name, pipeline.scheduler)) for name in distinct
    ]
    latents = drawn(pipeline, asked, [0] * len(asked))
    pairs = [(a - b).abs().max() for i, a in enumerate(latents) for b in latents[:i]]
    assert min(pairs) > 1e-3


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_has_the_models_noise_schedule(name: str) -> None:
    own = DDIMScheduler(beta_start=0.001, beta_end=0.02, prediction_type="v_prediction", num_train_timesteps=500)
    made = new_scheduler(name, own)
    assert isinstance(made, SAMPLERS[name].kind) and made is not own
    kept = ("beta_start", "beta_end", "prediction_type", "num_train_timesteps")
    assert [made.config[key] for key in kept] == [own.config[key] for key in kept]


def test_a_sampler_does_not_inherit_the_settings_of_another() -> None:
    own = DPMSolverMultistepScheduler(use_karras_sigmas=True, algorithm_type="sde-dpmsolver++", thresholding=True)
    made = new_scheduler("dpmpp_2m", own)
    assert not made.config.use_karras_sigmas and not made.config.thresholding
    assert made.config.algorithm_type == "dpmsolver++"


@pytest.mark.parametrize("name", ["ddim_trailing", "euler_trailing", "euler_a_trailing"])
def test_few_steps_begin_at_noise_alone_on_sdxls_schedule(name: str) -> None:
    """As SDXL-Lightning, SDXL-Turbo and Hyper-SD ask; with SDXL's own spacing one step begins at timestep 1."""
    own = _OWN["sdxl"]()
    made, plain = new_scheduler(name, own), new_scheduler(name.removesuffix("_trailing"), own)
    made.set_timesteps(4)
    plain.set_timesteps(1)
    assert made.timesteps.tolist() == [999, 749, 499, 249]
    assert plain.timesteps.tolist() == [1]


def test_the_authors_scheduler_is_for_their_adapters() -> None:
    own = official_scheduler()
    made = new_scheduler(OFFICIAL, own)
    assert isinstance(made, OfficialScheduler) and made is not own and made.config == own.config
    with pytest.raises(ConfigError, match="does not name"):
        new_scheduler(OFFICIAL, DDIMScheduler())
    with pytest.raises(ConfigError, match="choose one of") as refused:
        new_scheduler("plms", own)
    assert all(name in str(refused.value) for name in NAMES)


def test_a_request_costs_its_unet_calls(pipeline: RealCustomPipeline) -> None:
    heun = Request("a cat", 1, 64, 64, 5, 1.0, scheduler=new_scheduler("heun", pipeline.scheduler))
    assert heun.calls == unet_calls("heun", 5) == begin(pipeline, heun).total == 9
    assert unet_calls(None, 5) == unet_calls("euler", 5) == unet_calls(OFFICIAL, 5) == 5
    check_steps("lcm", 50)
    check_steps(None, 1000)
    with pytest.raises(ConfigError, match="at most 50"):
        check_steps("tcd", 51)


# --- a base that was distilled to take the guidance scale as an input


@pytest.fixture(scope="module")
def distilled(miniature: Any) -> StableDiffusionXLPipeline:
    """The miniature base with a U-Net of the same sizes that has ``time_cond_proj_dim``, and random weights."""
    stock = StableDiffusionXLPipeline.from_pretrained(miniature.base)
    torch.manual_seed(3)
    stock.unet = UNet2DConditionModel.from_config(stock.unet.config, time_cond_proj_dim=32).eval()
    stock.set_progress_bar_config(disable=True)
    return stock


@pytest.fixture(scope="module")
def guided_by_input(distilled: StableDiffusionXLPipeline, miniature: Any) -> RealCustomPipeline:
    parts = [f"model.{n}={getattr(miniature, n)}" for n in ("base", "siglip", "dinov2")]
    made = RealCustomPipeline.from_config(load_config("tiny", [*parts, "model.adapter=null"]))
    ours = RealCustomPipeline(**{**distilled.components, "adapter": None, "vision_encoder": None})
    ours.unet = UNet2DConditionModel.from_config(distilled.unet.config).eval()
    ours.unet.load_state_dict(distilled.unet.state_dict())
    ours.set_adapter(made.adapter, made.vision_encoder, made.guidance)
    ours.set_progress_bar_config(disable=True)
    return ours


@pytest.mark.parametrize("name", ["lcm", "tcd"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_guidance_scale_as_an_input_equals_diffusers(
    guided_by_input: RealCustomPipeline, distilled: StableDiffusionXLPipeline, name: str, scale: float
) -> None:
    distilled.scheduler = _DIFFUSERS[name][0].from_config(guided_by_input.scheduler.config)
    asked: dict[str, Any] = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "latent"}
    asked["guidance_scale"] = scale
    expected = distilled("a cat", generator=torch.Generator().manual_seed(1), **asked).images
    ours = guided_by_input("a cat", sampler=name, generator=torch.Generator().manual_seed(1), **asked).images
    assert torch.equal(ours, expected)


def test_guidance_scales_of_one_batch_are_inputs_of_their_own(
    guided_by_input: RealCustomPipeline, subjects: Subjects
) -> None:
    def requests() -> list[Request]:
        return [
            Request(
                "a cat", 1, 64, 64, 3, scale, subjects=own, scheduler=new_scheduler("lcm", guided_by_input.scheduler)
            )
            for scale in (1.0, 4.0)
            for own in ((), (subjects.cat,))
        ]

    states = [begin(guided_by_input, request) for request in requests()]
    assert not any(state.conditioning.guided for state in states), "one row an image"  # type: ignore[attr-defined]
    batched = drawn(guided_by_input, requests(), [0, 1, 0, 2])
    alone = [drawn(guided_by_input, [request], [0])[0] for request in requests()]
    for request, one, other in zip(requests(), alone, batched, strict=True):
        assert_same(guided_by_input, request, one, other)
    assert (alone[0] - alone[2]).abs().max() > 1e-3, "the scale has an effect"
