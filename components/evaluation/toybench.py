"""ToyBench: subject similarity and text control in the toy world, where the ground truth is known."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from components.config import Config
from components.evaluation.statistics import Estimate, bootstrap, mean
from components.judges.judge import Judge, PromptSpec
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.progress import track
from components.world.identities import KINDS, Identity, sample_identity
from components.world.places import PLACES
from components.world.scenes import POSITIONS, SceneOptions, draw_reference, render, sample_scene


@dataclass(frozen=True)
class Case:
    """A held-out identity, a prompt that does not describe it, a reference, and real images of it."""

    identity: Identity
    wanted: PromptSpec
    reference: Image.Image
    real: list[Image.Image]
    seed: int


@dataclass(frozen=True)
class TextScores:
    """Shares of images without a subject that show the right kind, place and position."""

    kind: Estimate
    place: Estimate
    position: Estimate


@dataclass(frozen=True)
class Measured:
    """One value for each case, [count]; `SubjectScores` summarises them."""

    stock_similarity: np.ndarray
    similarity: np.ndarray
    real_similarity: np.ndarray
    stock_control: np.ndarray
    control: np.ndarray
    mask_iou: np.ndarray


@dataclass(frozen=True)
class SubjectScores:
    """Similarity and text control of the base model (stock), of the method, and of real images (upper bound).

    ``gain_share`` is the method's similarity on a scale of 0 (stock) to 1 (real); ``control_drop`` is in percentage
    points.
    """

    stock_similarity: Estimate
    similarity: Estimate
    real_similarity: Estimate
    gain_share: Estimate
    stock_control: Estimate
    control: Estimate
    control_drop: Estimate
    mask_iou: Estimate


def prompts(count: int, seed: int) -> list[PromptSpec]:
    """Random prompts of kinds, places and, in half of them, positions."""
    rng = random.Random(seed)
    return [
        PromptSpec(
            rng.choice(KINDS),
            rng.choice(sorted(PLACES)),
            rng.choice(sorted(POSITIONS)) if rng.random() < 0.5 else None,
        )
        for _ in range(count)
    ]


def cases(count: int, seed: int, config: Config) -> list[Case]:
    """``count`` held-out identities, each with its own prompt."""
    rng = random.Random(seed)
    test_cases = []
    for index, wanted in enumerate(prompts(count, seed + 1)):
        identity = sample_identity(rng, "held_out", wanted.kind)
        plain = SceneOptions(two_subjects=0, color=0)
        real = [render(sample_scene(rng, identity, "held_out", plain), config.world.picture_size) for _ in range(3)]
        reference = draw_reference(identity, 2 * config.vision.view_size, rng)
        test_cases.append(Case(identity, wanted, reference, [r.picture for r in real], seed + index))
    return test_cases


def subjects_of(pipeline: RealCustomPipeline, test_cases: Sequence[Case]) -> list[Subject]:
    """The subjects of the cases: their references with the words of their prompts."""
    return [Subject(pipeline.encode_subject([case.reference]), case.wanted.kind) for case in test_cases]


def generate_images(
    pipeline: RealCustomPipeline,
    config: Config,
    prompts: Sequence[str],
    seeds: Sequence[int],
    subjects: Sequence[Subject] | None = None,
    description: str = "generate",
) -> tuple[list[Image.Image], list[Image.Image]]:
    """One image for each prompt, with its subject if ``subjects`` are given; returns images and influence masks."""
    pictures: list[Image.Image] = []
    masks: list[Image.Image] = []
    for rows in track(list(_chunks(len(prompts), config.evaluation.batch_size)), description):
        output = pipeline(
            [prompts[i] for i in rows],
            subjects=None if subjects is None else [[subjects[i]] for i in rows],
            **config.sampling.arguments,
            generator=[torch.Generator().manual_seed(seeds[i]) for i in rows],
        )
        pictures += output.images
        masks += [own[0] for own in output.masks or []]
    return pictures, masks


class SubjectSimilarity:
    """Measures the similarity of images of `cases` to their identities.

    It is the mean cosine of an image's identity vector to those of two real images, masked to the subject.
    """

    def __init__(self, judge: Judge, test_cases: Sequence[Case]) -> None:
        self._judge = judge
        self._truth = [torch.stack([judge.identities([case.real[i]])[0] for i in (0, 1)]) for case in test_cases]

    def __call__(self, pictures: list[Image.Image]) -> np.ndarray:
        """One value for each case, [count]."""
        vectors = self._judge.identities(pictures)
        return np.array([float((t @ v).mean()) for t, v in zip(self._truth, vectors, strict=True)])


def score_text(pipeline: RealCustomPipeline, judge: Judge, config: Config, count: int, seed: int) -> TextScores:
    """Text control of the base model, over ``count`` prompts."""
    wanted = prompts(count, seed)
    texts = [w.prompt for w in wanted]
    pictures, _ = generate_images(pipeline, config, texts, range(seed, seed + count), description="text only")
    checked = judge.check(pictures, wanted)
    has_position = np.array([w.position is not None for w in wanted])
    return TextScores(*(mean(v.astype(float)) for v in (checked.kind, checked.place, checked.position[has_position])))


def measure_subjects(pipeline: RealCustomPipeline, judge: Judge, config: Config, count: int, seed: int) -> Measured:
    """The base model and the method with the same prompts and seeds, over ``count`` held-out identities."""
    test_cases = cases(count, seed, config)
    wanted, seeds = [c.wanted for c in test_cases], [c.seed for c in test_cases]
    texts = [w.prompt for w in wanted]
    stock, _ = generate_images(pipeline, config, texts, seeds, description="stock")
    ours, masks = generate_images(pipeline, config, texts, seeds, subjects_of(pipeline, test_cases), "with the subject")
    similarity = SubjectSimilarity(judge, test_cases)
    return Measured(
        stock_similarity=similarity(stock),
        similarity=similarity(ours),
        real_similarity=similarity([c.real[2] for c in test_cases]),
        stock_control=judge.check(stock, wanted).text_control,
        control=judge.check(ours, wanted).text_control,
        mask_iou=mask_iou(masks, judge.subject_masks(ours)),
    )


def score_subjects(pipeline: RealCustomPipeline, judge: Judge, config: Config, count: int, seed: int) -> SubjectScores:
    """The summary of `measure_subjects`."""
    found = measure_subjects(pipeline, judge, config, count, seed)
    stock, ours, real = found.stock_similarity, found.similarity, found.real_similarity
    return SubjectScores(
        stock_similarity=mean(stock),
        similarity=mean(ours),
        real_similarity=mean(real),
        gain_share=bootstrap(lambda s, o, r: float((o - s).mean() / (r - s).mean()), stock, ours, real),
        stock_control=mean(found.stock_control),
        control=mean(found.control),
        control_drop=bootstrap(lambda s, o: float((s - o).mean() * 100), found.stock_control, found.control),
        mask_iou=mean(found.mask_iou),
    )


def mask_iou(influence: list[Image.Image], subject: list[Image.Image]) -> np.ndarray:
    """Intersection over union of each influence mask and the subject that the judge segments, [b]."""
    scores = []
    for ours, theirs in zip(influence, subject, strict=True):
        a, b = np.asarray(ours.resize(theirs.size)) > 25, np.asarray(theirs) > 127
        scores.append((a & b).sum() / max(1, (a | b).sum()))
    return np.array(scores)


def _chunks(count: int, size: int) -> Iterator[range]:
    for start in range(0, count, size):
        yield range(start, min(count, start + size))
