"""Options that name LoRAs and controls of the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.client import Control
from components.errors import DataError

LORA_HELP = "LoRA that model.loras names, with its weight: ink, or ink=0.8. Repeatable."
CONTROL_HELP = "Control that model.controls names, and the picture that it follows, as pose=pose.png."


def read_loras(texts: Sequence[str] | None) -> dict[str, float]:
    """The weights of options ``--lora`` by name.

    Raises:
        DataError: one is neither ``NAME`` nor ``NAME=WEIGHT``, or a name is given twice.
    """
    weights: dict[str, float] = {}
    for text in texts or ():
        name, separator, weight = text.partition("=")
        if not name or name in weights:
            raise DataError(f"--lora {text}: name each LoRA once, as ink=0.8")
        try:
            weights[name] = float(weight) if separator else 1.0
        except ValueError:
            raise DataError(f"--lora {text}: its weight is no number: write ink=0.8") from None
    return weights


def read_control(text: str | None, scale: float, start: float, end: float) -> Control | None:
    """The control of an option ``--control``.

    Raises:
        DataError: it is not ``NAME=PICTURE``, or ``start`` is not less than ``end``.
    """
    if text is None:
        return None
    name, _, picture = text.partition("=")
    if not name or not picture:
        raise DataError(f"--control {text}: write the name and the picture, as pose=pose.png")
    if start >= end:
        raise DataError("--control-start, --control-end: the start must be less than the end")
    return Control(name, Path(picture), scale, start, end)
