"""The inputs of the unconditional prediction: those that the dataset holds, or encoded for the training."""

from __future__ import annotations

import shutil
from pathlib import Path

import ray
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from components.config import Config, for_workers
from components.data.manifest import UNCONDITIONAL, Manifest
from components.files import replacing_file
from components.model.text import encode_prompts
from components.model.unconditional_inputs import UnconditionalInputs
from components.model.vision import VisionEncoder, VisionFeatures, encoder_identity


def encode_black(config: Config) -> VisionFeatures:
    """Features of a black reference in float32, encoded on the CPU in the precision of ``model.dtype``."""
    return black_features(_load_vision(config))


def black_features(vision: VisionEncoder) -> VisionFeatures:
    """Features of a black reference in float32."""
    side = vision.reference_size
    found = vision.encode_images([Image.new("RGB", (side, side))])
    return VisionFeatures(found.deep.float(), found.local.float(), tuple(each.float() for each in found.shallow))


def unconditional_inputs(config: Config, vision: VisionEncoder) -> UnconditionalInputs:
    """Features of a black reference and of an empty prompt, encoded on the CPU in the precision of ``model.dtype``."""
    dtype = getattr(torch, config.model.dtype)
    base = StableDiffusionXLPipeline.from_pretrained(config.model.base, unet=None, vae=None, dtype=dtype)
    return UnconditionalInputs.of(black_features(vision), encode_prompts(base, [""]))


def encode_unconditional(config: Config) -> UnconditionalInputs:
    """Load the encoders, and encode with them."""
    return unconditional_inputs(config, _load_vision(config))


def write_unconditional(config: Config, file: Path) -> None:
    """Encode into ``file``, which appears whole."""
    encode_unconditional(config).write(file)


def provide_unconditional(config: Config, manifest: Manifest, file: Path) -> None:
    """Write the inputs of a training on the dataset of ``manifest`` into ``file``.

    Those of the dataset are copied if its encoders made them. A dataset of pixels may be trained on with other vision
    encoders, and datasets up to release 0.2.0 hold none: then they are encoded, unless ``file`` exists.
    """
    stored = config.training.dataset / UNCONDITIONAL
    if stored.exists() and manifest.encoders["vision"] == encoder_identity(config.model, config.vision):
        with replacing_file(file) as partial:
            shutil.copyfile(stored, partial)
    elif not file.exists():
        # In a process of its own, which returns the encoders' memory when it ends.
        encode = ray.remote(num_cpus=1, max_calls=1)(write_unconditional)
        ray.get(encode.remote(for_workers(config), file))


def _load_vision(config: Config) -> VisionEncoder:
    return VisionEncoder.load(config.model, config.vision, getattr(torch, config.model.dtype))
