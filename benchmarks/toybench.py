"""Quality of the shipped miniature and its adapter in the toy world.

    python -m benchmarks.toybench --json
    python -m benchmarks.toybench --adapter runs/training/...-adapter --pictures docs/images

Text control of the base over 500 prompts, then 200 unseen identities with and without the adapter on the same prompts
and seeds, judged by encoders that condition nothing. ``--json`` prints one object on the last line.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.machine import machine
from components.config import load_config
from components.evaluation.judges import Judge
from components.evaluation.toybench import cases, draw_pictures, prompts, score_subjects, score_text
from components.model.pipeline import RealCustomPipeline
from components.pictures import rows_of_pictures
from components.progress import quiet_libraries
from workflows.evaluate import scores_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--adapter", help="adapter directory in place of the preset's")
    parser.add_argument("--prompts", type=int, default=500, help="prompts for text control")
    parser.add_argument("--subjects", type=int, default=200, help="unseen identities")
    parser.add_argument("--seed", type=int, default=20_000)
    parser.add_argument("--pictures", type=Path, help="directory for the grids")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="configuration override")
    arguments = parser.parse_args()
    quiet_libraries()
    config = load_config("tiny", arguments.set)
    assert config.evaluation.encoders is not None
    pipeline = RealCustomPipeline.from_config(config, adapter=arguments.adapter)
    judge = Judge(config.evaluation.encoders, config.vision.view_size)
    text = score_text(pipeline, judge, config, arguments.prompts, arguments.seed)
    console = Console()
    console.print(f"text only: kind {text.kind}, place {text.place}, position {text.position}")
    subjects = score_subjects(pipeline, judge, config, arguments.subjects, arguments.seed)
    console.print(scores_table(subjects))
    if arguments.pictures:
        _draw(pipeline, config, arguments.pictures)
    if arguments.json:
        report = {
            "kind_accuracy": text.kind.value,
            "place_accuracy": text.place.value,
            "similarity_gain_share": subjects.gain_share.value,
            "text_control_drop": subjects.control_drop.value,
            "text_only": asdict(text),
            "subjects": asdict(subjects),
            "seed": arguments.seed,
            "prompts": arguments.prompts,
            "identities": arguments.subjects,
            "machine": machine(),
        }
        print(json.dumps(report))


def _draw(pipeline: RealCustomPipeline, config, directory: Path) -> None:  # type: ignore[no-untyped-def]
    directory.mkdir(parents=True, exist_ok=True)
    drawn = cases(10, config.seed + 1, config)
    wanted, seeds = [c.wanted for c in drawn], [c.seed for c in drawn]
    tokens: list[torch.Tensor] = [pipeline.encode_subject([c.reference]) for c in drawn]
    stock, _ = draw_pictures(pipeline, config, wanted, seeds)
    ours, masks = draw_pictures(pipeline, config, wanted, seeds, tokens)
    sheet = rows_of_pictures(
        [[c.reference for c in drawn], stock, ours, masks],
        labels=["reference", "without the character", "with the character", "influence mask"],
        captions=[w.prompt for w in wanted],
    )
    sheet.save(directory / "toybench.png")
    plain = prompts(32, config.seed + 7)
    drawn_plain, _ = draw_pictures(pipeline, config, plain, range(32))
    rows_of_pictures([drawn_plain[i : i + 8] for i in range(0, 32, 8)]).save(directory / "text_only.png")


if __name__ == "__main__":
    main()
