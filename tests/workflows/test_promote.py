"""`realcustom promote` ends with a status that says what was decided."""

from __future__ import annotations

from typing import get_args

import pytest
from typer.testing import CliRunner

from components.config import Config
from components.registry import promotion, versions
from components.registry.decisions import Decision, Outcome
from workflows.cli import app


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_only_a_refused_candidate_ends_with_status_3(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    def decide(config: Config, *arguments: object) -> Decision:
        return Decision("realcustom-tiny", "2", outcome, "1", "against version 1")

    monkeypatch.setattr(promotion, "promote", decide)
    monkeypatch.setattr(promotion, "roll_back", decide)
    monkeypatch.setattr(versions, "newest", lambda config: None)
    rollback = ["--rollback"] if outcome == "restored" else []
    result = CliRunner().invoke(app, ["promote", *rollback])
    assert result.exit_code == (3 if outcome == "refused" else 0)
    assert f"models:/realcustom-tiny/2 {outcome}: against version 1" in result.stdout
