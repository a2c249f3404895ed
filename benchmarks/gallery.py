"""Example images of the documentation, generated with the shipped miniature.

    python -m benchmarks.gallery --output docs/images

Writes several_subjects.png, strengths.png, masks_over_time.png, one_step.png and rounds.png.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from components.config import Config, load_config
from components.cut_outs import CutOut, cut_out
from components.data.region import subject_mask
from components.model.naming import WordNamer
from components.model.pipeline import RealCustomOutput, RealCustomPipeline
from components.model.subjects import Subject, Subjects
from components.pictures import rows_of_pictures
from components.progress import quiet_libraries
from components.world.identities import sample_identity
from components.world.scenes import draw_reference_picture

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--adapter", help="adapter directory in place of the preset's")
    parser.add_argument("--seed", type=int, default=5)
    arguments = parser.parse_args()
    quiet_libraries()
    config = load_config("tiny")
    renderer = GalleryRenderer(config, RealCustomPipeline.from_config(config, arguments.adapter), arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for render in (
        renderer.several_subjects,
        renderer.strengths,
        renderer.masks_over_time,
        renderer.one_step,
        renderer.rounds,
    ):
        path = arguments.output / f"{render.__name__}.png"
        render().save(path)
        print(f"wrote {path}")


class GalleryRenderer:
    """Generates the images of the gallery with one pipeline, at fixed seeds."""

    def __init__(self, config: Config, pipeline: RealCustomPipeline, seed: int) -> None:
        self.config, self.pipeline, self.rng, self.seed = config, pipeline, random.Random(seed), seed

    def several_subjects(self) -> Image.Image:
        """Two references, each on its own word; the masks share no position."""
        columns = []
        for first, second, place in (
            ("cat", "robot", "on the beach"),
            ("rabbit", "car", "in a meadow"),
            ("bird", "rocket", "in the snow"),
            ("fish", "mushroom", "in the desert"),
        ):
            references = [self._reference(kind) for kind in (first, second)]
            subjects = [self._subject(r, k) for r, k in zip(references, (first, second), strict=True)]
            prompt = f"a {first} and a {second} {place}"
            stock, ours = self._generate(prompt), self._generate(prompt, subjects)
            assert ours.masks is not None
            columns.append([*(r.picture for r in references), stock.images[0], ours.images[0], *ours.masks[0]])
        rows = [list(row) for row in zip(*columns, strict=True)]
        labels = ["first reference", "second reference", "stock", "both subjects", "first mask", "second mask"]
        return rows_of_pictures(rows, labels=labels)

    def strengths(self) -> Image.Image:
        """Face strength along the first row of each subject, body strength along the second."""
        rows, labels = [], []
        for kind in ("robot", "rabbit"):
            reference = self._reference(kind)
            subject = self._subject(reference, kind)
            for name in ("face_strength", "body_strength"):
                swept = [replace(subject, **{name: value}) for value in STRENGTHS]
                images = [self._generate(f"a {kind} in a room", s).images[0] for s in swept]
                rows.append([reference.picture, *images])
                labels.append(name.replace("_", " "))
        return rows_of_pictures(rows, labels=labels, captions=["reference", *(str(value) for value in STRENGTHS)])

    def masks_over_time(self) -> Image.Image:
        """The influence mask of every second step in which one is found, and the picture."""
        rows, labels = [], []
        steps = range(0, self.pipeline.guidance.steps, 2)
        for kind, where in (
            ("cat", "on the left on the beach"),
            ("rocket", "in the middle at night"),
            ("car", "on the right on a road"),
        ):
            prompt = f"a {kind} {where}"
            reference = self._reference(kind)
            result = self._generate(prompt, self._subject(reference, kind))
            assert result.mask_history is not None
            masks = [_grey(result.mask_history[step, 0, 0]) for step in steps]
            rows.append([reference.picture, *masks, result.images[0]])
            labels.append(prompt)
        captions = ["reference", *(f"step {step}" for step in steps), "picture"]
        return rows_of_pictures(rows, labels=labels, captions=captions)

    def one_step(self) -> Image.Image:
        """A reference and a prompt, no word: it is detected in the prompt, or generated into it."""
        namer = WordNamer.from_config(self.config.model, self.config.naming)
        row, captions = [], []
        for kind, prompt in (
            ("cat", "a cat on the beach"),
            ("robot", "on the left under the sea"),
            ("car", "a car and a mushroom in a meadow"),
            ("bird", "in the snow"),
        ):
            reference = self._reference(kind)
            naming = namer.name(prompt, [reference.picture])
            row += [reference.picture, self._generate(naming.prompt, self._subject(reference, naming.word)).images[0]]
            captions += [prompt, f"{naming.word} ({naming.how}, {naming.score:.2f})"]
        return rows_of_pictures([row], captions=captions)

    def rounds(self) -> Image.Image:
        """Several rounds: the subject is cut out of each picture and becomes the next one's reference."""
        rows = []
        for kind in ("robot", "cat"):
            reference = self._reference(kind).picture
            row = [reference]
            for place in ("on the beach", "in the snow", "in a room"):
                subject = Subject(self.pipeline.encode_subject([reference]), kind)
                picture = self._generate(f"a {kind} in the middle {place}", subject).images[0]
                row.append(picture)
                reference = cut_out(picture, subject_mask(picture), self.pipeline.reference_size)
            rows.append(row)
        return rows_of_pictures(rows, captions=["reference", "round 1", "round 2", "round 3"])

    def _reference(self, kind: str) -> CutOut:
        identity = sample_identity(self.rng, "held_out", kind)
        return draw_reference_picture(identity, self.pipeline.reference_size, self.rng)

    def _subject(self, reference: CutOut, word: str) -> Subject:
        tokens = self.pipeline.encode_subject([reference.picture])
        return Subject(tokens, word, face=self.pipeline.face_group([reference.face]))

    def _generate(self, prompt: str, subjects: Subjects | None = None) -> RealCustomOutput:
        return self.pipeline(
            prompt,
            subjects,
            **self.config.sampling.arguments,
            generator=torch.Generator().manual_seed(self.seed),
        )


def _grey(mask: torch.Tensor) -> Image.Image:
    values = (mask.float().clamp(0, 1) * 255).round().byte().numpy()
    return Image.fromarray(values).resize((128, 128), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()
