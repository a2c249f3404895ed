"""How well subjects are cut out without a box: overlap with the truth in the toy world, and a sheet to look at.

::

    python -m benchmarks.cut_outs --json                        # toy world: whole subjects, busts, cut-off sides
    python -m benchmarks.cut_outs --sheet sheet.png --folder DIR  # each picture of DIR/<subject>/ beside its cut-out

Subjects that touch the border are crops of pictures whose masks are known.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from components.characters.advice import advise
from components.data.region import region_finder
from components.data.schema import Box
from components.world.scenes import Rendered, SceneOptions, render, sample_scene

#: Side of the toy pictures in pixels, and that of a tile of the sheet.
_SIDE, _TILE = 192, 160
#: Reference size of the models whose advice the sheet shows.
_REFERENCE = 768
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class Case(NamedTuple):
    """A picture, the truth about its subject, and how it is framed."""

    framing: str
    picture: Image.Image
    mask: Image.Image


def toy_cases(count: int, seed: int = 5) -> Iterator[Case]:
    """``count`` toy subjects, each in every framing of `framings`."""
    rng = random.Random(seed)
    for _ in range(count):
        drawn = render(sample_scene(rng, options=SceneOptions(two_subjects=0)), _SIDE)
        for framing, box in framings(drawn).items():
            yield Case(framing, drawn.picture.crop(box), drawn.mask.crop(box))


def framings(drawn: Rendered) -> dict[str, Box]:
    """Crops of a picture: all of it, a bust, a bust cut off at its left, and the subject cut off at its left side."""
    x0, y0, x1, y1 = drawn.subject_box
    width, height = x1 - x0, y1 - y0
    right, bottom = drawn.picture.size

    def margin(share: float) -> int:
        return max(8, round(share * max(width, height)))

    top, wide = max(0, y0 - margin(0.15)), margin(0.2)
    return {
        "whole": (0, 0, right, bottom),
        "bust": (max(0, x0 - wide), max(0, y0 - wide), min(right, x1 + wide), y0 + round(0.6 * height)),
        "close": (x0 + round(0.08 * width), top, min(right, x1 + margin(0.15)), y0 + round(0.7 * height)),
        "side": (x0 + round(0.3 * width), top, min(right, x1 + margin(0.3)), min(bottom, y1 + margin(0.15))),
    }


def overlaps(count: int, seed: int = 5) -> dict[str, list[float]]:
    """Framing -> intersection over union of the found and the true mask of each case."""
    find, found = region_finder("grabcut"), defaultdict[str, list[float]](list)
    for framing, picture, mask in toy_cases(count, seed):
        one, other = (np.asarray(each) > 127 for each in (find(picture, None), mask))
        found[framing].append(float((one & other).sum() / (one | other).sum()))
    return dict(found)


def sheet(folder: Path, each: int = 1) -> Image.Image:
    """The first ``each`` pictures of each subject's folder beside their cut-outs, with the advice on each."""
    subjects = sorted(path for path in folder.iterdir() if path.is_dir())
    pictures = [(subject, path) for subject in subjects for path in _pictures(subject)[:each]]
    columns, height = 5, _TILE + 26
    rows = -(-len(pictures) // columns)
    made = Image.new("RGB", (columns * 2 * _TILE, rows * height), "white")
    write = ImageDraw.Draw(made)
    for place, (subject, path) in enumerate(pictures):
        left, top = place % columns * 2 * _TILE, place // columns * height
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        mask = region_finder("grabcut")(picture, None)
        cut = Image.new("RGB", picture.size, "magenta")
        cut.paste(picture, mask=mask)
        for column, tile in enumerate((picture, cut)):
            tile.thumbnail((_TILE - 4, _TILE - 4))
            made.paste(tile, (left + column * _TILE, top))
        advice = advise(picture, mask.resize(picture.size), _REFERENCE).sentences
        told = [sentence.split(":")[0] for sentence in advice if "background" in sentence]
        write.text((left, top + _TILE), f"{subject.name} {mask_share(mask):.0%}", "black")
        write.text((left, top + _TILE + 12), "; ".join(told)[:48], "black")
    return made


def mask_share(mask: Image.Image) -> float:
    """The share of the picture that a mask covers."""
    return float((np.asarray(mask) > 127).mean())


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50, help="toy subjects, each in four framings")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the pictures in --folder")
    parser.add_argument("--folder", type=Path, help="a folder of pictures for each subject, such as DreamBench's")
    asked = parser.parse_args()
    if asked.sheet is not None:
        if asked.folder is None:
            parser.error("--sheet needs --folder")
        sheet(asked.folder).save(asked.sheet)
        return
    found = overlaps(asked.count, asked.seed)
    means = {framing: round(float(np.mean(values)), 3) for framing, values in found.items()}
    means["all"] = round(float(np.mean([value for values in found.values() for value in values])), 3)
    if asked.json:
        print(json.dumps({"iou": means}))
    else:
        print("\n".join(f"{framing:6} {value:.3f}" for framing, value in means.items()))


if __name__ == "__main__":
    main()
