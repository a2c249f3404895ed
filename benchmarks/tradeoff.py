"""The trade-off between similarity and text control, with ground truth of the toy world.

    python -m benchmarks.tradeoff --json --pictures docs/images
    python -m benchmarks.tradeoff --trained whole=runs/a/adapter "no curriculum=runs/b/adapter" …

Compares RealCustom at its defaults with other scopes and strengths, binary masks, masks of 1 everywhere (as in
IP-Adapter) and pseudo-words, on the same unseen identities, prompts and seeds. ``--trained`` compares adapters that
were trained equally long instead, the first with the whole method (docs/explanation/results.md has the commands).
``--json`` prints one object on the last line.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.toy import load_toy, toy_parser
from components.evaluation.inversion import Inversion
from components.evaluation.tradeoff import Point, draw_tradeoff, measure, methods, trained_alike
from components.pictures import rows_of_pictures

#: Settings whose images are shown side by side.
_SHOWN = (
    "reference",
    "without a subject",
    "RealCustom",
    "binary mask",
    "everywhere (as IP-Adapter) 1.0",
    "pseudo-word",
    "trained alike",
)


def main() -> None:
    parser = toy_parser(__doc__, 96, 50_000)
    parser.add_argument("--pictures", type=Path, help="directory for the plot and a grid")
    parser.add_argument("--inversion-steps", type=int, default=Inversion.steps, help="of each pseudo-word")
    parser.add_argument("--trained", nargs="+", metavar="NAME=ADAPTER", help="compare these; the whole method first")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config, pipeline, judge = load_toy(arguments)
    if arguments.trained:
        adapters = dict(named.split("=", 1) for named in arguments.trained)
        compared, file = trained_alike(pipeline.guidance, adapters), "trained_alike"
    else:
        compared, file = methods(pipeline.guidance, Inversion(arguments.inversion_steps)), "tradeoff"
    points, shown = measure(pipeline, judge, config, compared, arguments.subjects, arguments.seed)
    Console().print(_table(points))
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        draw_tradeoff(points).savefig(arguments.pictures / f"{file}.png", dpi=130)
        chosen = {name: row for name, row in shown.items() if name.startswith(_SHOWN)}
        grid = rows_of_pictures(list(chosen.values()), cell=96, labels=list(chosen))
        grid.save(arguments.pictures / f"{file}_pictures.png")
    if arguments.json:
        report = {
            "dominated_by": [f"{p.method.family} {p.method.name}" for p in points[1:] if p.dominates_ours],
            "points": [asdict(point) for point in points],
            "seed": arguments.seed,
            "identities": arguments.subjects,
            "machine": machine(),
        }
        print(json.dumps(report))


def _table(points: list[Point]) -> Table:
    columns = ("way", "", "similarity", "text control", "similarity lost", "control lost", "mask IoU")
    table = Table(*columns, title="means with 95 % intervals; lost: what the first has more")
    for point in points:
        overlap = "" if point.mask_iou is None else str(point.mask_iou)
        lost = [str(point.similarity_lost), str(point.control_lost)] if point is not points[0] else ["", ""]
        table.add_row(point.method.family, point.method.name, str(point.similarity), str(point.control), *lost, overlap)
    return table


if __name__ == "__main__":
    main()
