"""The pictures of an identity: rows of a dataset whose captions do not describe it, and references."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from components.cut_outs import cut_out
from components.files import replacing
from components.progress import track
from components.world.storybook.captions import caption_of
from components.world.storybook.identities import Identity, Split, sample_identity
from components.world.storybook.scenes import SIZE, SceneOptions, render, sample_scene

PAIRS = "pairs.jsonl"
#: Number of identities from which worker processes are faster.
_WORTH_WORKERS = 200


@dataclass(frozen=True)
class IdentityPictures:
    """One identity to draw ``count`` times; ``seed`` determines the scenes."""

    number: int
    identity: Identity
    count: int
    seed: int


def write_dataset(output: Path, identities: int, pictures: int, seed: int, split: Split = "train") -> Path:
    """Draw ``identities`` of ``split``, ``pictures`` times each, into ``output``, which is written atomically.

    It holds ``images/*.png``, ``masks/*.png`` (255 on the first subject) and ``pairs.jsonl``, one row a picture: image,
    caption (never a colour), word, mask, box, head_box (null without a head), group (the identity), place, style,
    position and size (null with several subjects), action, expression, modifier, and references (the identity's other
    pictures). Paths are relative to the file.
    """
    rng = random.Random(seed)
    distinct: dict[Identity, None] = {}
    while len(distinct) < identities:
        distinct.setdefault(sample_identity(rng, split))
    jobs = [IdentityPictures(n, identity, pictures, seed * 1_000_003 + n) for n, identity in enumerate(distinct)]
    with replacing(output) as staging, ExitStack() as stack:
        for folder in ("images", "masks"):
            (staging / folder).mkdir()
        draw = partial(write_identity_pictures, root=staging)
        pages: Iterable[list[dict[str, Any]]] = map(draw, jobs)
        if len(jobs) >= _WORTH_WORKERS:
            pool = stack.enter_context(ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")))
            pages = pool.map(draw, jobs, chunksize=16)
        with (staging / PAIRS).open("w") as pairs:
            for rows in track(pages, "draw", len(jobs)):
                pairs.writelines(json.dumps(row) + "\n" for row in rows)
    return output


def write_identity_pictures(job: IdentityPictures, root: Path) -> list[dict[str, Any]]:
    """Write the pictures and masks of ``job`` below ``root`` and return one row each."""
    cv2.setNumThreads(1)
    rng = random.Random(job.seed)
    names = [f"{job.number:05d}-{page}.png" for page in range(job.count)]
    rows = []
    for name in names:
        scene = sample_scene(rng, job.identity, job.identity.split)
        drawn = render(scene)
        Image.fromarray(drawn.picture).save(root / "images" / name)
        Image.fromarray(drawn.masks[0].astype(np.uint8) * 255).save(root / "masks" / name)
        act = scene.subjects[0].act
        rows.append(
            {
                "image": f"images/{name}",
                "caption": caption_of(scene, rng),
                "word": job.identity.kind,
                "mask": f"masks/{name}",
                "box": drawn.boxes[0],
                "head_box": drawn.head_boxes[0],
                "group": job.identity.key,
                "place": scene.place,
                "style": scene.style,
                "position": scene.position,
                "size": scene.size,
                "action": act.action,
                "expression": act.expression,
                "modifier": act.modifier,
                "references": [f"images/{other}" for other in names if other != name],
            }
        )
    return rows


def draw_reference(identity: Identity, size: int, rng: random.Random) -> Image.Image:
    """A picture of ``identity`` in a random act, style and place: cut out on white, or cropped with background."""
    scene = sample_scene(rng, identity, identity.split, SceneOptions(several=0))
    drawn = render(scene, 2 * SIZE)
    picture = Image.fromarray(drawn.picture)
    if rng.random() < 0.5:
        return cut_out(picture, Image.fromarray(drawn.masks[0].astype(np.uint8) * 255), size)
    x0, y0, x1, y1 = drawn.boxes[0]
    side = min(2 * SIZE, round(max(x1 - x0, y1 - y0) * rng.uniform(1.05, 1.5)))
    left, top = (min(max(round((low + high - side) / 2), 0), 2 * SIZE - side) for low, high in ((x0, x1), (y0, y1)))
    return picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
