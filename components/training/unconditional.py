"""Encodes the inputs of the unconditional prediction for datasets that do not hold them."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from components.config import Config
from components.model.text import encode_prompts
from components.model.unconditional_inputs import UnconditionalInputs
from components.model.vision import VisionEncoder, VisionFeatures


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


def _load_vision(config: Config) -> VisionEncoder:
    return VisionEncoder.load(config.model, config.vision, getattr(torch, config.model.dtype))
