"""Separability of face and body strength, on held-out identities of the toy world with a head.

    python -m benchmarks.groups --json

Of each identity three images are generated at the same seed: with both strengths at 1, without its face group, without
its body group. Heads and bodies are compared with the real ones by an encoder that conditions nothing. ``--json``
prints one object on the last line.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.toy import load_toy, toy_parser
from components.evaluation.group_separation import SETTINGS, GroupScores, score_groups


def main() -> None:
    arguments = toy_parser(__doc__, 60, 40_000).parse_args()
    config, pipeline, judge = load_toy(arguments)
    scores = score_groups(pipeline, judge, config, arguments.subjects, arguments.seed)
    Console().print(_table(scores))
    if arguments.json:
        report = {
            "head_drop_without_face": scores.head_drop["no face"].value,
            "body_drop_without_face": scores.body_drop["no face"].value,
            "head_drop_without_body": scores.head_drop["no body"].value,
            "body_drop_without_body": scores.body_drop["no body"].value,
            "scores": asdict(scores),
            "seed": arguments.seed,
            "identities": arguments.subjects,
            "machine": machine(),
        }
        print(json.dumps(report))


def _table(scores: GroupScores) -> Table:
    table = Table(title="similarity to the real part, mean with 95 % interval")
    for name in ("strengths", "head", "body", "head lost", "body lost"):
        table.add_column(name)
    for name in SETTINGS:
        lost = [str(drop[name]) if name in drop else "" for drop in (scores.head_drop, scores.body_drop)]
        table.add_row(name, str(scores.head[name]), str(scores.body[name]), *lost)
    return table


if __name__ == "__main__":
    main()
