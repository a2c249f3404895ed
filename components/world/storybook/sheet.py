"""Image grids of the storybook world, for the documentation.

python -m components.world.storybook.sheet docs/images
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from PIL import Image

from components.pictures import rows_of_pictures
from components.world.storybook.attributes import ACTIONS, STYLES
from components.world.storybook.characters import Act
from components.world.storybook.identities import CHARACTERS, sample_identity
from components.world.storybook.scenes import SceneOptions, render, sample_scene


def scenes_sheet(seed: int = 3, rows: int = 4, columns: int = 8) -> Image.Image:
    """A grid of training scenes."""
    rng = random.Random(seed)
    drawn = [[Image.fromarray(render(sample_scene(rng)).picture) for _ in range(columns)] for _ in range(rows)]
    return rows_of_pictures(drawn)


def acts_sheet(seed: int = 4) -> Image.Image:
    """Two identities, every style in a row and every action in a column."""
    rng = random.Random(seed)
    rows, labels = [], []
    for kind in rng.sample(CHARACTERS, 2):
        identity = sample_identity(rng, kind=kind)
        for style in STYLES:
            options = [SceneOptions(several=0, style=style, act=Act(action)) for action in ACTIONS]
            rows.append([Image.fromarray(render(sample_scene(rng, identity, options=o)).picture) for o in options])
            labels.append(f"{kind}, {style}")
    return rows_of_pictures(rows, labels=labels, captions=ACTIONS)


def main() -> None:
    folder = Path(sys.argv[1])
    scenes_sheet().save(folder / "storybook.png", optimize=True)
    acts_sheet().save(folder / "storybook_acts.png", optimize=True)


if __name__ == "__main__":
    main()
