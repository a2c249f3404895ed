"""Example images of the documentation, generated with the shipped miniature.

    python -m benchmarks.gallery --output docs/images
    python -m benchmarks.gallery --only few_steps --only loras

Writes several_subjects.png, strengths.png, masks_over_time.png, one_step.png, rounds.png, few_steps.png and loras.png.
The style LoRA of loras.png is made by `python -m components.pretraining.style_lora --output runs/style-sepia`.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from benchmarks.few_steps import FewSteps
from benchmarks.few_steps import picture as few_steps_picture
from components.config import PACKAGE_ROOT, Config, load_config
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
#: Methods of `GalleryRenderer`, each of which draws one picture.
PICTURES = ("several_subjects", "strengths", "masks_over_time", "one_step", "rounds", "few_steps", "loras")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--adapter", help="adapter directory in place of the preset's")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--only", action="append", choices=PICTURES, help="draw this one alone; repeatable")
    parser.add_argument("--lcm", type=Path, default=PACKAGE_ROOT / "weights/tiny/lcm", help="LCM-LoRA of few_steps")
    parser.add_argument("--style", type=Path, default=Path("runs/style-sepia"), help="style LoRA of loras")
    arguments = parser.parse_args()
    quiet_libraries()
    config = load_config("tiny")
    arguments.output.mkdir(parents=True, exist_ok=True)
    rng = random.Random(arguments.seed)
    for name in arguments.only or PICTURES:
        pipeline = RealCustomPipeline.from_config(config, arguments.adapter)  # without the LoRAs of another picture
        renderer = GalleryRenderer(config, pipeline, arguments.seed, rng, arguments.lcm, arguments.style)
        path = arguments.output / f"{name}.png"
        getattr(renderer, name)().save(path)
        print(f"wrote {path}")


class GalleryRenderer:
    """Generates the images of the gallery with one pipeline, at fixed seeds."""

    def __init__(
        self, config: Config, pipeline: RealCustomPipeline, seed: int, rng: random.Random, lcm: Path, style: Path
    ) -> None:
        self.config, self.pipeline, self.rng, self.seed = config, pipeline, rng, seed
        self.lcm, self.style = lcm, style

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

    def few_steps(self) -> Image.Image:
        """The same identities and seeds in 20 steps, and in 1, 2, 4 and 8 steps without and with the LCM-LoRA."""
        return few_steps_picture(FewSteps(self.config, self.pipeline, self.lcm), self.pipeline, self.config)

    def loras(self) -> Image.Image:
        """A style LoRA at several weights, with a subject and without one."""
        self.rng = random.Random(self.seed)  # the same subjects alone and after the other pictures
        self.pipeline.load_lora_weights(self.style, adapter_name="style")
        rows, labels, weights = [], [], (0.0, 0.5, 1.0)
        for kind, place in (("cat", "on the beach"), ("rocket", "in a meadow"), ("fish", "under the sea")):
            reference = self._reference(kind)
            for name, subject in (("stock", None), ("with the subject", self._subject(reference, kind))):
                row = [reference.picture]
                for weight in weights:
                    self.pipeline.set_adapters("style", weight)
                    row.append(self._generate(f"a {kind} {place}", subject).images[0])
                rows.append(row)
                labels.append(f"a {kind} {place}, {name}")
        return rows_of_pictures(rows, labels=labels, captions=["reference", *(f"weight {w}" for w in weights)])

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
