"""Distillation of a miniature: its loss, exact resumption, learning, and that diffusers reads the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, LCMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file

from components.config import Config, load_config
from components.distillation.consistency import NoiseLevels, boundary_scalings, pseudo_huber
from components.distillation.run import REPORT, TeacherDistance, distill
from components.distillation.teacher_student import TeacherStudent, distillation_loss
from components.distillation.trajectories import Trajectories, TrajectorySettings, end_loss, sample_trajectories
from components.errors import ConfigError
from components.model.miniature import build_unet
from components.model.pipeline import RealCustomPipeline
from components.model.text import TextFeatures
from components.pretraining.base import NOISE
from components.pretraining.lora import LORA_FILE, LoraLayers, save_lora, without_lora
from components.pretraining.world_latents import CaptionedLatents, encode_captions


def _settings(tmp_path: Path, *overrides: str, base: Path | None = None) -> Config:
    places = [f"distillation.output={tmp_path / 'out'}", f"distillation.work={tmp_path / 'work'}"]
    own = [] if base is None else [f"model.base={base}"]
    small = [
        "distillation.trajectories=16",
        "distillation.scenes=16",
        "distillation.batch_size=4",
        "distillation.rank=4",
        "distillation.checked=4",
        "distillation.trajectories=16",
    ]
    return load_config("tiny", [*places, *own, *small, *overrides])


def _unet(seed: int = 0) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    return build_unet().eval()


def _data(count: int = 8) -> CaptionedLatents:
    generator = torch.Generator().manual_seed(1)
    text = TextFeatures(torch.randn(3, 32, 128, generator=generator), torch.randn(3, 64, generator=generator))
    return CaptionedLatents(torch.randn(count, 4, 16, 16, generator=generator), torch.arange(count) % 2, text)


def _models(unet: UNet2DConditionModel) -> TeacherStudent:
    return TeacherStudent(unet, NoiseLevels(DDPMScheduler(**NOISE).alphas_cumprod, "v_prediction"), 25, 64)


def _train_something(lora: LoraLayers) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))


def test_the_loss_is_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written out with the U-Net's own calls: the teacher is the U-Net without the LoRA, the target has no gradient."""
    monkeypatch.setattr("components.precision.computes_bf16", lambda device: False)
    stock, unet, data = _unet(), _unet(), _data()
    lora = LoraLayers(unet, 4)
    _train_something(lora)
    found = distillation_loss(_models(unet), data, 2, (2.0, 2.0), 1e-3)(torch.Generator().manual_seed(5))

    drawn = torch.Generator().manual_seed(5)
    rows = torch.randint(8, (2,), generator=drawn)
    places = ((torch.arange(2) + torch.rand(2, generator=drawn)) / 2 * 25).long()
    timesteps = (places + 1) * 40 - 1
    noise = torch.randn(2, 4, 16, 16, generator=drawn)
    scheduler = DDPMScheduler(**NOISE)
    noisy = scheduler.add_noise(data.latents[rows], noise, timesteps)
    size = torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]]).repeat(2, 1)

    def velocity(
        model: UNet2DConditionModel, latents: torch.Tensor, at: torch.Tensor, captions: torch.Tensor
    ) -> torch.Tensor:
        conditions = {"text_embeds": data.text.pooled[captions], "time_ids": size}
        return model(latents, at, data.text.tokens[captions], added_cond_kwargs=conditions).sample

    def f(latents: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        squared = scheduler.alphas_cumprod[at][:, None, None, None]
        sample = squared.sqrt() * latents - (1 - squared).sqrt() * velocity(unet, latents, at, data.captions[rows])
        c_skip, c_out = boundary_scalings(at)
        return c_skip * latents + c_out * sample

    conditional = velocity(stock, noisy, timesteps, data.captions[rows])
    empty = velocity(stock, noisy, timesteps, torch.tensor([2, 2]))
    guided = empty + 2.0 * (conditional - empty)
    squared = scheduler.alphas_cumprod[timesteps][:, None, None, None]
    sample = squared.sqrt() * noisy - (1 - squared).sqrt() * guided
    epsilon = squared.sqrt() * guided + (1 - squared).sqrt() * noisy
    before = (timesteps - 40).clamp(min=0)
    earlier = scheduler.alphas_cumprod[before][:, None, None, None]
    previous = earlier.sqrt() * sample + (1 - earlier).sqrt() * epsilon
    expected = pseudo_huber(f(noisy, timesteps), f(previous, before).detach(), 1e-3)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)

    parameters = list(lora.parameters())
    for gradient, wanted in zip(
        torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-6)


def test_the_distance_to_the_end_of_a_trajectory_is_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.precision.computes_bf16", lambda device: False)
    unet, text = _unet(), _data().text
    lora, models = LoraLayers(unet, 4), _models(unet)
    _train_something(lora)
    generator = torch.Generator().manual_seed(4)
    data = Trajectories(
        torch.tensor([999, 499]),
        torch.randn(3, 2, 4, 16, 16, generator=generator),
        torch.randn(3, 4, 16, 16, generator=generator),
        torch.tensor([1, 0, 1]),
    )
    found = end_loss(models, data, text, 4, 0.1)(torch.Generator().manual_seed(5))
    rows = torch.randint(3, (4,), generator=torch.Generator().manual_seed(5))
    places = torch.tensor([0, 0, 1, 1])  # each half of the batch is at one half of the timesteps
    captions = data.captions[rows]
    features = TextFeatures(text.tokens[captions], text.pooled[captions])
    predicted = models.student(data.latents[rows, places], data.timesteps[places], features)
    torch.testing.assert_close(found, ((predicted - data.samples[rows]).square() + 0.01).sqrt().mean() - 0.1)


