"""Face detection: the box that separates a reference's face group from its body group.

Detection needs the extra ``faces``: NudeNet's detector, whose weights ship in its package (MIT). Only
its face classes are used.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from components.errors import ConfigError

Box = tuple[int, int, int, int]

_FACES = ("FACE_FEMALE", "FACE_MALE")


class FaceDetector:
    """Finds the largest face of an image.

    Args:
        threshold: least score, of 1, of a face.

    Raises:
        ConfigError: the extra is not installed.
    """

    def __init__(self, threshold: float = 0.35) -> None:
        try:
            from nudenet import NudeDetector
        except ImportError:
            raise ConfigError("face detection needs the extra 'faces': pip install -e '.[faces]'") from None
        self._detector, self.threshold = NudeDetector(), threshold

    def __call__(self, picture: Image.Image) -> Box | None:
        """The largest face, as x0, y0, x1, y1 in pixels, or None."""
        found = self._detector.detect(np.asarray(picture.convert("RGB"))[..., ::-1].copy())
        boxes = [f["box"] for f in found if f["class"] in _FACES and f["score"] >= self.threshold]
        if not boxes:
            return None
        left, top, width, height = max(boxes, key=lambda box: box[2] * box[3])
        return (
            max(0, int(left)),
            max(0, int(top)),
            min(picture.width, int(left + width)),
            min(picture.height, int(top + height)),
        )
