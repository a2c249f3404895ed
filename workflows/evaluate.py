"""Score the registered model on ToyBench: subject similarity and text control, with and without the subject."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from components.config import Config
from components.errors import ConfigError
from components.evaluation.judges import Judge
from components.evaluation.toybench import SubjectScores, score_subjects
from components.registry import versions


def run(config: Config) -> None:
    """Evaluate ``models:/<registry.model>@<registry.alias>`` and write ``toybench.json``."""
    if config.evaluation.encoders is None:
        raise ConfigError("evaluation.encoders: this preset names no evaluation encoders; set a directory")
    pipeline = versions.load_pipeline(config, f"models:/{config.registry.model}@{config.registry.alias}")
    judge = Judge(config.evaluation.encoders, config.vision.view_size)
    scores = score_subjects(pipeline, judge, config, config.evaluation.prompts, config.evaluation.seed)
    output = config.evaluation.output
    output.mkdir(parents=True, exist_ok=True)
    (output / "toybench.json").write_text(json.dumps(asdict(scores), indent=1))
    Console().print(scores_table(scores))


def scores_table(scores: SubjectScores) -> Table:
    """The scores as a person reads them, with 95 % intervals."""
    table = Table(title="Unseen identities, 95 % intervals")
    for column in ("", "subject similarity", "text control"):
        table.add_column(column)
    table.add_row("without the character", str(scores.stock_similarity), str(scores.stock_control))
    table.add_row("with the character", str(scores.similarity), str(scores.control))
    table.add_row("real pictures", str(scores.real_similarity), "")
    table.caption = (
        f"{scores.gain_share} of the way from stock to real; text control falls by {scores.control_drop} points"
    )
    return table


if __name__ == "__main__":
    from workflows.entry import main

    main(run)
