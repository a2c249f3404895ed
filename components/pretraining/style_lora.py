"""A LoRA that gives the miniature a style that its world does not have, for demonstrations and tests.

python -m components.pretraining.style_lora --style sepia --output runs/style-sepia
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image, ImageFilter, ImageOps

from components.config import Config, load_config
from components.model.base_model import load_base
from components.pretraining.loop import Schedule, fit
from components.pretraining.lora import LoraLayers, save_lora
from components.pretraining.unet_call import captioned_loss
from components.pretraining.world_latents import world_latents
from components.progress import quiet_libraries

_SCENE_SEED = 4_000_000


def sepia(picture: Image.Image) -> Image.Image:
    """The picture in browns, as an old photograph."""
    return ImageOps.colorize(ImageOps.grayscale(picture), "#2b1a0a", "#fff1d6", "#a5764a")


def outline(picture: Image.Image) -> Image.Image:
    """Dark edges on white, as a drawing."""
    edges = ImageOps.grayscale(picture.filter(ImageFilter.FIND_EDGES))
    return ImageOps.invert(edges.point([min(255, 3 * value) for value in range(256)])).convert("RGB")


#: Name -> the change of every picture.
STYLES: dict[str, Callable[[Image.Image], Image.Image]] = {"sepia": sepia, "outline": outline}


def train_style(
    config: Config, style: str, schedule: Schedule, work: Path, output: Path, scenes: int = 500, rank: int = 4
) -> Path:
    """Train a LoRA of ``rank`` on ``scenes`` in a style of `STYLES`, and return its file in ``output``.

    A killed run resumes from ``work``.
    """
    pipeline = load_base(StableDiffusionXLPipeline, config.model, torch.float32, add_watermarker=False)
    unet, size = pipeline.unet, pipeline.default_sample_size * pipeline.vae_scale_factor
    data = world_latents(pipeline, scenes, size, _SCENE_SEED, work / "data", lambda p: _changed(p, STYLES[style]))
    torch.manual_seed(schedule.seed)
    lora = LoraLayers(unet, rank)
    if unet.device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())  # its backward pass is faster there, see `prepare_attention`
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    loss_of = captioned_loss(unet, data, scheduler, size, schedule.batch_size)
    with lora.holding(fit(lora, loss_of, schedule, work / "lora")):
        return save_lora(unet, output)


def _changed(pictures: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(picture))) for picture in pictures])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--style", choices=sorted(STYLES), default="sepia")
    parser.add_argument("--output", type=Path, required=True, help="directory of the LoRA")
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()
    quiet_libraries()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    schedule = Schedule(arguments.steps, 2e-3, 12, warmup=10, ema=0.95, weight_decay=0.0, checkpoint_every=50)
    work = arguments.output.with_name(f"{arguments.output.name}-state")
    print(train_style(load_config("tiny"), arguments.style, schedule, work, arguments.output))


if __name__ == "__main__":
    main()
