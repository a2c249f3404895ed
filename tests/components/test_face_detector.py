"""A face on a photograph is found, and its tokens form the face group."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest
from PIL import Image

from components.errors import ConfigError
from components.face_detector import FaceDetector
from components.model.face_tokens import face_tokens

PORTRAIT = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


def test_the_face_of_a_portrait_is_found() -> None:
    pytest.importorskip("nudenet", reason="the extra 'faces' is not installed")
    picture = Image.open(PORTRAIT)
    box = FaceDetector()(picture)
    assert box is not None
    x0, y0, x1, y1 = box
    assert x0 < 260 < x1 and y0 < 230 < y1, "the nose lies in the face"
    assert 100 < x1 - x0 < 260 and 130 < y1 - y0 < 300
    assert FaceDetector()(Image.new("RGB", (200, 200), "green")) is None
    shares = face_tokens(tuple(float(v) for v in box), picture.width, 16).float().mean()  # type: ignore[arg-type]
    assert 0.05 < shares < 0.3


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nudenet", None)
    with pytest.raises(ConfigError, match=r"'\.\[faces\]"):
        FaceDetector()
