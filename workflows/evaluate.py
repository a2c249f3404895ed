"""Evaluate a registered model on the configured benchmark: ToyBench, or the DreamBench protocol."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from components.config import Config
from components.errors import ArtifactError, ConfigError
from components.evaluation.dreambench import result_tables as dreambench
from components.evaluation.dreambench.run import GALLERY, PICTURES, Outcome, evaluate_dreambench
from components.evaluation.toybench import SubjectScores, score_subjects
from components.judges.judge import Judge
from components.model.pipeline import RealCustomPipeline
from components.registry import versions


def run(config: Config) -> None:
    """Evaluate `evaluation.model`, by default the version of `registry.alias`; write the scores and print them."""
    if config.evaluation.benchmark == "dreambench":
        _show(evaluate_dreambench(config, _adapter(config)))
        return
    if config.evaluation.encoders is None:
        raise ConfigError("evaluation.encoders: this preset names no evaluation encoders; set a directory")
    pipeline = RealCustomPipeline.from_config(config, adapter=str(_adapter(config)))
    judge = Judge(config.evaluation.encoders, config.vision.view_size)
    scores = score_subjects(pipeline, judge, config, config.evaluation.prompts, config.evaluation.seed)
    output = config.evaluation.output
    output.mkdir(parents=True, exist_ok=True)
    (output / "toybench.json").write_text(json.dumps(asdict(scores), indent=1))
    Console().print(scores_table(scores))


def scores_table(scores: SubjectScores) -> Table:
    """A table of the scores with 95 % intervals."""
    table = Table(title="Unseen identities, 95 % intervals")
    for column in ("", "subject similarity", "text control"):
        table.add_column(column)
    table.add_row("without the character", str(scores.stock_similarity), str(scores.stock_control))
    table.add_row("with the character", str(scores.similarity), str(scores.control))
    table.add_row("real images", str(scores.real_similarity), "")
    table.caption = (
        f"{scores.gain_share} of the way from stock to real; text control falls by {scores.control_drop} points"
    )
    return table


def _adapter(config: Config) -> Path:
    """The adapter directory to evaluate."""
    model = config.evaluation.model or f"models:/{config.registry.model}@{config.registry.alias}"
    if model.startswith("models:"):
        return versions.resolve(config, model).path
    if not Path(model).is_dir():
        raise ArtifactError(f"evaluation.model: {model} is not a directory; give one, or models:/name/version")
    return Path(model)


def _show(outcome: Outcome) -> None:
    console = Console()
    for table in outcome.tables:
        shown = Table(title=f"DreamBench: {dreambench.TITLES[table.variant]}")
        for column in ("", *table.metrics, ""):
            shown.add_column(column)
        for row in table.rows:
            cells = (dreambench.as_text(row.cells[name]) for name in table.metrics)
            shown.add_row(row.name, *cells, dreambench.BY_OTHERS if row.by_others else "")
        console.print(shown)
    console.print(f"{outcome.generated} of {len(outcome.rows)} images generated now, {outcome.scored} scored now")
    for name in (PICTURES, GALLERY):
        console.print(str(outcome.directory / name), soft_wrap=True)


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
