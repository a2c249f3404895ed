"""Subject similarity against text control: RealCustom beside other ways of showing a subject, on the same weights.

The paper's claim is that deciding *where* a subject acts ends the bargain between the two. All ways are measured on
the same unseen identities, prompts and seeds.
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
from components.evaluation.toybench import Case, Likeness, cases, draw_pictures, mask_iou, subjects_of
from components.judges.judge import Judge
from components.model.pipeline import RealCustomPipeline
from components.progress import track

#: What the method is called among the points.
OURS = "RealCustom"


@dataclass(frozen=True)
class Way:
    """A way of showing the subject: a family of points, the point's name, and how pictures are drawn.

    ``guidance`` None draws without the adapter: stock, or by pseudo-word. ``adapter`` is a directory, in place of the
    pipeline's own.
    """

    family: str
    name: str
    guidance: GuidanceConfig | None = None
    inversion: Inversion | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class Point:
    """Where a way lies, and its paired differences to the method at its defaults (positive: the method is better)."""

    way: Way
    similarity: Estimate
    control: Estimate
    similarity_lost: Estimate
    control_lost: Estimate
    mask_iou: Estimate | None

    @property
    def dominates_ours(self) -> bool:
        """Whether it is better than the method in one of the two beyond chance, and not worse in the other."""
        better = self.similarity_lost.high < 0 or self.control_lost.high < 0
        return better and self.similarity_lost.value <= 0 and self.control_lost.value <= 0


def ways(guidance: GuidanceConfig, inversion: Inversion) -> list[Way]:
    """Everything that is compared; the method as ``guidance`` has it comes first.

    An influence of one strength everywhere is what IP-Adapter does with its image tokens.
    """
    everywhere = guidance.model_copy(update={"scope": 1.0, "binary": True})
    found = [Way(OURS, "as configured", guidance), Way("without a subject", "stock")]
    scopes = (0.1, 0.2, 0.3, 0.4, 0.5)
    found += [Way("scope", f"{scope}", guidance.model_copy(update={"scope": scope})) for scope in scopes]
    found += [Way("strength", f"{q}", guidance.model_copy(update={"quantity": q})) for q in (0.5, 1.0, 1.5)]
    found += [
        Way("everywhere (as IP-Adapter)", f"{q}", everywhere.model_copy(update={"quantity": q}))
        for q in (0.4, 0.6, 0.8, 1.0, 1.5, 2.0)
    ]
    found.append(Way("binary mask", f"{guidance.quantity}", guidance.model_copy(update={"binary": True})))
    found.append(Way("pseudo-word", f"{inversion.steps} steps", inversion=inversion))
    return found


def trained_alike(guidance: GuidanceConfig, adapters: Mapping[str, str]) -> list[Way]:
    """Adapters that were trained equally long, each with a part of the method left out; the whole one comes first."""
    return [Way("trained alike", name, guidance, adapter=directory) for name, directory in adapters.items()]


def measure(
    pipeline: RealCustomPipeline, judge: Judge, config: Config, compared: Sequence[Way], count: int, seed: int
) -> tuple[list[Point], dict[str, list[Image.Image]]]:
    """The points of ``compared`` over ``count`` unseen identities, and the first pictures of each.

    The first way is the one that the others are held against.
    """
    drawn = cases(count, seed, config)
    wanted, likeness = [case.wanted for case in drawn], Likeness(judge, drawn)
    similar: list[np.ndarray] = []
    controlled: list[np.ndarray] = []
    overlaps: list[Estimate | None] = []
    shown: dict[str, list[Image.Image]] = {"reference": [case.reference for case in drawn[:8]]}
    for way in compared:
        pictures, masks = _draw(pipeline, config, way, drawn)
        similar.append(likeness(pictures))
        controlled.append(judge.check(pictures, wanted).text_control)
        overlaps.append(mean(mask_iou(masks, judge.subject_masks(pictures))) if masks else None)
        shown[f"{way.family} {way.name}"] = pictures[:8]
    lost: Callable[[np.ndarray, np.ndarray], float] = lambda ours, theirs: float((ours - theirs).mean())  # noqa: E731
    points = [
        Point(way, mean(s), mean(c), bootstrap(lost, similar[0], s), bootstrap(lost, controlled[0], c), overlap)
        for way, s, c, overlap in zip(compared, similar, controlled, overlaps, strict=True)
    ]
    return points, shown


def _draw(
    pipeline: RealCustomPipeline, config: Config, way: Way, drawn: Sequence[Case]
) -> tuple[list[Image.Image], list[Image.Image]]:
    seeds, asked_for = [case.seed for case in drawn], [case.wanted.prompt for case in drawn]
    description = f"{way.family}, {way.name}"
    if way.inversion is not None:
        pictures = [_invert(pipeline, config, case, way.inversion) for case in track(drawn, description, len(drawn))]
        return pictures, []
    if way.guidance is None:
        return draw_pictures(pipeline, config, asked_for, seeds, description=description)
    if way.adapter is not None:
        pipeline = RealCustomPipeline.from_config(config, adapter=way.adapter)
    before, pipeline.guidance = pipeline.guidance, way.guidance
    try:
        return draw_pictures(pipeline, config, asked_for, seeds, subjects_of(pipeline, drawn), description)
    finally:
        pipeline.guidance = before


def _invert(pipeline: RealCustomPipeline, config: Config, case: Case, inversion: Inversion) -> Image.Image:
    """One picture by a pseudo-word, fitted to the reference that the other ways are given."""
    size = (config.sampling.width, config.sampling.height)
    with pseudo_word(pipeline, case.reference.resize(size), case.wanted.kind, inversion, case.seed) as word:
        prompt = case.wanted.prompt.replace(case.wanted.kind, word)
        generator = torch.Generator().manual_seed(case.seed)
        picture: Image.Image = pipeline(prompt, **config.sampling.arguments, generator=generator).images[0]
    return picture


def draw_tradeoff(points: Sequence[Point]) -> Figure:
    """Similarity over text control, a colour a family, with 95 % intervals."""
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.add_subplot()
    for place, family in enumerate(dict.fromkeys(point.way.family for point in points)):
        members = [point for point in points if point.way.family == family]
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
                point.way.name, (point.control.value, point.similarity.value),
                xytext=(6 + 26 * (place % 3), 3), textcoords="offset points", fontsize=7, color=f"C{place}",
            )  # fmt: skip
    axes.set(xlabel="text control (kind, place, position)", ylabel="subject similarity, masked to the subject")
    axes.margins(x=0.25)  # room for the names
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return figure
