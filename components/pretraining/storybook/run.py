"""Train the 128-pixel miniature: autoencoder, latents, judge, text encoders and U-Net; each stage is resumable.

python -m components.pretraining.storybook.run --work runs/storybook --output weights/tiny128
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTokenizer

from components.judges.storybook import save_recognizer
from components.pretraining.loop import Schedule
from components.pretraining.storybook.base import encode, export, train_base
from components.pretraining.storybook.builders import build_tokenizer
from components.pretraining.storybook.corpus import draw_pictures
from components.pretraining.storybook.loop import training_device
from components.pretraining.storybook.recognizer import accuracies, reliable, train_recognizer
from components.pretraining.storybook.stage_export import export_stage, import_stage
from components.pretraining.storybook.vae import train_vae
from components.world.storybook.captions import caption_of
from components.world.storybook.scenes import sample_scene

_CHUNK = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/storybook"))
    parser.add_argument("--output", type=Path, default=None, help="where the trained parts go")
    parser.add_argument("--start", type=Path, default=None, help="directory with `<stage>_unfinished.safetensors`")
    parser.add_argument("--vae-steps", type=int, default=2200)
    parser.add_argument("--judge-steps", type=int, default=1500)
    parser.add_argument("--pictures", type=int, default=16_000)
    parser.add_argument("--steps", type=int, default=12_000, help="of the base; the cosine spans them")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=None, help="stop cleanly after this time")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for stage in ("vae", "base"):
        if options.start is not None and (options.start / f"{stage}_unfinished.safetensors").exists():
            import_stage(options.start / f"{stage}_unfinished.safetensors", options.work / stage)
    deadline = time.time() + 60 * options.minutes if options.minutes else None

    vae = _vae(options.work, options.vae_steps, deadline)
    if vae is None:
        return
    latents, captions = _latents(vae, options.work / "latents", options.pictures)
    if not _judge(options.work, options.output, options.judge_steps, deadline):
        return
    tokenizer = _tokenizer(options.work)
    schedule = Schedule(options.steps, 1e-3, options.batch, warmup=200, ema=0.998, seed=2, checkpoint_every=200)
    trained = train_base(
        latents, captions, vae, tokenizer, schedule, options.work / "base", sample_prompts(32), deadline
    )
    if options.output is not None:
        export(vae, trained, tokenizer, options.output)
        export_stage(options.work / "base", options.output / "base_unfinished.safetensors")


def sample_prompts(count: int, seed: int = 7) -> list[str]:
    """Captions of held-out scenes, without colours."""
    rng = random.Random(seed)
    return [caption_of(sample_scene(rng, split="held_out"), rng) for _ in range(count)]


def _vae(work: Path, steps: int, deadline: float | None) -> AutoencoderKL | None:
    """The trained autoencoder; None if ``deadline`` came first."""
    finished = work / "vae_trained"
    if not finished.exists():
        schedule = Schedule(steps, 2e-3, 16, warmup=100, ema=0.995, seed=1, checkpoint_every=100)
        trained = train_vae(draw_pictures(10_000, seed=1, processes=_processes()), schedule, work / "vae", deadline)
        if trained is None:
            return None
        trained.save_pretrained(finished)
    vae: AutoencoderKL = AutoencoderKL.from_pretrained(finished)
    return vae.to(training_device()).requires_grad_(False).eval()


def _latents(vae: AutoencoderKL, cache: Path, count: int) -> tuple[Tensor, list[str]]:
    """Latents and captions of ``count`` images, drawn and encoded in parts that are stored in ``cache``."""
    cache.mkdir(parents=True, exist_ok=True)
    latents, captions = [], []
    for part in range(-(-count // _CHUNK)):
        file = cache / f"{part:04d}.safetensors"
        if not file.exists():
            drawn = draw_pictures(_CHUNK, seed=1_000 + part, processes=_processes())
            file.with_suffix(".json").write_text(json.dumps(drawn.captions))
            save_file({"latents": encode(vae, drawn.pixels)}, file)
        latents.append(load_file(file)["latents"])
        captions += json.loads(file.with_suffix(".json").read_text())
    return torch.cat(latents), captions


def _judge(work: Path, output: Path | None, steps: int, deadline: float | None) -> bool:
    """Train the judge, and save its accuracy for each attribute of held-out identities."""
    directory = (output or work) / "evaluation"
    if (directory / "accuracies.json").exists():
        return True
    schedule = Schedule(steps, 2e-3, 32, warmup=50, ema=0.99, seed=21, checkpoint_every=100)
    judge = train_recognizer(draw_pictures(12_000, seed=21, processes=_processes()), schedule, work / "judge", deadline)
    if judge is None:
        return False
    found = accuracies(judge.eval(), draw_pictures(1_000, seed=22, split="held_out"))
    save_recognizer(judge, directory)
    (directory / "accuracies.json").write_text(json.dumps({"read": found, "bars": reliable(found)}, indent=1))
    return True


def _processes() -> int:
    """The number of processes that draw: several on a machine with a GPU, else one."""
    return min(8, os.cpu_count() or 1) if training_device().type == "cuda" else 1


def _tokenizer(work: Path) -> CLIPTokenizer:
    """The tokenizer, with a vocabulary of captions that do not depend on the number of training images."""
    if not (work / "tokenizer").exists():
        rng = random.Random(3)
        build_tokenizer(caption_of(sample_scene(rng), rng, colors=0.7) for _ in range(4_000)).save_pretrained(
            work / "tokenizer"
        )
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    return tokenizer


if __name__ == "__main__":
    main()
