"""``python -m workflows.<stage>``: the command line of one stage, the same as ``realcustom <stage>``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from workflows.cli import app


def main(run: Callable[..., None]) -> None:
    """Parse the same command line as ``realcustom <stage>``.

    The command calls ``run`` of the module ``workflows.<stage>``, not of ``__main__``: Ray's workers import classes
    by the name of their module.
    """
    stage = Path(inspect.getfile(run)).stem
    app([stage, *sys.argv[1:]], prog_name="realcustom")
