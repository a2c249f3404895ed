"""Places: smooth, clearly different backgrounds that captions describe."""

from __future__ import annotations

import random

from PIL import Image, ImageDraw, ImageFilter

#: Place -> the words that describe it in a caption.
PLACES: dict[str, str] = {
    "beach": "on the beach",
    "meadow": "in a meadow",
    "snow": "in the snow",
    "night": "at night",
    "desert": "in the desert",
    "sea": "under the sea",
    "room": "in a room",
    "road": "on a road",
}

# Colours (top of the sky, bottom of the sky, ground).
_TONES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]] = {
    "beach": ((142, 204, 240), (206, 234, 246), (236, 214, 160)),
    "meadow": ((150, 208, 246), (206, 234, 250), (140, 200, 110)),
    "snow": ((176, 190, 210), (214, 222, 234), (238, 243, 250)),
    "night": ((16, 20, 54), (38, 40, 92), (30, 44, 58)),
    "desert": ((250, 196, 140), (252, 226, 176), (216, 150, 92)),
    "sea": ((64, 178, 190), (30, 118, 156), (188, 196, 150)),
    "room": ((238, 218, 206), (230, 206, 192), (164, 118, 88)),
    "road": ((190, 196, 200), (214, 218, 220), (104, 106, 114)),
}


def draw_place(place: str, size: int, rng: random.Random) -> Image.Image:
    """Draw ``place`` as a ``size`` x ``size`` RGB picture; ``rng`` varies the horizon and details."""
    scale = 2 * size / 128
    top, bottom, ground = _TONES[place]
    gradient = Image.new("RGB", (1, 2))
    gradient.putpixel((0, 0), top)
    gradient.putpixel((0, 1), bottom)
    picture = gradient.resize((2 * size, 2 * size), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    horizon = (rng.uniform(0.84, 0.9) if place == "sea" else rng.uniform(0.56, 0.68)) * 2 * size
    draw.rectangle([0, horizon, 2 * size, 2 * size], fill=ground)

    def at(x: float, y: float, rx: float, ry: float) -> list[float]:
        return [(x - rx) * scale, (y - ry) * scale, (x + rx) * scale, (y + ry) * scale]

    side = rng.choice((16, 112))
    if place == "beach":
        draw.rectangle([0, horizon - 16 * scale, 2 * size, horizon], fill=(70, 150, 206))
    elif place == "meadow":
        draw.ellipse(at(128 - side, horizon / scale + 2, 44, 14), fill=(122, 186, 98))
    elif place == "night":
        draw.ellipse(at(side, 14, 8, 8), fill=(246, 240, 200))
    elif place == "desert":
        draw.ellipse(at(side, 18, 11, 11), fill=(250, 240, 190))
    elif place == "snow":
        draw.ellipse(at(side, horizon / scale + 4, 40, 14), fill=ground)
    elif place == "room":
        draw.rectangle([0, horizon - 4 * scale, 2 * size, horizon], fill=(250, 244, 238))
    elif place == "road":
        draw.rectangle([0, 2 * size - 14 * scale, 2 * size, 2 * size - 8 * scale], fill=(240, 226, 140))
    elif place == "sea":
        for _ in range(3):
            x, y, r = rng.uniform(6, 122), rng.uniform(6, 80), rng.uniform(2.5, 4.5)
            draw.ellipse(at(x, y, r, r), fill=(140, 214, 220))
    return picture.filter(ImageFilter.BoxBlur(1)).resize((size, size), Image.Resampling.BOX)
