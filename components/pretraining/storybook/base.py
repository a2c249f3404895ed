"""Text encoders and U-Net of the 128-pixel miniature, trained together on cached latents with caption dropout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTokenizer

from components.precision import autocast
from components.pretraining.base import BaseModel, assemble, denoising_loss, prepare_attention
from components.pretraining.loop import FitResult, Schedule
from components.pretraining.storybook.builders import build_text_encoders, build_unet
from components.pretraining.storybook.loop import fit, training_device
from components.pretraining.storybook.normalization import use_channels_last, use_plain_layout
from components.pretraining.vae import to_pixels
from components.world.storybook.scenes import SIZE


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: np.ndarray, batch: int = 50) -> Tensor:
    """Posterior means of uint8 ``pixels`` [n, s, s, 3] as float16 [n, 4, s/8, s/8]."""
    chunks = []
    for start in range(0, len(pixels), batch):
        with autocast(vae.device):
            mean = vae.encode(to_pixels(pixels[start : start + batch]).to(vae.device)).latent_dist.mean
        chunks.append(mean.half().cpu())
    return torch.cat(chunks).contiguous()


def build_base(tokenizer: CLIPTokenizer, device: torch.device) -> BaseModel:
    """Untrained text encoders and U-Net, laid out for training on ``device``."""
    base = prepare_attention(BaseModel(*build_text_encoders(tokenizer), build_unet(), SIZE).to(device))
    use_channels_last(base.unet)
    return base


def train_base(
    latents: Tensor,
    captions: list[str],
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    schedule: Schedule,
    checkpoint: Path,
    prompts: list[str],
    deadline: float | None = None,
) -> FitResult:
    """Fit to float16 ``latents`` [n, 4, h, w]; grids of ``prompts`` are saved beside ``checkpoint`` as PNG."""
    torch.manual_seed(schedule.seed)
    base = build_base(tokenizer, training_device())
    loss_of = denoising_loss(base, latents, captions, tokenizer, schedule.batch_size)

    def show(averaged: nn.Module, step: int) -> None:
        assert isinstance(averaged, BaseModel)
        sheet(vae, averaged, tokenizer, prompts).save(checkpoint.parent / f"samples_{step:06d}.png")

    return fit(base, loss_of, schedule, checkpoint, deadline, show)


@torch.no_grad()
def sheet(
    vae: AutoencoderKL, base: BaseModel, tokenizer: CLIPTokenizer, prompts: list[str], columns: int = 8
) -> Image.Image:
    """A grid with one image for each prompt, seeds 0, 1, ..., 20 steps, guidance 3.5."""
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
    prepare_attention(base)
    cells = [np.asarray(p) for p in pictures]
    rows = [np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells), columns)]
    return Image.fromarray(np.concatenate(rows))


def export(vae: AutoencoderKL, trained: FitResult, tokenizer: CLIPTokenizer, directory: Path) -> None:
    """Write the averaged parts as a float16 pipeline."""
    assert isinstance(trained.averaged, BaseModel)
    directory.mkdir(parents=True, exist_ok=True)
    use_plain_layout(trained.averaged.cpu().unet)
    assemble(vae.cpu(), trained.averaged, tokenizer).to(dtype=torch.float16).save_pretrained(directory / "base")
