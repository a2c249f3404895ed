"""Promotion decisions about versions, stored in the registry.

A version's tags contain its latest decision, short enough for any store. Each decision has its own run with the
complete ``decision.json`` and the configuration.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from mlflow import MlflowClient

from components.config import Config
from components.registry import tracking
from components.registry.gates import GateResult

DECISION, TIME, REASON, COMPARED, REPLACED, METRICS, RUN = (
    f"promotion.{name}" for name in ("decision", "time", "reason", "compared_with", "replaced", "metrics", "run")
)
#: Maximum length of a tag that every store supports.
_MAX_TAG = 1000

Outcome = Literal["promoted", "refused", "rolled back", "restored", "kept"]


@dataclass(frozen=True)
class Decision:
    """A decision about ``version`` of the model ``name``; ``champion`` is the version it was compared with, if any.

    For a rollback or a restoration, ``champion`` is the other version of the two.
    """

    name: str
    version: str
    outcome: Outcome
    champion: str | None
    reason: str
    gate_results: Sequence[GateResult] = ()
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def __str__(self) -> str:
        return f"models:/{self.name}/{self.version} {self.outcome}: {self.reason}"

    def facts(self) -> dict[str, Any]:
        """The decision as JSON-serialisable values."""
        plain = {name: getattr(self, name) for name in ("name", "version", "outcome", "champion", "reason", "time")}
        return plain | {"gates": [_plain(result) for result in self.gate_results]}

    def tags(self, run_id: str) -> dict[str, str]:
        """The tags of the decision; the run ``run_id`` has the details."""
        gains = {
            v.gate.metric: [round(x, 4) for x in (v.gain.value, v.gain.low, v.gain.high)] for v in self.gate_results
        }
        metrics = json.dumps(gains)
        tags = {
            DECISION: self.outcome,
            TIME: self.time,
            REASON: self.reason if len(self.reason) <= _MAX_TAG else self.reason[: _MAX_TAG - 1] + "…",
            COMPARED: self.champion or "none",
            METRICS: metrics if len(metrics) <= _MAX_TAG else "see decision.json of the run",
            RUN: run_id,
        }
        return tags | ({REPLACED: self.champion or "none"} if self.outcome == "promoted" else {})


def record(store: MlflowClient, config: Config, decision: Decision) -> None:
    """Store ``decision`` as a run and as tags of its version."""
    name = f"{decision.outcome} {decision.name}/{decision.version}"
    parameters = {"version": decision.version, "champion": decision.champion}
    with tracking.run(config, name, parameters, store) as run_id:
        store.log_dict(run_id, decision.facts(), "decision.json")
        for result in decision.gate_results:
            store.log_metric(run_id, f"gain.{result.gate.metric}", result.gain.value)
    for key, value in decision.tags(run_id).items():
        store.set_model_version_tag(decision.name, decision.version, key, value)


def _plain(result: GateResult) -> dict[str, Any]:
    estimates = {name: asdict(getattr(result, name)) for name in ("champion", "candidate", "gain")}
    return {**result.gate.model_dump(), **estimates, "passed": result.passed}
