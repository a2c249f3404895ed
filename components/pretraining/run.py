"""`pretrain`: trains every part of the miniature on procedural images.

Stages save their state below ``pretraining.work``; a killed run resumes, and finished stages return at once. The result
replaces ``pretraining.output`` when it is complete.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.config import Config, PretrainingConfig
from components.evaluation.toybench import TextScores, generate_images, prompts, score_text
from components.files import replacing
from components.judges.identity_model import save_identity
from components.judges.judge import Judge
from components.judges.recognizer import save_recognizer
from components.model.miniature import EVALUATION_WIDTH, IMAGE_SIZE, VISION_WIDTH, MiniatureLayout, build_tokenizer
from components.model.pipeline import RealCustomPipeline
from components.pictures import rows_of_pictures
from components.pretraining import corpus
from components.pretraining.base import assemble, train_base
from components.pretraining.loop import Schedule
from components.pretraining.recognizer import train_recognizer
from components.pretraining.vae import encode, refine_decoder, train_vae
from components.pretraining.vision_encoders import train_identity, train_siglip
from components.world.identities import COLORS

logger = logging.getLogger(__name__)
_SCENE_SEED, _VIEW_SEED = 1_000_000, 2_000_000
#: Commands that train an adapter for a new miniature.
ADAPTER_COMMANDS = (
    "realcustom world --set world.identities=1400 --set world.output=runs/big/raw --set seed=9",
    "realcustom prepare --set data.source=runs/big/raw --set data.output=runs/big/prepared --set model.adapter=null",
    "realcustom train --set training.dataset=runs/big/prepared --set model.adapter=null --set training.steps=5500 "
    "--set training.learning_rate=1e-3 --set training.warmup=50 --set training.ema=0.99",
)


def pretrain(config: Config) -> MiniatureLayout:
    """Train the whole miniature and write it, with its card, to ``config.pretraining.output``."""
    settings = config.pretraining
    work = settings.work
    torch.set_num_threads(settings.threads)
    scenes = corpus.scenes(settings.scenes, IMAGE_SIZE, _SCENE_SEED, "train", work / "scenes")
    views = corpus.views(settings.identities, 3, IMAGE_SIZE, _VIEW_SEED, "train", work / "views")
    captions = [facts.caption for facts in scenes.facts]
    tokenizer = build_tokenizer([*captions, *(f"a {color}" for color in COLORS)])

    vae = train_vae(scenes.pictures, _schedule(settings, "vae", 2e-3, 16, ema=0.99, seed=1), work / "vae")
    latents = _latents(vae, scenes, work / "latents.safetensors")
    vae = refine_decoder(
        vae, scenes.pictures, _schedule(settings, "decoder", 1.5e-3, 12, ema=0.995, seed=11), work / "decoder"
    )
    base = train_base(latents, captions, tokenizer, _schedule(settings, "base", 1e-3, 32, seed=2), work / "base")

    with replacing(settings.output) as staging:
        layout = MiniatureLayout(staging)
        assemble(vae, base, tokenizer).to(dtype=torch.float16).save_pretrained(layout.base)
        schedule = _schedule(settings, "siglip", 1e-3, 96, ema=0.99, seed=4)
        train_siglip(scenes, views, tokenizer, VISION_WIDTH, schedule, work / "siglip").half().save_pretrained(
            layout.siglip
        )
        tokenizer.save_pretrained(layout.siglip)
        schedule = _schedule(settings, "recognizer", 2e-3, 64, ema=0.99, seed=6)
        recognizer = train_recognizer(scenes, schedule, work / "recognizer")
        save_recognizer(recognizer, layout.evaluation / "recognizer")
        schedule = _schedule(settings, "dinov2", 1e-3, 64, ema=0.99, seed=3)
        train_identity(scenes, views, VISION_WIDTH, schedule, work / "dinov2").backbone.half().save_pretrained(
            layout.dinov2
        )
        schedule = _schedule(settings, "evaluation_identity", 1e-3, 64, ema=0.99, seed=5)
        identity = train_identity(scenes, views, EVALUATION_WIDTH, schedule, work / "evaluation_identity")
        save_identity(identity, layout.evaluation / "identity")
        if (settings.output / "adapter").is_dir():
            shutil.copytree(settings.output / "adapter", layout.adapter)
    return MiniatureLayout(settings.output)


def write_card(config: Config, layout: MiniatureLayout, quality: TextScores) -> None:
    """Write the model card: training steps, commands, and text control of the base model."""
    settings = config.pretraining
    size = sum(f.stat().st_size for f in layout.root.rglob("*") if f.is_file()) / 1e6
    lines = [
        "# The miniature",
        "",
        "A miniature of the SDXL family, trained from scratch on the procedural toy world of `components/world`.",
        f"Every part is of the library class that the full system uses; {size:.1f} MB in half precision.",
        "",
        "Made by `realcustom pretrain --preset tiny`; seeds are fixed in `components/pretraining/run.py`. Steps:",
        "",
        *(f"* {stage}: {steps}" for stage, steps in settings.steps.model_dump().items()),
        "",
        f"Measured on {settings.quality_prompts} prompts with the evaluation encoders (95 % intervals):",
        "",
        f"* right kind {quality.kind}",
        f"* right place {quality.place}",
        f"* right position, if the prompt has one, {quality.position}",
        "",
        "The adapter is trained on 1,400 other identities, four pictures each (an hour on two cores):",
        "",
        *(f"    {line}" for line in ADAPTER_COMMANDS),
        "",
        "Licence: Apache-2.0, as the code. The pictures it was trained on are drawn by the code.",
        "",
    ]
    (layout.root / "README.md").write_text("\n".join(lines))
    (layout.root / "quality.json").write_text(json.dumps(asdict(quality), indent=1))


def measure(config: Config, pictures: Path | None = None) -> TextScores:
    """Measure text control of the base model, and save a grid of 32 images to ``pictures``."""
    bare = config.model_copy(update={"model": config.model.model_copy(update={"adapter": None})})
    pipeline = RealCustomPipeline.from_config(bare)
    assert config.evaluation.encoders is not None
    judge = Judge(config.evaluation.encoders, config.vision.view_size)
    count, seed = config.pretraining.quality_prompts, config.evaluation.seed
    if pictures is not None:
        wanted = [w.prompt for w in prompts(32, seed)]
        images, _ = generate_images(pipeline, config, wanted, range(32), description="grid")
        pictures.parent.mkdir(parents=True, exist_ok=True)
        grid = [images[i : i + 8] for i in range(0, 32, 8)]
        rows_of_pictures(grid).save(pictures)
    return score_text(pipeline, judge, config, count, seed)


def _schedule(
    settings: PretrainingConfig, stage: str, rate: float, batch: int, ema: float = 0.999, seed: int = 0
) -> Schedule:
    steps = getattr(settings.steps, stage)
    return Schedule(steps, rate, batch, warmup=min(200, steps // 5 + 1), ema=ema, seed=seed)


def _latents(vae: AutoencoderKL, scenes: corpus.Scenes, cache: Path) -> Tensor:
    if not cache.exists():
        save_file({"latents": encode(vae, scenes.pictures).contiguous()}, cache)
    return load_file(cache)["latents"]
