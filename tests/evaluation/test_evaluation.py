"""Judges and statistics: the judges must be right about real pictures before they judge drawn ones."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from components.config import PACKAGE_ROOT, load_config
from components.evaluation.statistics import bootstrap, mean
from components.evaluation.toybench import cases, mask_iou, prompts
from components.judges.judge import Judge, PromptSpec
from components.world.scenes import Rendered, Scene, SceneOptions, render, sample_scene

SHIPPED = PACKAGE_ROOT / "weights" / "tiny" / "evaluation"


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(SHIPPED, 64)


@pytest.fixture(scope="module")
def real() -> list[tuple[Scene, Rendered]]:
    rng = random.Random(77)
    options = SceneOptions(two_subjects=0, color=0, position=1)
    scenes = [sample_scene(rng, split="held_out", options=options) for _ in range(120)]
    return [(scene, render(scene, 128)) for scene in scenes]


def test_the_judge_recognises_real_pictures(judge: Judge, real: list[tuple[Scene, Rendered]]) -> None:
    wanted = [PromptSpec(s.target_word, s.place, s.position) for s, _ in real]
    checked = judge.check([r.picture for _, r in real], wanted)
    assert checked.kind.mean() > 0.95
    assert checked.place.mean() > 0.95
    assert checked.position.mean() > 0.95
    wrong = [PromptSpec("fish" if w.kind != "fish" else "car", w.place, None) for w in wanted]
    assert judge.check([r.picture for _, r in real], wrong).kind.mean() < 0.05


def test_the_judge_finds_the_subject(judge: Judge, real: list[tuple[Scene, Rendered]]) -> None:
    found = judge.subject_masks([r.picture for _, r in real])
    assert mask_iou([r.mask for _, r in real], found).mean() > 0.8


def test_the_judge_tells_identities_apart(judge: Judge) -> None:
    rng = random.Random(5)
    options = SceneOptions(two_subjects=0)
    first, second = [], []
    for _ in range(60):
        scene = sample_scene(rng, split="held_out", options=options)
        again = sample_scene(rng, scene.subjects[0].identity, "held_out", options)
        first.append(render(scene, 128).picture)
        second.append(render(again, 128).picture)
    similar = judge.identities(first) @ judge.identities(second).T
    assert (similar.argmax(1) == np.arange(60)).float().mean() > 0.8
    assert similar.diagonal().mean() > similar.mean() + 0.4


def test_prompts_and_cases_repeat_for_a_seed_and_never_show_training_identities() -> None:
    config = load_config("tiny")
    assert prompts(20, 3) == prompts(20, 3)
    assert prompts(20, 3) != prompts(20, 4)
    drawn = cases(6, 3, config)
    assert all(c.identity.split == "held_out" and c.identity.kind == c.wanted.kind for c in drawn)
    assert all(color not in c.wanted.prompt for c in drawn for color in (c.identity.primary, c.identity.secondary))
    assert {c.reference.size for c in drawn} == {(128, 128)}


def test_bootstrap_intervals_hold_the_truth_and_pair_samples() -> None:
    sample = np.random.default_rng(1).normal(0.5, 0.1, 400)
    estimate = mean(sample)
    assert estimate.low < 0.5 < estimate.high
    assert estimate.high - estimate.low < 0.04
    shifted = bootstrap(lambda a, b: float((b - a).mean()), sample, sample + 0.2)
    assert (shifted.low, shifted.high) == pytest.approx((0.2, 0.2))


def test_mask_overlap() -> None:
    left = Image.new("L", (4, 4))
    left.paste(255, (0, 0, 2, 4))
    whole = Image.new("L", (4, 4), 255)
    assert mask_iou([left, whole, left], [left, left, Image.new("L", (4, 4))]).tolist() == [1.0, 0.5, 0.0]
