"""Whether a picture shows what the service's policy refuses.

The detector that ships here is NudeNet's, of the extra ``content``: its weights come in its package (MIT). It knows
nudity and nothing else. Whatever takes a picture and says yes or no can stand in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from PIL import Image

from components.config import ContentConfig
from components.config.access import Finding
from components.errors import ConfigError, RealCustomError


class ContentError(RealCustomError):
    """A picture that the policy refuses; the message does not say for what."""


class ContentCheck(Protocol):
    """Looks at RGB pictures; several threads may ask at the same time."""

    def __call__(self, picture: Image.Image) -> bool:
        """Whether the picture may pass."""
        ...


class NudityCheck:
    """Refuses pictures on which NudeNet finds one of its classes.

    Args:
        refused: the least score, of 1, at which a class is refused.

    Raises:
        ConfigError: the extra is not installed.
    """

    def __init__(self, refused: Mapping[Finding, float]) -> None:
        try:
            from nudenet import NudeDetector
        except ImportError:
            raise ConfigError("serving.content needs the extra 'content': pip install 'realcustom[content]'") from None
        self._detector = NudeDetector()
        self._refused = {str(kind): score for kind, score in refused.items()}

    def __call__(self, picture: Image.Image) -> bool:
        found = self._detector.detect(np.asarray(picture.convert("RGB"))[..., ::-1].copy())
        return all(each["score"] < self._refused.get(each["class"], np.inf) for each in found)


def input_check(config: ContentConfig) -> ContentCheck | None:
    """What uploaded pictures have to pass, if anything."""
    return NudityCheck(config.refused) if config.inputs else None


def output_check(config: ContentConfig) -> ContentCheck | None:
    """What drawn pictures have to pass, if anything."""
    return NudityCheck(config.refused) if config.outputs else None
