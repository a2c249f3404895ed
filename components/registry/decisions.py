"""Decisions about versions: what was decided, when, why and against whom, kept where the version is.

A version's tags hold its latest decision, short enough for any store; a run of its own holds each one in full, as
``decision.json``, with the configuration that it was taken under.
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
#: Longest tag; stores differ in what they take, and this is less than any of them does.
_LONGEST = 1000

Outcome = Literal["promoted", "refused", "rolled back", "restored", "kept"]


@dataclass(frozen=True)
class Decision:
    """What was decided about ``version`` of the model ``name``; ``champion`` is whom it was compared with, if anyone.

    Of a version that was rolled back, or restored, ``champion`` is the other one of the two.
    """

    name: str
    version: str
    outcome: Outcome
    champion: str | None
    reason: str
    verdicts: Sequence[GateResult] = ()
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def __str__(self) -> str:
        return f"models:/{self.name}/{self.version} {self.outcome}: {self.reason}"

    def facts(self) -> dict[str, Any]:
        """All of it, as JSON takes it."""
        plain = {name: getattr(self, name) for name in ("name", "version", "outcome", "champion", "reason", "time")}
        return plain | {"gates": [_plain(verdict) for verdict in self.verdicts]}

    def tags(self, run_id: str) -> dict[str, str]:
        """All of it that fits into tags; ``run_id`` holds the rest."""
        gains = {v.gate.metric: [round(x, 4) for x in (v.gain.value, v.gain.low, v.gain.high)] for v in self.verdicts}
        metrics = json.dumps(gains)
        tags = {
            DECISION: self.outcome,
            TIME: self.time,
            REASON: self.reason if len(self.reason) <= _LONGEST else self.reason[: _LONGEST - 1] + "…",
            COMPARED: self.champion or "none",
            METRICS: metrics if len(metrics) <= _LONGEST else "see decision.json of the run",
            RUN: run_id,
        }
        return tags | ({REPLACED: self.champion or "none"} if self.outcome == "promoted" else {})


def record(store: MlflowClient, config: Config, decision: Decision) -> None:
    """Keep ``decision`` as a run of its own and on the version that it is about."""
    name = f"{decision.outcome} {decision.name}/{decision.version}"
    parameters = {"version": decision.version, "champion": decision.champion}
    with tracking.run(config, name, parameters, store) as run_id:
        store.log_dict(run_id, decision.facts(), "decision.json")
        for verdict in decision.verdicts:
            store.log_metric(run_id, f"gain.{verdict.gate.metric}", verdict.gain.value)
    for key, value in decision.tags(run_id).items():
        store.set_model_version_tag(decision.name, decision.version, key, value)


def _plain(verdict: GateResult) -> dict[str, Any]:
    estimates = {name: asdict(getattr(verdict, name)) for name in ("champion", "candidate", "gain")}
    return {**verdict.gate.model_dump(), **estimates, "passed": verdict.passed}
