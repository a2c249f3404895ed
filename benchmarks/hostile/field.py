"""The inputs from the field: each with its right value."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.hostile import field_data, field_uploads
from benchmarks.hostile.service import Studio
from components.errors import ConfigError


def write_inputs(field: Path, folder: Path) -> None:
    """Write the inputs below ``folder``.

    Raises:
        ConfigError: ``field`` has no ``make_inputs.py``.
    """
    script = field / "make_inputs.py"
    if not script.exists():
        raise ConfigError(f"the part 'field' needs {script}: name its folder with --field, or leave it out with --only")
    subprocess.run([sys.executable, str(script), str(folder)], check=True)


async def uploads(studio: Studio, folder: Path) -> dict[str, str]:
    """What is wrong with each input that is sent to the service; empty for those that are right."""
    found: dict[str, str] = {}
    async with studio.client() as client:
        for name, check in field_uploads.CHECKS.items():
            try:
                found[name] = await check(client, folder)
            except Exception as error:  # of one check; the others are still of interest
                found[name] = f"{type(error).__name__}: {error}"
    return found


def others(folder: Path, work: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, check in field_data.CHECKS.items():
        try:
            found[name] = check(folder, work)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def field_figures(found: dict[str, str]) -> dict[str, Any]:
    """The number of inputs that were tried, and what is wrong with those that are not right."""
    wrong = {name: said for name, said in found.items() if said}
    return {"field_inputs": len(found), "field_failures": len(wrong), "field": wrong}
