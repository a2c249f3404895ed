"""Checks that encoders, adapter and dataset belong together, before anything large is loaded."""

from __future__ import annotations

from components.config import Config
from components.data.manifest import Manifest
from components.data.stage_versions import base_identity
from components.errors import ArtifactError, ConfigError, DataError
from components.model.adapter import RealCustomAdapter
from components.model.vision import encoder_channels, encoder_identity

_AGAIN = "or prepare the dataset again"


def check_compatibility(config: Config, manifest: Manifest) -> None:
    """Check ``config.model`` and its adapter against each other and against the dataset of ``manifest``.

    Raises:
        ArtifactError: ``model.adapter`` was trained with other encoders.
        DataError: the dataset was encoded by other encoders, or lacks what the adapter reads.
        ConfigError: the adapter reads features that the configuration does not name, or the curriculum moves references
            whose features are stored.
    """
    vision = encoder_identity(config.model, config.vision)
    _check_encoders(config, manifest, vision)
    _check_curriculum(config, manifest)
    if config.model.adapter:
        adapter = RealCustomAdapter.described(config.model.adapter)
        if adapter.encoder_identity not in (None, vision):
            raise ArtifactError(
                "model.adapter was trained with other vision encoders or blocks: set model.siglip, model.dinov2 and "
                "vision as in its training"
            )
        channels = encoder_channels(config.model)
        if adapter.vision_channels != channels:
            raise ArtifactError(
                f"model.adapter reads {adapter.vision_channels} vision channels, model.siglip and model.dinov2 give "
                f"{channels}: set both to the encoders that it was trained with"
            )
        projector, pooling = adapter.projector_config.projector, adapter.conditioning.text_pooling
    else:
        projector, pooling = config.adapter.projector, "projected"
    if pooling != manifest.text_pooling:
        raise DataError(
            f"training.dataset holds {manifest.text_pooling} text vectors, the adapter reads {pooling} ones: prepare "
            "the dataset again with the same model.adapter as in training"
        )
    if projector == "shallow":
        _check_shallow(config, manifest)


def holds_pixels(manifest: Manifest) -> bool:
    """Whether references of the dataset are encoded in training."""
    return manifest.holds("cutout")


def _check_encoders(config: Config, manifest: Manifest, vision: str) -> None:
    if manifest.encoders["base"] != base_identity(config.model.base):
        raise DataError(
            f"training.dataset was encoded by another base model than model.base {config.model.base}: set the same "
            f"one, {_AGAIN}"
        )
    if not holds_pixels(manifest) and manifest.encoders["vision"] != vision:
        raise DataError(
            "training.dataset was encoded by other vision encoders or blocks: set model.siglip, model.dinov2 and "
            f"vision as in its preparation, {_AGAIN}"
        )
    side = manifest.config.get("vision", {}).get("view_size", config.vision.view_size)
    if side != config.vision.view_size:
        raise DataError(
            f"training.dataset holds references for vision.view_size={side}, not {config.vision.view_size}: set the "
            f"same one, {_AGAIN}"
        )


def _check_curriculum(config: Config, manifest: Manifest) -> None:
    curriculum = config.training.curriculum
    moving = [name for name in ("rotation", "scale", "shift") if getattr(curriculum, name)]
    if moving and not holds_pixels(manifest):
        names = " and ".join(f"training.curriculum.{name}" for name in moving)
        raise ConfigError(
            f"{names} cannot move references of training.dataset, which holds their features: set {names} to 0, or "
            "prepare the dataset again with data.encode=latents or text"
        )


def _check_shallow(config: Config, manifest: Manifest) -> None:
    if not config.vision.siglip_shallow:
        raise ConfigError(
            "adapter.projector=shallow reads features at earlier blocks: set vision.siglip_shallow and "
            "vision.dinov2_shallow (the authors': [7, 13, 19] and [4, 10, 16])"
        )
    if not holds_pixels(manifest) and not manifest.holds("shallow"):
        raise DataError("training.dataset holds no features at earlier blocks: prepare it again with these settings")
