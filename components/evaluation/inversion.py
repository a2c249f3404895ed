"""Textual inversion: a pseudo-word for a subject, a method that RealCustom is compared with.

Gal et al. 2022: the embedding of a new word is fitted to pictures of the subject, with a frozen model. One vector for
each of SDXL's text encoders, initialised with the class noun.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.checkpoint import step_generator

#: The new word.
PSEUDO_WORD = "<subject>"


@dataclass(frozen=True)
class Inversion:
    """Optimization of a pseudo-word: AdamW on one picture, with ``batch`` noise samples in each step."""

    steps: int = 150
    batch: int = 8
    learning_rate: float = 5e-3


@contextmanager
def pseudo_word(
    pipeline: StableDiffusionXLPipeline, picture: Image.Image, noun: str, settings: Inversion, seed: int = 0
) -> Iterator[str]:
    """Fit the pseudo-word to ``picture`` and register it for the length of the block.

    Args:
        picture: of the size that the model generates.
        noun: its embedding is the initial value.
    """
    encoders = [(pipeline.tokenizer, pipeline.text_encoder), (pipeline.tokenizer_2, pipeline.text_encoder_2)]
    starts = [_embedding_of(noun, *encoder) for encoder in encoders]
    for (tokenizer, encoder), start in zip(encoders, starts, strict=True):
        pipeline.load_textual_inversion({PSEUDO_WORD: start}, PSEUDO_WORD, text_encoder=encoder, tokenizer=tokenizer)
    try:
        _fit(pipeline, picture, encoders, settings, seed)
        yield PSEUDO_WORD
    finally:
        for tokenizer, encoder in encoders:
            pipeline.unload_textual_inversion(PSEUDO_WORD, text_encoder=encoder, tokenizer=tokenizer)


def _fit(
    pipeline: StableDiffusionXLPipeline,
    picture: Image.Image,
    encoders: list[tuple[PreTrainedTokenizerBase, PreTrainedModel]],
    settings: Inversion,
    seed: int,
) -> None:
    tables = [encoder.get_input_embeddings().weight for _, encoder in encoders]
    rows = [tokenizer.convert_tokens_to_ids(PSEUDO_WORD) for tokenizer, _ in encoders]
    before = [table.detach().clone() for table in tables]
    for table in tables:
        table.requires_grad_(True)
    optimizer = torch.optim.AdamW(tables, settings.learning_rate, weight_decay=0)
    noise = DDPMScheduler.from_config(pipeline.scheduler.config)
    with torch.no_grad():
        pixels = pipeline.image_processor.preprocess(picture).to(pipeline.vae.device, pipeline.vae.dtype)
        clean = pipeline.vae.encode(pixels).latent_dist.mean * pipeline.vae.config.scaling_factor
    clean = clean.expand(settings.batch, -1, -1, -1)
    size = [picture.height, picture.width]
    time_ids = torch.tensor([[*size, 0, 0, *size]], dtype=torch.float32, device=clean.device)
    time_ids = time_ids.expand(settings.batch, -1)
    for step in range(settings.steps):
        loss = _loss(pipeline, noise, clean, time_ids, step_generator(seed, step))
        gradients = torch.autograd.grad(loss, tables)
        for table, gradient, row in zip(tables, gradients, rows, strict=True):
            table.grad = torch.zeros_like(table)
            table.grad[row] = gradient[row]
        optimizer.step()
        with torch.no_grad():
            for table, old, row in zip(tables, before, rows, strict=True):
                fitted = table[row].clone()
                table.copy_(old)
                table[row] = fitted
    for table in tables:
        table.grad = None
        table.requires_grad_(False)


def _loss(
    pipeline: StableDiffusionXLPipeline,
    noise: DDPMScheduler,
    clean: Tensor,
    time_ids: Tensor,
    generator: torch.Generator,
) -> Tensor:
    tokens, _, pooled, _ = pipeline.encode_prompt(prompt=[f"a {PSEUDO_WORD}"], do_classifier_free_guidance=False)
    count = len(clean)
    sampled = torch.randn(clean.shape, generator=generator).to(clean)
    timesteps = torch.randint(noise.config.num_train_timesteps, (count,), generator=generator).to(clean.device)
    target = (
        noise.get_velocity(clean, sampled, timesteps) if noise.config.prediction_type == "v_prediction" else sampled
    )
    predicted = pipeline.unet(
        noise.add_noise(clean, sampled, timesteps),
        timesteps,
        tokens.expand(count, -1, -1),
        added_cond_kwargs={"text_embeds": pooled.expand(count, -1), "time_ids": time_ids},
        return_dict=False,
    )[0]
    return F.mse_loss(predicted, target)


def _embedding_of(noun: str, tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel) -> Tensor:
    """The mean embedding of the noun's tokens."""
    ids = tokenizer(noun, add_special_tokens=False)["input_ids"]
    mean: Tensor = encoder.get_input_embeddings().weight[ids].detach().mean(0)
    return mean
