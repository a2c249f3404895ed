"""Text encoders and U-Net of the 128-pixel miniature, trained together on cached latents with caption dropout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTokenizer

from components.precision import autocast
from components.pretraining.base import NOISE, BaseModel, assemble
from components.pretraining.loop import Schedule
from components.pretraining.storybook.loop import Trained, fit, training_device
from components.pretraining.storybook.model import build_text_encoders, build_unet
from components.pretraining.storybook.normalization import use_channels_last, use_plain_layout
from components.pretraining.vae import to_pixels
from components.world.storybook.scenes import SIZE


class Base(BaseModel):
    """The parts that the diffusion loss trains together, told the size of these pictures."""

    def forward(self, latents: Tensor, timesteps: Tensor, input_ids: Tensor) -> Tensor:
        """Predict v for noisy ``latents`` [b, 4, h, w] at ``timesteps`` [b], given ``input_ids`` [b, tokens]."""
        first = self.text_encoder(input_ids, output_hidden_states=True).hidden_states[-2]
        second = self.text_encoder_2(input_ids, output_hidden_states=True)
        size = float(SIZE)
        time_ids = torch.tensor([[size, size, 0.0, 0.0, size, size]], device=latents.device).expand(len(latents), 6)
        prediction: Tensor = self.unet(
            latents,
            timesteps,
            torch.cat([first, second.hidden_states[-2]], dim=-1),
            added_cond_kwargs={"text_embeds": second.text_embeds, "time_ids": time_ids},
            return_dict=False,
        )[0]
        return prediction


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: np.ndarray, batch: int = 50) -> Tensor:
    """Posterior means of uint8 ``pixels`` [n, s, s, 3] as float16 [n, 4, s/8, s/8]."""
    chunks = []
    for start in range(0, len(pixels), batch):
        with autocast(vae.device):
            mean = vae.encode(to_pixels(pixels[start : start + batch]).to(vae.device)).latent_dist.mean
        chunks.append(mean.half().cpu())
    return torch.cat(chunks).contiguous()


def build_base(tokenizer: CLIPTokenizer, device: torch.device) -> Base:
    """Untrained text encoders and U-Net, laid out for training on ``device``."""
    text_encoders = build_text_encoders(tokenizer)
    for encoder in text_encoders:
        encoder.set_attn_implementation("eager")
    base = Base(*text_encoders, build_unet()).to(device)
    _choose_attention(base)
    use_channels_last(base.unet)
    return base


def _choose_attention(base: Base) -> None:
    """On a CPU the fused attention's backward pass is slow for small heads (docs/experiments.md)."""
    if base.unet.device.type == "cpu":
        base.unet.set_attn_processor(AttnProcessor())


def train_base(
    latents: Tensor,
    captions: list[str],
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    schedule: Schedule,
    checkpoint: Path,
    prompts: list[str],
    deadline: float | None = None,
) -> Trained:
    """Fit to float16 ``latents`` [n, 4, h, w]; sheets of ``prompts`` go beside ``checkpoint`` as PNG."""
    torch.manual_seed(schedule.seed)
    device = training_device()
    base = build_base(tokenizer, device)
    scheduler = DDPMScheduler(**NOISE)
    ids = tokenizer([*captions, ""], padding="max_length", truncation=True, return_tensors="pt").input_ids

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(latents), (schedule.batch_size,), generator=generator)
        clean = latents[rows].float()
        dropped = torch.rand(len(rows), generator=generator) < 0.1
        tokens = torch.where(dropped[:, None], ids[-1], ids[rows])
        noise = torch.randn(clean.shape, generator=generator)
        # One timestep from each of `batch_size` equal ranges: the loss varies less from step to step.
        spread = (torch.arange(len(rows)) + torch.rand(len(rows), generator=generator)) / len(rows)
        timesteps = (spread * scheduler.config.num_train_timesteps).long()
        noisy = scheduler.add_noise(clean, noise, timesteps).to(device, memory_format=torch.channels_last)
        wanted = scheduler.get_velocity(clean, noise, timesteps).to(device)
        with autocast(device):
            predicted = base(noisy, timesteps.to(device), tokens.to(device))
        return F.mse_loss(predicted.float(), wanted)

    def show(averaged: nn.Module, step: int) -> None:
        assert isinstance(averaged, Base)
        sheet(vae, averaged, tokenizer, prompts).save(checkpoint.parent / f"samples_{step:06d}.png")

    return fit(base, loss_of, schedule, checkpoint, deadline, show)


@torch.no_grad()
def sheet(
    vae: AutoencoderKL, base: Base, tokenizer: CLIPTokenizer, prompts: list[str], columns: int = 8
) -> Image.Image:
    """One picture a prompt, seeds 0, 1, ..., 20 steps, guidance 3.5."""
    pipeline = assemble(vae, base, tokenizer)
    pipeline.set_progress_bar_config(disable=True)
    pictures: list[Image.Image] = []
    for start in range(0, len(prompts), 16):
        seeds = [torch.Generator().manual_seed(start + i) for i in range(len(prompts[start : start + 16]))]
        with autocast(vae.device):
            pictures += pipeline(
                prompts[start : start + 16],
                num_inference_steps=20, guidance_scale=3.5, height=SIZE, width=SIZE, generator=seeds,
            ).images  # fmt: skip
    _choose_attention(base)
    cells = [np.asarray(p) for p in pictures]
    rows = [np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells), columns)]
    return Image.fromarray(np.concatenate(rows))


def export(vae: AutoencoderKL, trained: Trained, tokenizer: CLIPTokenizer, directory: Path) -> None:
    """Write the averaged parts as a float16 pipeline."""
    assert isinstance(trained.averaged, Base)
    directory.mkdir(parents=True, exist_ok=True)
    use_plain_layout(trained.averaged.cpu().unet)
    assemble(vae.cpu(), trained.averaged, tokenizer).to(dtype=torch.float16).save_pretrained(directory / "base")
