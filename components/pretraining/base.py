"""The miniature's text encoders and U-Net, trained together by the diffusion loss with caption dropout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from components.model.miniature import IMAGE_SIZE, build_text_encoders, build_unet
from components.precision import autocast
from components.pretraining.loop import Schedule, fit
from components.training.timesteps import stratified_timesteps

#: SDXL's noise schedule; the miniature predicts v, which learns faster at this size.
NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}


class BaseModel(nn.Module):
    """The three parts that the diffusion loss trains together."""

    def __init__(
        self,
        text_encoder: CLIPTextModel,
        text_encoder_2: CLIPTextModelWithProjection,
        unet: UNet2DConditionModel,
        image_size: int = IMAGE_SIZE,
    ) -> None:
        super().__init__()
        self.text_encoder, self.text_encoder_2, self.unet = text_encoder, text_encoder_2, unet
        self.image_size = image_size

    def forward(self, latents: Tensor, timesteps: Tensor, input_ids: Tensor) -> Tensor:
        """Predict v for noisy ``latents`` [b, 4, h, w] at ``timesteps`` [b], given ``input_ids`` [b, tokens]."""
        first = self.text_encoder(input_ids, output_hidden_states=True).hidden_states[-2]
        second = self.text_encoder_2(input_ids, output_hidden_states=True)
        size = float(self.image_size)
        time_ids = torch.tensor([[size, size, 0.0, 0.0, size, size]], device=latents.device).expand(len(latents), 6)
        prediction: Tensor = self.unet(
            latents,
            timesteps,
            torch.cat([first, second.hidden_states[-2]], dim=-1),
            added_cond_kwargs={"text_embeds": second.text_embeds, "time_ids": time_ids},
            return_dict=False,
        )[0]
        return prediction


def train_base(
    latents: Tensor, captions: list[str], tokenizer: CLIPTokenizer, schedule: Schedule, checkpoint: Path
) -> BaseModel:
    """Fit text encoders and U-Net to scaled ``latents`` [n, 4, h, w] and ``captions``, a tenth of which is dropped."""
    torch.manual_seed(schedule.seed)
    model = prepare_attention(BaseModel(*build_text_encoders(tokenizer), build_unet()))
    loss_of = denoising_loss(model, latents, captions, tokenizer, schedule.batch_size)
    trained = fit(model, loss_of, schedule, checkpoint)
    assert isinstance(trained, BaseModel)
    return trained


def prepare_attention(model: BaseModel) -> BaseModel:
    """Select the fastest attention for training, and return ``model``.

    On CPU the fused attention's backward pass is slow for small heads: explicit products train in 0.65x the time.
    """
    for encoder in (model.text_encoder, model.text_encoder_2):
        encoder.set_attn_implementation("eager")
    if model.unet.device.type == "cpu":
        model.unet.set_attn_processor(AttnProcessor())
    return model


def denoising_loss(
    model: BaseModel, latents: Tensor, captions: list[str], tokenizer: CLIPTokenizer, batch_size: int
) -> Callable[[torch.Generator], Tensor]:
    """The loss of a step: the error of v on ``batch_size`` random rows, a tenth of them without caption.

    Args:
        latents: scaled, [n, 4, h, w], on the CPU; the model may be on another device.
    """
    scheduler = DDPMScheduler(**NOISE)
    ids = tokenizer([*captions, ""], padding="max_length", truncation=True, return_tensors="pt").input_ids
    device = model.unet.device

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(latents), (batch_size,), generator=generator)
        clean = latents[rows].float()
        dropped = torch.rand(len(rows), generator=generator) < 0.1
        tokens = torch.where(dropped[:, None], ids[-1], ids[rows])
        noise = torch.randn(clean.shape, generator=generator)
        uniform = torch.rand(len(rows), generator=generator)
        timesteps = stratified_timesteps(uniform, scheduler.config.num_train_timesteps)
        noisy = scheduler.add_noise(clean, noise, timesteps)
        with autocast(device):
            predicted = model(noisy.to(device), timesteps.to(device), tokens.to(device))
        return F.mse_loss(predicted.float(), scheduler.get_velocity(clean, noise, timesteps).to(device))

    return loss_of


def assemble(vae: AutoencoderKL, base: BaseModel, tokenizer: CLIPTokenizer) -> StableDiffusionXLPipeline:
    """The trained parts as an SDXL pipeline."""
    base.unet.set_default_attn_processor()
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=base.text_encoder,
        text_encoder_2=base.text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=base.unet,
        scheduler=DPMSolverMultistepScheduler(**NOISE, timestep_spacing="trailing"),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
