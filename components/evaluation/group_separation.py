"""Separability of face and body strength: heads and bodies are scored separately, with either strength at 0."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from components.config import Config
from components.cut_outs import clip_mask, frame_of
from components.evaluation.statistics import Estimate, mean
from components.evaluation.toybench import generate_images
from components.judges.judge import Judge
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.world.identities import sample_identity
from components.world.places import PLACES
from components.world.scenes import SceneOptions, draw_reference_picture, render, sample_scene, write_caption

#: Kinds with the head above the body, and the head's share of the height.
UPRIGHT = ("cat", "rabbit", "robot")
HEAD_SHARE = 0.45
#: (face strength, body strength) by name.
SETTINGS = {"both": (1.0, 1.0), "no face": (0.0, 1.0), "no body": (1.0, 0.0)}


@dataclass(frozen=True)
class GroupScores:
    """Similarity of head and body to real images, by setting, and the drop of each part without a group.

    A drop is the paired difference between both strengths at 1 and the group's strength at 0.
    """

    head: dict[str, Estimate]
    body: dict[str, Estimate]
    head_drop: dict[str, Estimate]
    body_drop: dict[str, Estimate]


def score_groups(pipeline: RealCustomPipeline, judge: Judge, config: Config, count: int, seed: int) -> GroupScores:
    """Generate ``count`` held-out identities three times each, with the same seeds."""
    rng = random.Random(seed)
    plain = SceneOptions(two_subjects=0, color=0)
    prompts, subjects, real = [], [], []
    for index in range(count):
        identity = sample_identity(rng, "held_out", UPRIGHT[index % len(UPRIGHT)])
        reference = draw_reference_picture(identity, pipeline.reference_size, rng)
        prompts.append(write_caption(identity.kind, rng.choice(sorted(PLACES))))
        face = pipeline.face_group([reference.face])
        subjects.append((pipeline.encode_subject([reference.picture]), identity.kind, face))
        scenes = [sample_scene(rng, identity, "held_out", plain) for _ in range(2)]
        real.append([render(scene, config.world.picture_size).picture for scene in scenes])
    generated = {
        name: generate_images(
            pipeline,
            config,
            prompts,
            range(seed, seed + count),
            [Subject(t, w, face=f, face_strength=fs, body_strength=bs) for t, w, f in subjects],
            name,
        )[0]
        for name, (fs, bs) in SETTINGS.items()
    }
    scores = {
        part: {name: _similarity(judge, pictures, real, part) for name, pictures in generated.items()}
        for part in ("head", "body")
    }
    drops = {
        part: {name: mean(by["both"] - by[name]) for name in SETTINGS if name != "both"} for part, by in scores.items()
    }
    estimates = {part: {name: mean(values) for name, values in by.items()} for part, by in scores.items()}
    return GroupScores(estimates["head"], estimates["body"], drops["head"], drops["body"])


def _similarity(judge: Judge, pictures: list[Image.Image], real: list[list[Image.Image]], part: str) -> np.ndarray:
    """Mean cosine [b] of each image's head (or body) to those of the real images."""
    ours = _embed(judge, pictures, part)
    views = [_embed(judge, [r[i] for r in real], part) for i in range(len(real[0]))]
    return torch.stack([(ours * view).sum(1) for view in views]).mean(0).numpy()


def _embed(judge: Judge, pictures: list[Image.Image], part: str) -> Tensor:
    masks = judge.subject_masks(pictures)
    halves = [_half(mask, part) for mask in masks]
    return judge.embed_under(pictures, halves, [frame_of(mask) for mask in masks])


def _half(mask: Image.Image, part: str) -> Image.Image:
    """The upper or lower part of a mask, split at `HEAD_SHARE`."""
    left, top, right, bottom = mask.getbbox() or (0, 0, *mask.size)
    edge = round(top + HEAD_SHARE * (bottom - top))
    box = (left, top, right, edge) if part == "head" else (left, edge, right, bottom)
    return clip_mask(mask, box)
