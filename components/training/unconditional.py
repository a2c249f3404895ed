"""Inputs of the unconditional prediction, encoded once a run, so that workers need no vision or text encoders."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from components.config import Config
from components.files import replacing_file
from components.model.text import encode_prompts
from components.model.vision import VisionEncoder, VisionFeatures
from components.tensor_files import TensorFile, write_tensors
from components.training.objective import UnconditionalInputs


def encode_black(config: Config) -> VisionFeatures:
    """Features of a black reference in float32, encoded on the CPU in the precision of ``model.dtype``."""
    return black_features(VisionEncoder.load(config.model, config.vision, getattr(torch, config.model.dtype)))


def black_features(vision: VisionEncoder) -> VisionFeatures:
    """Features of a black reference in float32."""
    side = vision.reference_size
    found = vision.encode_images([Image.new("RGB", (side, side))])
    return VisionFeatures(found.deep.float(), found.local.float(), tuple(each.float() for each in found.shallow))


def unconditional_inputs(config: Config, vision: VisionEncoder) -> UnconditionalInputs:
    """Features of a black reference and of an empty prompt, encoded on the CPU in the precision of ``model.dtype``."""
    dtype = getattr(torch, config.model.dtype)
    base = StableDiffusionXLPipeline.from_pretrained(config.model.base, unet=None, vae=None, dtype=dtype)
    text = encode_prompts(base, [""])
    return UnconditionalInputs(black_features(vision), text.tokens.float(), text.pooled.float())


def encode_unconditional(config: Config) -> UnconditionalInputs:
    """Load the encoders, and encode with them."""
    dtype = getattr(torch, config.model.dtype)
    return unconditional_inputs(config, VisionEncoder.load(config.model, config.vision, dtype))


def write_unconditional(config: Config, file: Path) -> None:
    """Encode into ``file``, which appears whole."""
    inputs = encode_unconditional(config)
    tensors = {
        "deep": inputs.vision.deep,
        "local": inputs.vision.local,
        "text_tokens": inputs.text_tokens,
        "text_pooled": inputs.text_pooled,
    }
    with replacing_file(file) as partial:
        write_tensors(partial, tensors, tensors.__getitem__)


def read_unconditional(file: Path) -> UnconditionalInputs:
    """What `write_unconditional` wrote."""
    stored = TensorFile(file)
    tensors = {name: stored.read(name) for name in stored.layout}
    features = VisionFeatures(tensors["deep"], tensors["local"])
    return UnconditionalInputs(features, tensors["text_tokens"], tensors["text_pooled"])
