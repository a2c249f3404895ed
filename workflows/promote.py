"""Compare a version with the champion on the same prompts and seeds, and promote it; or roll the champion back."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from components.config import Config
from components.evaluation.scores import measure
from components.registry import promotion, versions
from components.registry.decisions import Decision

#: Exit status of a promotion that a gate refused.
REFUSED = 3


def run(config: Config, version: int | None = None, rollback: bool = False) -> None:
    """Promote ``version``, the newest by default, if it passes `registry.gates`; with ``rollback`` go one back.

    Raises:
        SystemExit: the version was refused (status 3), so that a script can tell.
    """
    if rollback:
        decision = promotion.roll_back(config)
    else:
        uri = None if version is None else f"models:/{config.registry.model}/{version}"
        candidate = versions.newest(config) if uri is None else versions.resolve(config, uri)
        decision = promotion.promote(config, candidate, lambda one: measure(config, one.path))
    _show(decision, config.registry.alias)
    if decision.outcome == "refused":
        raise SystemExit(REFUSED)


def _show(decision: Decision, alias: str) -> None:
    console = Console()
    if decision.gate_results:
        table = Table(title=f"version {decision.version} against @{alias}, version {decision.champion}")
        for column in ("metric", f"@{alias}", "candidate", "gain", "at least", "passed"):
            table.add_column(column)
        for result in decision.gate_results:
            gate = result.gate
            estimates = (str(e) for e in (result.champion, result.candidate, result.gain))
            table.add_row(gate.metric, *estimates, f"{gate.min_delta:+.3f}", "yes" if result.passed else "no")
        console.print(table)
    console.print(str(decision), soft_wrap=True, markup=False, highlight=False)


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
