"""Scores of a model for each case, and paired comparison of two models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.config import Config
from components.errors import ConfigError
from components.evaluation.dreambench.run import evaluate_dreambench
from components.evaluation.encoders import encoder_names
from components.evaluation.model_facts import model_facts
from components.evaluation.statistics import Estimate, bootstrap, mean
from components.evaluation.toybench import Measured, measure_subjects
from components.files import replacing_file
from components.fingerprint import fingerprint
from components.judges.judge import Judge
from components.model.pipeline import RealCustomPipeline

#: Version of the code. Increment it when it gives other scores for the same model.
_SCORED_BY = 1


@dataclass(frozen=True)
class Scores:
    """Values [n] of every metric, NaN where it does not apply, with the names of ``cases`` and their ``groups``.

    Cases of one group, for example the images of a subject, are resampled together.
    """

    cases: tuple[str, ...]
    groups: tuple[str, ...]
    metrics: Mapping[str, np.ndarray]

    def values(self, metric: str) -> np.ndarray:
        """One value for each case, [n].

        Raises:
            ConfigError: there is no such metric.
        """
        if metric not in self.metrics:
            raise ConfigError(
                f"registry.gates: {metric!r} is no metric of this benchmark; it has {', '.join(sorted(self.metrics))}"
            )
        return self.metrics[metric]

    def estimate(self, metric: str, confidence: float = 0.95) -> Estimate:
        """The mean over groups, with its interval."""
        return mean(_by_group(self.groups, self.values(metric)), confidence)


def difference(before: Scores, after: Scores, metric: str, confidence: float) -> Estimate:
    """The mean difference of ``after`` to ``before``, with the interval of the paired bootstrap over groups.

    Raises:
        ConfigError: there is no such metric, or it applies to no case.
        ValueError: the scores are not of the same cases.
    """
    if (before.cases, before.groups) != (after.cases, after.groups):
        raise ValueError("scores of different cases cannot be compared")
    differences = _by_group(after.groups, after.values(metric) - before.values(metric))
    if not len(differences):
        raise ConfigError(f"registry.gates: {metric!r} applies to none of the cases")
    return bootstrap(lambda d: float(d.mean()), differences, confidence=confidence)


def measure(config: Config, adapter: Path) -> Scores:
    """The scores of the ``adapter`` directory on `evaluation.benchmark`; stored scores are reused."""
    if config.evaluation.benchmark == "dreambench":
        outcome = evaluate_dreambench(config, adapter)
        rows = outcome.rows
        return Scores(
            tuple(f"{row['subject']}/{row['prompt']}-{row['seed']}" for row in rows),
            tuple(row["subject"] for row in rows),
            {name: np.array([row[name] for row in rows], dtype=float) for name in outcome.metrics},
        )
    return _toybench(config, adapter)


def _toybench(config: Config, adapter: Path) -> Scores:
    evaluation = config.evaluation
    if evaluation.encoders is None:
        raise ConfigError("evaluation.encoders: ToyBench needs the toy world's judges; set a directory")
    facts = {
        "code": _SCORED_BY,
        "model": model_facts(config, adapter),
        "encoders": encoder_names(evaluation),
        "view": config.vision.view_size,
        "world": config.world.picture_size,
        "cases": (evaluation.prompts, evaluation.seed),
    }
    file = evaluation.output / "toybench" / f"{fingerprint(facts)}.parquet"
    if not file.exists():
        pipeline = RealCustomPipeline.from_config(config, adapter=str(adapter))
        judge = Judge(evaluation.encoders, config.vision.view_size)
        _write(toybench_metrics(measure_subjects(pipeline, judge, config, evaluation.prompts, evaluation.seed)), file)
    table = pq.read_table(file)
    cases = tuple(f"{evaluation.seed}+{row}" for row in range(table.num_rows))
    return Scores(cases, cases, {name: table[name].to_numpy() for name in table.column_names})


def toybench_metrics(found: Measured) -> dict[str, np.ndarray]:
    """The metrics of gates; ``similarity_share`` is 0 for the base model and 1 for real images."""
    way = (found.real_similarity - found.stock_similarity).mean()
    return {
        "similarity": found.similarity,
        "similarity_share": (found.similarity - found.stock_similarity) / way,
        "text_control": found.control,
        "mask_iou": found.mask_iou,
    }


def _by_group(groups: tuple[str, ...], values: np.ndarray) -> np.ndarray:
    """The mean of each group's values without NaN; empty groups are omitted."""
    there = ~np.isnan(values)
    names, places = np.unique(np.array(groups)[there], return_inverse=True)
    return np.bincount(places, values[there], len(names)) / np.bincount(places, minlength=len(names))


def _write(metrics: Mapping[str, np.ndarray], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(file) as partial:
        pq.write_table(pa.table(dict(metrics)), partial)
