"""Output of libraries in a log file, and of this project in the terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from components.config import PACKAGE_ROOT

PROGRAM = """
import logging, os, sys, warnings
from pathlib import Path
from components.progress import track
from components.terminal import output_in_log

logging.basicConfig(level=logging.INFO, format="%(message)s")
print("before")
with output_in_log(Path(sys.argv[1])) as terminal:
    print("printed by a library")
    print("an error of a library", file=sys.stderr)
    os.write(2, b"native code\\n")
    os.system("echo a child process")
    logging.getLogger("ray.serve").warning("a replica started")
    logging.getLogger("workflows.train").info("step 5")
    warnings.warn("deprecated")
    list(track(range(2), "draw"))
    print("1/6 draw", file=terminal.out)
    if sys.argv[2] == "fail":
        raise RuntimeError("a bug")
print("after")
"""


def _run(log: Path, how: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(log), how]
    return subprocess.run(command, cwd=PACKAGE_ROOT, capture_output=True, text=True)


def test_only_our_own_lines_reach_the_terminal(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "run.log"
    result = _run(log, "succeed")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["before", "1/6 draw", "after"]
    assert result.stderr.splitlines() == ["step 5", "draw 1/2", "draw 2/2"]
    written = log.read_text()
    for text in ("printed by a library", "an error of", "native code", "a child process", "a replica", "deprecated"):
        assert text in written


def test_a_failure_is_shown_in_the_terminal(tmp_path: Path) -> None:
    result = _run(tmp_path / "run.log", "fail")
    assert result.returncode == 1
    assert "RuntimeError: a bug" in result.stderr and "a replica" not in result.stderr
    assert "RuntimeError" not in (tmp_path / "run.log").read_text()
