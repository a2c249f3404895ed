"""Quality of the shipped miniature and its adapter in the toy world.

    python -m benchmarks.toybench --json
    python -m benchmarks.toybench --adapter runs/training/...-adapter --pictures docs/images

Text control of the base over 500 prompts, then 200 unseen identities with and without the adapter on the same prompts
and seeds, judged by encoders that condition nothing. ``--json`` prints one object on the last line.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from benchmarks.machine import machine
from benchmarks.toy import load_toy, toy_parser
from components.evaluation.toybench import cases, generate_images, prompts, score_subjects, score_text, subjects_of
from components.model.pipeline import RealCustomPipeline
from components.pictures import rows_of_pictures
from workflows.evaluate import scores_table


def main() -> None:
    parser = toy_parser(__doc__, 200, 20_000)
    parser.add_argument("--prompts", type=int, default=500, help="prompts for text control")
    parser.add_argument("--pictures", type=Path, help="directory for the grids")
    arguments = parser.parse_args()
    config, pipeline, judge = load_toy(arguments)
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
    test_cases = cases(10, config.seed + 1, config)
    texts, seeds = [c.wanted.prompt for c in test_cases], [c.seed for c in test_cases]
    stock, _ = generate_images(pipeline, config, texts, seeds)
    ours, masks = generate_images(pipeline, config, texts, seeds, subjects_of(pipeline, test_cases))
    sheet = rows_of_pictures(
        [[c.reference for c in test_cases], stock, ours, masks],
        labels=["reference", "without the character", "with the character", "influence mask"],
        captions=texts,
    )
    sheet.save(directory / "toybench.png")
    plain = [wanted.prompt for wanted in prompts(32, config.seed + 7)]
    text_only, _ = generate_images(pipeline, config, plain, range(32))
    rows_of_pictures([text_only[i : i + 8] for i in range(0, 32, 8)]).save(directory / "text_only.png")


if __name__ == "__main__":
    main()
