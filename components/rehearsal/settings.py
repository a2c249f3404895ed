"""The configuration of a rehearsal: that of the preset, at few pixels and steps, below a directory of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from components.config import Config, load_config
from components.fingerprint import fingerprint

#: The preset whose weights are made for a rehearsal; other presets name weights that are there.
FULL = "sdxl"
#: Sides of images in pixels.
_SIDES = {"cpu": 512, "cuda": 1024}
_MINUTES = 60


@dataclass(frozen=True)
class Places:
    """The files of a rehearsal below ``root``; weights may lie elsewhere, for several rehearsals."""

    root: Path
    weights: Path

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    @property
    def dreambench(self) -> Path:
        return self.root / "dreambench"

    @property
    def release(self) -> Path:
        """An adapter in the layout of the authors' release."""
        return self.weights / "release.safetensors"

    @property
    def adapter(self) -> Path:
        """The converted adapter."""
        return self.root / "adapter"

    @property
    def settings(self) -> Path:
        return self.root / "settings.yaml"

    @property
    def training(self) -> Path:
        return self.root / "training"

    @property
    def log(self) -> Path:
        return self.root / "commands.log"


def rehearsal_config(
    preset: str, places: Places, device: Literal["cpu", "cuda"], cpus: int, overrides: Sequence[str]
) -> Config:
    """The configuration of all commands.

    Args:
        overrides: win over those of the rehearsal.
    """
    full = preset == FULL
    side = _SIDES[device] if full else load_config(preset).sampling.width
    root = places.root.absolute()
    own = {
        "model.device": device,
        "data.format": "jsonl",
        "data.source": places.pictures.absolute(),
        "data.output": root / "prepared",
        "data.image_size": side,
        "data.validation_share": 0.25,
        "data.encoders": 1,
        "data.duplicates": "keep",
        "training.dataset": root / "prepared",
        "training.output": places.training.absolute(),
        "training.workers": 1,
        "training.use_gpu": device == "cuda",
        "training.cpus_per_worker": max(1, cpus - 1) if device == "cuda" else cpus,
        "training.steps": 2 if full else 30,
        "training.batch_size": 1,
        "training.warmup": 1,
        "training.checkpoint_every": 1 if full else 5,
        "training.validation_rows": 0,
        "training.sample_every": 0,
        "sampling.steps": 2,
        "sampling.width": side,
        "sampling.height": side,
        "registry.tracking_uri": f"sqlite:///{root}/mlflow.db",
        "registry.artifacts": root / "artifacts",
        "evaluation.prompts": 2,
        "evaluation.output": root / "evaluation",
        "evaluation.dreambench.source": places.dreambench.absolute(),
        "evaluation.dreambench.seeds": 1,
        "evaluation.dreambench.subjects": 1,
        "evaluation.dreambench.prompts": 2,
        "serving.store": root / "store",
        "serving.generator_threads": cpus,
        "serving.generator_gpus": int(device == "cuda"),
        "serving.max_replicas": 1,
        "serving.access.keys": "required",
        "serving.request_timeout_s": 30 * _MINUTES,
        "serving.stuck_s": 20 * _MINUTES,
    }
    if full:
        weights = places.weights.absolute()
        own |= {
            "model.base": weights / "base",
            "model.siglip": weights / "siglip",
            "model.dinov2": weights / "dinov2",
            "model.adapter": places.adapter.absolute(),
            "evaluation.dino": weights / "dino",
            "evaluation.clip": weights / "clip",
        }
    plain = {key: value if isinstance(value, int | float) else str(value) for key, value in own.items()}
    return load_config(preset, [*(f"{key}={json.dumps(value)}" for key, value in plain.items()), *overrides])


def write_settings(config: Config, file: Path) -> None:
    """Write ``config`` for ``--config``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def settings_mark(config: Config, cpus: int) -> str:
    """A fingerprint of what the figures of a rehearsal depend on beside the commit."""
    return fingerprint([config.model_dump(mode="json", exclude={"serving": {"port"}}), cpus])
