"""Promotion gates: comparison of a candidate with the champion on the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.config import GateConfig
from components.errors import ConfigError
from components.evaluation.scores import Scores, difference
from components.evaluation.statistics import Estimate


@dataclass(frozen=True)
class GateResult:
    """The result of a gate: the paired ``gain`` of the candidate and the mean of each model, with intervals."""

    gate: GateConfig
    champion: Estimate
    candidate: Estimate
    gain: Estimate

    @property
    def passed(self) -> bool:
        return self.gain.low >= self.gate.min_delta

    def __str__(self) -> str:
        gain = self.gain
        return (
            f"{self.gate.metric} {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] "
            f"{'reaches' if self.passed else 'may be below'} {self.gate.min_delta:+.3f}"
        )


def evaluate_gates(gates: Sequence[GateConfig], champion: Scores, candidate: Scores) -> list[GateResult]:
    """The result of each gate, in order.

    Raises:
        ConfigError: there is no gate, or the benchmark has not its metric.
        ValueError: the scores are not of the same cases.
    """
    if not gates:
        raise ConfigError("registry.gates: it is empty; give a list of metrics")
    return [
        GateResult(
            gate,
            champion.estimate(gate.metric, gate.confidence),
            candidate.estimate(gate.metric, gate.confidence),
            difference(champion, candidate, gate.metric, gate.confidence),
        )
        for gate in gates
    ]
