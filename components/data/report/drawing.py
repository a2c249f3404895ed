"""Images of an HTML page: thumbnails as data URIs, with outlines and boxes as SVG overlays."""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

#: Sides of thumbnails in pixels: large and small ones.
LARGE, SMALL = 320, 160
_QUALITY = 78
#: Maximum distance of an outline from the mask's edge, as a share of the picture's longer side; maximum of parts.
_SLACK, _PARTS = 0.004, 12

#: x0, y0, x1, y1 as shares of the picture's width and height.
Share = tuple[float, float, float, float]


class Thumbnail(NamedTuple):
    """A data URI of an image, and its size in pixels."""

    uri: str
    width: int
    height: int


def thumbnail(picture: Image.Image, side: int) -> Thumbnail:
    """``picture`` with its longer side at most ``side`` pixels."""
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=_QUALITY)
    return Thumbnail(f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", *small.size)


def outline(mask: Image.Image) -> str:
    """The edge of ``mask`` (L, 255 on the subject) as an SVG path in a view box of 100 x 100; empty without one."""
    pixels = (np.asarray(mask) > 127).astype(np.uint8)
    # Padded, so that the border of the picture is an edge, too.
    contours, _ = cv2.findContours(np.pad(pixels, 1), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = sorted(contours, key=cv2.contourArea, reverse=True)[:_PARTS]
    paths = [cv2.approxPolyDP(contour, _SLACK * max(mask.size), closed=True)[:, 0] for contour in largest]
    scale = np.asarray([100 / mask.width, 100 / mask.height])
    # Contours run through the centres of pixels.
    points = [np.clip((path - 0.5) * scale, 0, 100) for path in paths if len(path) > 2]
    return " ".join("M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in path) + "Z" for path in points)


def extent(mask: Image.Image) -> Share | None:
    """The box around the white of ``mask`` (L); None when there is none."""
    box = mask.point(lambda value: 255 if value > 127 else 0).getbbox()
    return None if box is None else share(box, mask.size)


def share(box: tuple[float, float, float, float], size: tuple[int, int]) -> Share:
    """``box`` in pixels of a picture of ``size`` as shares of it."""
    return box[0] / size[0], box[1] / size[1], box[2] / size[0], box[3] / size[1]
