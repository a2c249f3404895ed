"""An untrained miniature, for tests of shapes and wiring."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from components.judges.identity_model import build_identity, save_identity
from components.judges.recognizer import build_recognizer, save_recognizer
from components.model.miniature import (
    EVALUATION_WIDTH,
    VISION_WIDTH,
    MiniatureLayout,
    build_dinov2,
    build_siglip,
    build_text_encoders,
    build_tokenizer,
    build_unet,
    build_vae,
)
from components.pretraining.base import BaseModel, assemble


def save_untrained(root: Path, captions: Iterable[str], seed: int = 0) -> MiniatureLayout:
    """Write an untrained miniature below ``root``."""
    torch.manual_seed(seed)
    layout = MiniatureLayout(root)
    tokenizer = build_tokenizer(captions)
    assemble(build_vae(), BaseModel(*build_text_encoders(tokenizer), build_unet()), tokenizer).save_pretrained(
        layout.base
    )
    build_siglip(tokenizer, VISION_WIDTH).save_pretrained(layout.siglip)
    tokenizer.save_pretrained(layout.siglip)
    save_recognizer(build_recognizer(), layout.evaluation / "recognizer")
    build_dinov2(VISION_WIDTH).save_pretrained(layout.dinov2)
    save_identity(build_identity(EVALUATION_WIDTH), layout.evaluation / "identity")
    return layout
