"""The trade-off between subject similarity and text control: RealCustom and other methods on the same weights.

The paper claims that limiting *where* a subject acts removes the trade-off. All methods are measured on the same
held-out identities, prompts and seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from components.config import Config, GuidanceConfig
from components.evaluation.inversion import Inversion, pseudo_word
from components.evaluation.statistics import Estimate, bootstrap, mean
from components.evaluation.toybench import Case, SubjectSimilarity, cases, generate_images, mask_iou, subjects_of
from components.judges.judge import Judge
from components.model.pipeline import RealCustomPipeline
from components.progress import track

#: Family name of our method.
OURS = "RealCustom"


@dataclass(frozen=True)
class Method:
    """A method: its family, its name, and its settings.

    ``guidance`` None generates without the adapter: with the base model, or by pseudo-word. ``adapter`` is the
    directory of another adapter than the pipeline's.
    """

    family: str
    name: str
    guidance: GuidanceConfig | None = None
    inversion: Inversion | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class Point:
    """The scores of a method, and its paired differences to ours at its defaults (positive: ours is better)."""

    method: Method
    similarity: Estimate
    control: Estimate
    similarity_lost: Estimate
    control_lost: Estimate
    mask_iou: Estimate | None

    @property
    def dominates_ours(self) -> bool:
        """Whether it is significantly better than ours in one score, and not worse in the other."""
        better = self.similarity_lost.high < 0 or self.control_lost.high < 0
        return better and self.similarity_lost.value <= 0 and self.control_lost.value <= 0


def methods(guidance: GuidanceConfig, inversion: Inversion) -> list[Method]:
    """All compared methods; ours with ``guidance`` is the first.

    A uniform influence everywhere corresponds to IP-Adapter.
    """
    everywhere = guidance.model_copy(update={"scope": 1.0, "binary": True})
    found = [Method(OURS, "as configured", guidance), Method("without a subject", "stock")]
    scopes = (0.1, 0.2, 0.3, 0.4, 0.5)
    found += [Method("scope", f"{scope}", guidance.model_copy(update={"scope": scope})) for scope in scopes]
    found += [Method("strength", f"{q}", guidance.model_copy(update={"quantity": q})) for q in (0.5, 1.0, 1.5)]
    found += [
        Method("everywhere (as IP-Adapter)", f"{q}", everywhere.model_copy(update={"quantity": q}))
        for q in (0.4, 0.6, 0.8, 1.0, 1.5, 2.0)
    ]
    found.append(Method("binary mask", f"{guidance.quantity}", guidance.model_copy(update={"binary": True})))
    found.append(Method("pseudo-word", f"{inversion.steps} steps", inversion=inversion))
    return found


def trained_alike(guidance: GuidanceConfig, adapters: Mapping[str, str]) -> list[Method]:
    """Ablations: adapters of equal training, each without a part of the method; the complete one is the first."""
    return [Method("trained alike", name, guidance, adapter=directory) for name, directory in adapters.items()]


def measure(
    pipeline: RealCustomPipeline, judge: Judge, config: Config, compared: Sequence[Method], count: int, seed: int
) -> tuple[list[Point], dict[str, list[Image.Image]]]:
    """The points of ``compared`` over ``count`` held-out identities, and the first images of each.

    The first method is the reference of the differences.
    """
    test_cases = cases(count, seed, config)
    wanted, likeness = [case.wanted for case in test_cases], SubjectSimilarity(judge, test_cases)
    similar: list[np.ndarray] = []
    controlled: list[np.ndarray] = []
    overlaps: list[Estimate | None] = []
    shown: dict[str, list[Image.Image]] = {"reference": [case.reference for case in test_cases[:8]]}
    for method in compared:
        pictures, masks = _draw(pipeline, config, method, test_cases)
        similar.append(likeness(pictures))
        controlled.append(judge.check(pictures, wanted).text_control)
        overlaps.append(mean(mask_iou(masks, judge.subject_masks(pictures))) if masks else None)
        shown[f"{method.family} {method.name}"] = pictures[:8]
    lost: Callable[[np.ndarray, np.ndarray], float] = lambda ours, theirs: float((ours - theirs).mean())  # noqa: E731
    points = [
        Point(method, mean(s), mean(c), bootstrap(lost, similar[0], s), bootstrap(lost, controlled[0], c), overlap)
        for method, s, c, overlap in zip(compared, similar, controlled, overlaps, strict=True)
    ]
    return points, shown


def _draw(
    pipeline: RealCustomPipeline, config: Config, method: Method, test_cases: Sequence[Case]
) -> tuple[list[Image.Image], list[Image.Image]]:
    seeds, texts = [case.seed for case in test_cases], [case.wanted.prompt for case in test_cases]
    description = f"{method.family}, {method.name}"
    if method.inversion is not None:
        pictures = [
            _invert(pipeline, config, case, method.inversion)
            for case in track(test_cases, description, len(test_cases))
        ]
        return pictures, []
    if method.guidance is None:
        return generate_images(pipeline, config, texts, seeds, description=description)
    if method.adapter is not None:
        pipeline = RealCustomPipeline.from_config(config, adapter=method.adapter)
    before, pipeline.guidance = pipeline.guidance, method.guidance
    try:
        return generate_images(pipeline, config, texts, seeds, subjects_of(pipeline, test_cases), description)
    finally:
        pipeline.guidance = before


def _invert(pipeline: RealCustomPipeline, config: Config, case: Case, inversion: Inversion) -> Image.Image:
    """One picture by a pseudo-word, fitted to the reference that the other methods are given."""
    size = (config.sampling.width, config.sampling.height)
    with pseudo_word(pipeline, case.reference.resize(size), case.wanted.kind, inversion, case.seed) as word:
        prompt = case.wanted.prompt.replace(case.wanted.kind, word)
        generator = torch.Generator().manual_seed(case.seed)
        picture: Image.Image = pipeline(prompt, **config.sampling.arguments, generator=generator).images[0]
    return picture


def draw_tradeoff(points: Sequence[Point]) -> Figure:
    """Similarity over text control, one colour for each family, with 95 % intervals."""
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.add_subplot()
    for place, family in enumerate(dict.fromkeys(point.method.family for point in points)):
        members = [point for point in points if point.method.family == family]
        x, y = ([getattr(point, name) for point in members] for name in ("control", "similarity"))
        axes.errorbar(
            [estimate.value for estimate in x],
            [estimate.value for estimate in y],
            xerr=[[e.value - e.low for e in x], [e.high - e.value for e in x]],
            yerr=[[e.value - e.low for e in y], [e.high - e.value for e in y]],
            fmt="*" if family == OURS else "o",
            markersize=15 if family == OURS else 5,
            zorder=3 if family == OURS else 2,
            color=f"C{place}", linewidth=0.8, label=family,
        )  # fmt: skip
        for point in [] if family == OURS else members:
            axes.annotate(
                point.method.name, (point.control.value, point.similarity.value),
                xytext=(6 + 26 * (place % 3), 3), textcoords="offset points", fontsize=7, color=f"C{place}",
            )  # fmt: skip
    axes.set(xlabel="text control (kind, place, position)", ylabel="subject similarity, masked to the subject")
    axes.margins(x=0.25)  # space for the labels
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return figure
