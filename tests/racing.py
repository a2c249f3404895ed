"""Two processes that promote at the same time, in whatever store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from components.config import PACKAGE_ROOT, Config, GateConfig
from components.registry import promotion, tracking
from components.registry.versions import ModelVersion

#: What the racers are judged by. The two candidates are equally good: only who comes first passes the first gate.
GATES = (GateConfig(metric="similarity", min_delta=0.01), GateConfig(metric="text_control", min_delta=-0.03))

_RACER = """
import sys, time
from pathlib import Path
import numpy as np
from components.config import Config
from components.evaluation.scores import Scores
from components.registry import promotion, versions

config = Config.model_validate_json(open(sys.argv[1]).read())
names = tuple(map(str, range(20)))
values = {"1": 0.4, "2": 0.5, "3": 0.5}
ready = [Path(sys.argv[3]) / f"ready-{version}" for version in "23"]

def score(version):
    (Path(sys.argv[3]) / f"ready-{sys.argv[2]}").touch()
    deadline = time.monotonic() + 120
    while not all(file.exists() for file in ready):  # until both have read who the champion is
        assert time.monotonic() < deadline
        time.sleep(0.01)
    noise = np.random.default_rng(0).normal(size=20)
    return Scores(names, names, {"similarity": noise + values[version.version], "text_control": noise})

candidate = versions.resolve(config, f"models:/{config.registry.model}/{sys.argv[2]}")
decision = promotion.promote(config, candidate, score)
print(decision.outcome, decision.champion)
"""


def race(config: Config, first: ModelVersion, folder: Path) -> None:
    """Make version 1 champion, let versions 2 and 3 challenge it at once, and see that one is judged by the other."""
    promotion.appoint(config, first, "to begin with")
    registry = config.registry.model_copy(update={"gates": GATES, "lock_timeout_s": 120})
    (folder / "config.json").write_text(config.model_copy(update={"registry": registry}).model_dump_json())
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, str(folder / "config.json"), version, str(folder)],
            cwd=PACKAGE_ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for version in ("2", "3")
    ]
    said = [racer.communicate(timeout=300)[0].split()[-2:] for racer in racers]
    winner = said.index(["promoted", "1"])
    assert said[1 - winner] == ["refused", str(winner + 2)]
    found = tracking.client(config.registry).get_registered_model(config.registry.model)
    aliases = {alias: str(version) for alias, version in found.aliases.items()}
    assert aliases == {"champion": str(winner + 2), "previous": "1"}
    assert found.tags["promotion.number"] == "2"  # the appointed one and the winner
