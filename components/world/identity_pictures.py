"""The pictures of an identity, each in another scene, as files and rows.

Imported by worker processes, so nothing heavy is imported here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.world.identities import Identity
from components.world.scenes import render, sample_scene


@dataclass(frozen=True)
class IdentityPictures:
    """One identity to draw ``count`` times at ``size`` pixels; ``seed`` determines the scenes."""

    number: int
    identity: Identity
    count: int
    size: int
    seed: int


def write_identity_pictures(job: IdentityPictures, root: Path) -> list[dict[str, Any]]:
    """Write the pictures and masks of ``job`` below ``root`` and return one row each (paths relative to ``root``)."""
    rng = random.Random(job.seed)
    names = [f"{job.number:05d}-{page}.png" for page in range(job.count)]
    rows = []
    for name in names:
        scene = sample_scene(rng, job.identity, job.identity.split)
        drawn = render(scene, job.size)
        drawn.picture.save(root / "images" / name)
        drawn.mask.save(root / "masks" / name)
        rows.append(
            {
                "image": f"images/{name}",
                "caption": scene.caption,
                "word": scene.target_word,
                "mask": f"masks/{name}",
                "box": drawn.subject_box,
                "head_box": drawn.head_box,
                "group": job.identity.key,
                "place": scene.place,
                "position": scene.position,
                "references": [f"images/{other}" for other in names if other != name],
            }
        )
    return rows
