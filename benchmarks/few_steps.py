"""Few steps: quality and seconds with an LCM-LoRA, and of the same few steps without it.

    python -m benchmarks.few_steps --lora weights/tiny-lcm --json

Rows: the default steps and guidance; 1, 2, 4 and 8 steps of the default sampler with guidance; and 1, 2, 4 and 8 steps
of the sampler ``lcm`` with the LoRA, without guidance. For each, text control over prompts without a subject, and
similarity and text control over unseen identities, as `benchmarks.toybench` measures them, with the same prompts and
seeds; and the seconds of one image with a subject, alone. Intervals are of 95 %.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.toy import load_toy, toy_parser
from components.config import Config
from components.evaluation.statistics import Estimate, mean
from components.evaluation.toybench import (
    SubjectSimilarity,
    cases,
    generate_images,
    mask_iou,
    prompts,
    subjects_of,
)
from components.judges.judge import Judge
from components.model.pipeline import RealCustomPipeline
from components.model.schedulers import new_scheduler
from components.pictures import rows_of_pictures

STEPS = (1, 2, 4, 8)
#: Name of the LoRA in the pipeline.
LORA = "few_steps"
_TIMED = 3


@dataclass(frozen=True)
class Sampling:
    """One row of the table: how images are sampled."""

    steps: int
    guidance_scale: float
    lora: bool

    @property
    def name(self) -> str:
        return f"{self.steps} step{'s' if self.steps > 1 else ''}, {'LCM-LoRA' if self.lora else 'no LoRA'}"


@dataclass(frozen=True)
class Row:
    """What was measured: text control without subjects, similarity and text control with one, and seconds."""

    text_only: Estimate
    similarity: Estimate
    text_control: Estimate
    mask_iou: Estimate
    seconds: float


def samplings(config: Config) -> list[Sampling]:
    """The default, and few steps without and with the LoRA."""
    default = config.sampling
    few = [
        Sampling(steps, scale, lora)
        for lora, scale in ((False, default.guidance_scale), (True, 1.0))
        for steps in STEPS
    ]
    return [Sampling(default.steps, default.guidance_scale, False), *few]


class FewSteps:
    """Generates with one pipeline, whose LoRA is on or off."""

    def __init__(self, config: Config, pipeline: RealCustomPipeline, lora: Path) -> None:
        self._config, self._pipeline, self._own = config, pipeline, pipeline.scheduler
        pipeline.load_lora_weights(lora, adapter_name=LORA)

    def use(self, sampling: Sampling) -> Config:
        """Set the pipeline's LoRA and scheduler, and return the configuration for `generate_images`."""
        if sampling.lora:
            self._pipeline.enable_lora()
        else:
            self._pipeline.disable_lora()
        self._pipeline.scheduler = new_scheduler("lcm", self._own) if sampling.lora else self._own
        values = {"steps": sampling.steps, "guidance_scale": sampling.guidance_scale}
        return self._config.model_copy(update={"sampling": self._config.sampling.model_copy(update=values)})


def main() -> None:
    parser = toy_parser(__doc__, 64, 20_000)
    parser.add_argument("--lora", type=Path, required=True, help="LoRA that diffusers reads: a directory or a file")
    parser.add_argument("--prompts", type=int, default=128, help="prompts for text control without a subject")
    parser.add_argument("--pictures", type=Path, help="directory for the grid few_steps.png")
    arguments = parser.parse_args()
    config, pipeline, judge = load_toy(arguments)
    few_steps, rows = FewSteps(config, pipeline, arguments.lora), {}
    for sampling in samplings(config):
        rows[sampling] = measure(pipeline, judge, few_steps.use(sampling), arguments)
        Console(stderr=True).print(f"{sampling.name}: {rows[sampling]}")
    Console().print(table(rows))
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        picture(few_steps, pipeline, config).save(arguments.pictures / "few_steps.png")
    if arguments.json:
        found = [asdict(sampling) | asdict(row) for sampling, row in rows.items()]
        counts = {"seed": arguments.seed, "prompts": arguments.prompts, "identities": arguments.subjects}
        print(json.dumps({"rows": found, **counts, "machine": machine()}))


def measure(pipeline: RealCustomPipeline, judge: Judge, config: Config, arguments: Any) -> Row:
    """One row of the table."""
    wanted = prompts(arguments.prompts, arguments.seed)
    seeds = range(arguments.seed, arguments.seed + len(wanted))
    plain, _ = generate_images(pipeline, config, [w.prompt for w in wanted], seeds)
    test_cases = cases(arguments.subjects, arguments.seed, config)
    texts, seeds_of = [c.wanted.prompt for c in test_cases], [c.seed for c in test_cases]
    subjects = subjects_of(pipeline, test_cases)
    images, masks = generate_images(pipeline, config, texts, seeds_of, subjects)
    taken = []
    for _ in range(_TIMED):
        start = time.perf_counter()
        generate_images(pipeline, config, texts[:1], seeds_of[:1], subjects[:1])
        taken.append(time.perf_counter() - start)
    return Row(
        text_only=mean(judge.check(plain, wanted).text_control.astype(float)),
        similarity=mean(SubjectSimilarity(judge, test_cases)(images)),
        text_control=mean(judge.check(images, [c.wanted for c in test_cases]).text_control.astype(float)),
        mask_iou=mean(mask_iou(masks, judge.subject_masks(images))),
        seconds=statistics.median(taken),
    )


def picture(few_steps: FewSteps, pipeline: RealCustomPipeline, config: Config) -> Image.Image:
    """Six identities: the reference, and images of every row of the table with it."""
    test_cases = cases(6, config.seed + 1, config)
    texts, seeds = [c.wanted.prompt for c in test_cases], [c.seed for c in test_cases]
    subjects = subjects_of(pipeline, test_cases)
    grid, labels = [[c.reference for c in test_cases]], ["reference"]
    for sampling in samplings(config):
        images, _ = generate_images(pipeline, few_steps.use(sampling), texts, seeds, subjects)
        grid.append(images)
        labels.append(sampling.name)
    return rows_of_pictures(grid, cell=96, labels=labels, captions=texts)


def table(rows: dict[Sampling, Row]) -> Table:
    """The rows, for people."""
    shown = Table("sampling", "text only", "similarity", "text control", "mask IoU", "seconds")
    for sampling, row in rows.items():
        values = (row.text_only, row.similarity, row.text_control, row.mask_iou)
        shown.add_row(sampling.name, *map(str, values), f"{row.seconds:.2f}")
    return shown


if __name__ == "__main__":
    main()
