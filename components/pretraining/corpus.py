"""The training data of the miniature, in memory: toy-world scenes, and several views of identities."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np

from components.world.identities import Split, sample_identity
from components.world.scenes import SceneOptions, draw_reference, render, sample_scene

logger = logging.getLogger(__name__)
_CHUNK = 250
Job = TypeVar("Job")
Drawn = TypeVar("Drawn")


@dataclass(frozen=True)
class SceneFacts:
    """The ground truth of a scene."""

    caption: str
    kind: str
    place: str
    position: str | None
    identity: str
    subjects: int


@dataclass(frozen=True)
class Scenes:
    """``pictures`` uint8 [n, s, s, 3], ``masks`` bool [n, s, s] of the first subject, one `SceneFacts` a picture."""

    pictures: np.ndarray
    masks: np.ndarray
    facts: list[SceneFacts]


@dataclass(frozen=True)
class Views:
    """Cut-outs of identities on white: ``pictures`` uint8 [n, views, s, s, 3] and the ``kinds`` of the n identities."""

    pictures: np.ndarray
    kinds: list[str]


def scenes(count: int, size: int, seed: int, split: Split, cache: Path | None = None) -> Scenes:
    """Draw ``count`` scenes, or read them from ``cache``."""
    if cache and (cache / "facts.json").exists():
        facts = [SceneFacts(**row) for row in json.loads((cache / "facts.json").read_text())]
        return Scenes(np.load(cache / "pictures.npy"), np.load(cache / "masks.npy"), facts)
    parts = _parallel(_draw_scenes, [(size, seed + i, split) for i in range(0, count, _CHUNK)])
    pictures = np.concatenate([p for p, _, _ in parts])[:count]
    masks = np.concatenate([m for _, m, _ in parts])[:count]
    facts = [f for _, _, fs in parts for f in fs][:count]
    if cache:
        cache.mkdir(parents=True, exist_ok=True)
        np.save(cache / "pictures.npy", pictures)
        np.save(cache / "masks.npy", masks)
        (cache / "facts.json").write_text(json.dumps([asdict(f) for f in facts]))
    return Scenes(pictures, masks, facts)


def views(count: int, per_identity: int, size: int, seed: int, split: Split, cache: Path | None = None) -> Views:
    """Draw ``count`` identities ``per_identity`` times each."""
    if cache and (cache / "kinds.json").exists():
        return Views(np.load(cache / "pictures.npy"), json.loads((cache / "kinds.json").read_text()))
    parts = _parallel(_draw_views, [(per_identity, size, seed + i, split) for i in range(0, count, _CHUNK)])
    drawn = Views(np.concatenate([p for p, _ in parts])[:count], [k for _, ks in parts for k in ks][:count])
    if cache:
        cache.mkdir(parents=True, exist_ok=True)
        np.save(cache / "pictures.npy", drawn.pictures)
        (cache / "kinds.json").write_text(json.dumps(drawn.kinds))
    return drawn


def _draw_scenes(job: tuple[int, int, Split]) -> tuple[np.ndarray, np.ndarray, list[SceneFacts]]:
    size, seed, split = job
    rng = random.Random(seed)
    pictures, masks, facts = [], [], []
    for _ in range(_CHUNK):
        scene = sample_scene(rng, split=split, options=SceneOptions())
        drawn = render(scene, size)
        first = scene.subjects[0]
        pictures.append(np.asarray(drawn.picture))
        masks.append(np.asarray(drawn.mask) > 127)
        facts.append(
            SceneFacts(
                scene.caption, scene.target_word, scene.place, scene.position, first.identity.key, len(scene.subjects)
            )
        )
    return np.stack(pictures), np.stack(masks), facts


def _draw_views(job: tuple[int, int, int, Split]) -> tuple[np.ndarray, list[str]]:
    per_identity, size, seed, split = job
    rng = random.Random(seed)
    rows, kinds = [], []
    for _ in range(_CHUNK):
        identity = sample_identity(rng, split)
        rows.append(np.stack([np.asarray(draw_reference(identity, size, rng)) for _ in range(per_identity)]))
        kinds.append(identity.kind)
    return np.stack(rows), kinds


def _parallel(function: Callable[[Job], Drawn], jobs: Sequence[Job]) -> list[Drawn]:
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        return list(pool.map(function, jobs))
