"""``python -m workflows.<stage>``: the command line of one stage, above `workflows.cli`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from workflows.cli import app


def main(run: Callable[..., None]) -> None:
    """Parse the same command line as ``realcustom <stage>``.

    The command runs ``workflows.<stage>.run`` as imported by that name, never as ``__main__.run``, so that Ray's
    workers find its classes where the driver has them.
    """
    stage = Path(inspect.getfile(run)).stem
    app([stage, *sys.argv[1:]], prog_name="realcustom")
