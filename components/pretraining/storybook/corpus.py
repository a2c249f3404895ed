"""Pictures of the storybook world in memory, with their captions and scenes, drawn by several processes."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import cv2
import numpy as np

from components.world.storybook.captions import caption_of
from components.world.storybook.identities import Split
from components.world.storybook.scenes import SIZE, Scene, render, sample_scene

_CHUNK = 500


@dataclass(frozen=True)
class LabelledPictures:
    """``pixels`` uint8 [n, s, s, 3], ``subjects`` bool [n, s, s], one caption and one scene each."""

    pixels: np.ndarray
    subjects: np.ndarray
    captions: list[str]
    scenes: list[Scene]

    def __len__(self) -> int:
        return len(self.scenes)


def draw_pictures(
    count: int, seed: int, split: Split = "train", colors: float = 0.5, processes: int = 1
) -> LabelledPictures:
    """Draw ``count`` scenes of ``split``; a share of ``colors`` of the captions mentions the subjects' colours."""
    jobs = [(min(_CHUNK, count - start), seed * 1_000_003 + start, split, colors) for start in range(0, count, _CHUNK)]
    if processes > 1:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            parts = list(pool.map(_draw, jobs))
    else:
        parts = [_draw(job) for job in jobs]
    return LabelledPictures(
        np.concatenate([p.pixels for p in parts]),
        np.concatenate([p.subjects for p in parts]),
        [caption for p in parts for caption in p.captions],
        [scene for p in parts for scene in p.scenes],
    )


def _draw(job: tuple[int, int, Split, float]) -> LabelledPictures:
    count, seed, split, colors = job
    cv2.setNumThreads(1)
    rng = random.Random(seed)
    pixels = np.empty((count, SIZE, SIZE, 3), np.uint8)
    subjects = np.empty((count, SIZE, SIZE), bool)
    captions, scenes = [], []
    for row in range(count):
        scene = sample_scene(rng, split=split)
        drawn = render(scene)
        pixels[row], subjects[row] = drawn.picture, drawn.masks.any(0)
        captions.append(caption_of(scene, rng, colors))
        scenes.append(scene)
    return LabelledPictures(pixels, subjects, captions, scenes)