def test_trajectories_are_those_of_diffusers_and_are_sampled_once(config: Config, tmp_path: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(config.model.base, dtype=torch.float32, add_watermarker=False)
    text = encode_captions(pipeline, ["a red cat on the left on the beach", ""])
    how = TrajectorySettings(3, (2.0, 2.0), 7)
    made = sample_trajectories(pipeline, torch.tensor([0, 0]), text, how, tmp_path / "file.safetensors")
    assert made.timesteps.tolist() == [999, 666, 332]  # trailing: from noise on
    expected = pipeline(
        "a red cat on the left on the beach",
        negative_prompt="",
        num_inference_steps=3,
        guidance_scale=2.0,
        latents=made.latents[:1, 0],
        output_type="latent",
    ).images
    torch.testing.assert_close(made.samples[:1], expected, rtol=0.05, atol=0.05)  # the trajectories' are in bfloat16
    assert (made.samples[0] - made.samples[1]).abs().max() > 0.1, "each has a noise of its own"
    again = sample_trajectories(None, torch.tensor([0]), text, how, tmp_path / "file.safetensors")  # type: ignore[arg-type]
    assert torch.equal(again.samples, made.samples)


def test_a_new_lora_changes_nothing_and_a_trained_one_can_be_left_out() -> None:
    stock, unet = _unet(), _unet()
    lora = LoraLayers(unet, 4)
    inputs = (torch.randn(1, 4, 16, 16), torch.tensor(500), torch.randn(1, 32, 128))
    conditions = {"text_embeds": torch.randn(1, 64), "time_ids": torch.zeros(1, 6)}

    def call(model: UNet2DConditionModel) -> torch.Tensor:
        with torch.no_grad():
            return model(*inputs, added_cond_kwargs=conditions).sample

    torch.testing.assert_close(call(unet), call(stock))
    _train_something(lora)
    assert (call(unet) - call(stock)).abs().max() > 1e-3
    with without_lora(unet):
        torch.testing.assert_close(call(unet), call(stock))


def test_diffusers_reads_the_file_and_computes_the_same(tmp_path: Path) -> None:
    unet = _unet()
    lora = LoraLayers(unet, 4)
    _train_something(lora)
    save_lora(unet, tmp_path, torch.float32)
    other = _unet()
    StableDiffusionXLPipeline.load_lora_into_unet(load_file(tmp_path / LORA_FILE), None, other)
    inputs = (torch.randn(1, 4, 16, 16), torch.tensor(500), torch.randn(1, 32, 128))
    conditions = {"text_embeds": torch.randn(1, 64), "time_ids": torch.zeros(1, 6)}
    with torch.no_grad():
        pair = [model(*inputs, added_cond_kwargs=conditions).sample for model in (unet, other)]
    torch.testing.assert_close(*pair)


@pytest.mark.parametrize("target", ["end", pytest.param("neighbour", marks=pytest.mark.slow)])
def test_a_killed_distillation_resumes_to_the_same_file(
    target: str, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ("distillation.steps=4", "distillation.checkpoint_every=2", f"distillation.target={target}")
    base = Path(config.model.base)
    whole = distill(_settings(tmp_path / "whole", *steps, base=base))
    measured = TeacherDistance.__call__
    calls: list[int] = []

    def killed(self: TeacherDistance) -> float:
        calls.append(len(calls))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measured(self)

    monkeypatch.setattr(TeacherDistance, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        distill(_settings(tmp_path / "killed", *steps, base=base))
    monkeypatch.undo()
    assert not (tmp_path / "killed" / "out").exists()
    resumed = distill(_settings(tmp_path / "killed", *steps, base=base))
    first, second = load_file(whole.lora), load_file(resumed.lora)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert resumed.distances[4] == whole.distances[4]
    report = json.loads((whole.lora.parent / REPORT).read_text())
    assert report["settings"]["steps"] == 4 and set(report["distances"]) == {"0", "2", "4"}


@pytest.mark.slow
def test_a_short_distillation_comes_closer_to_the_teacher_and_pictures_equal_diffusers(tmp_path: Path) -> None:
    """With the shipped miniature; then its images with the LoRA are those of diffusers' own pipeline."""
    fast = ("steps=20", "warmup=1", "ema=0.5", "checkpoint_every=20", "batch_size=8", "checked=8", "trajectories=32")
    config = _settings(tmp_path, *(f"distillation.{setting}" for setting in fast))
    result = distill(config)
    assert result.distances[20] < 0.9 * result.distances[0]

    stock = StableDiffusionXLPipeline.from_pretrained(config.model.base, dtype=torch.float32, add_watermarker=False)
    stock.scheduler = LCMScheduler.from_config(stock.scheduler.config)
    stock.load_lora_weights(result.lora.parent)
    ours = RealCustomPipeline.from_config(config)
    ours.scheduler = LCMScheduler.from_config(ours.scheduler.config)
    ours.load_lora_weights(result.lora.parent)
    images = [
        pipeline(
            "a cat on the beach",
            num_inference_steps=4,
            guidance_scale=1.0,
            output_type="pt",
            generator=torch.Generator().manual_seed(3),
        ).images
        for pipeline in (stock, ours)
    ]
    torch.testing.assert_close(*images, rtol=0, atol=1e-4)


def test_a_grid_finer_than_the_timesteps_is_refused_by_name(config: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"distillation\.grid_steps: 1001"):
        distill(_settings(tmp_path, "distillation.grid_steps=1001", base=Path(config.model.base)))
    with pytest.raises(ConfigError, match="guidance_max must be at least guidance_min"):
        _settings(tmp_path, "distillation.guidance_min=5", "distillation.guidance_max=4")
