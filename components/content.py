"""Content policy: whether an image may be accepted or returned.

The detector is NudeNet's, of the extra ``content``, whose weights ship in its package (MIT). It detects nudity only.
Any other `ContentCheck` can replace it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from PIL import Image

from components.config import ContentConfig
from components.config.access import Finding
from components.errors import ConfigError, RealCustomError


class ContentError(RealCustomError):
    """The policy refuses the image; the message does not say why."""


class ContentCheck(Protocol):
    """Checks RGB images; may be called from several threads at the same time."""

    def __call__(self, picture: Image.Image) -> bool:
        """Whether the policy accepts the image."""
        ...


class NudityCheck:
    """Refuses images in which NudeNet finds one of the given classes.

    Args:
        refused: the least score, of 1, at which a class is refused.

    Raises:
        ConfigError: the extra is not installed.
    """

    def __init__(self, refused: Mapping[Finding, float]) -> None:
        try:
            from nudenet import NudeDetector
        except ImportError:
            raise ConfigError("serving.content needs the extra 'content': pip install -e '.[content]'") from None
        self._detector = NudeDetector()
        self._refused = {str(kind): score for kind, score in refused.items()}

    def __call__(self, picture: Image.Image) -> bool:
        found = self._detector.detect(np.asarray(picture.convert("RGB"))[..., ::-1].copy())
        return all(each["score"] < self._refused.get(each["class"], np.inf) for each in found)


def blacken_refused(images: Any, check: ContentCheck) -> tuple[Any, list[bool]]:
    """Images with black in place of those that ``check`` refuses, and which these are.

    Args:
        images: PIL images, an array [b, h, w, 3] or a tensor [b, 3, h, w], the latter two in [0, 1].
    """
    if isinstance(images, list):
        refused = [not check(image) for image in images]
        black = [Image.new("RGB", image.size) if no else image for image, no in zip(images, refused, strict=True)]
        return black, refused
    pixels = images if isinstance(images, np.ndarray) else images.permute(0, 2, 3, 1).float().cpu().numpy()
    refused = [not check(Image.fromarray((image * 255).round().astype(np.uint8))) for image in pixels]
    for index, no in enumerate(refused):
        if no:
            images[index] = 0
    return images, refused


def input_check(config: ContentConfig) -> ContentCheck | None:
    """The check of uploaded images, if one is configured."""
    return NudityCheck(config.refused) if config.inputs else None


def output_check(config: ContentConfig) -> ContentCheck | None:
    """The check of generated images, if one is configured."""
    return NudityCheck(config.refused) if config.outputs else None
