"""Line breaking: between words, and between characters of scripts without spaces."""

from __future__ import annotations

import re
from collections.abc import Callable

from components.config import PACKAGE_ROOT

#: Has Latin, Greek, Cyrillic and Chinese.
FONT_FILE = PACKAGE_ROOT / "components/stories/fonts/NotoSansSC-Story.ttf"
_IDEOGRAPH = "\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff"
#: Unbreakable units: a run of non-ideographs, or an ideograph with punctuation that must not start a line.
_UNIT = re.compile(f"[ \t]+|[{_IDEOGRAPH}][、。，．！？；：）」』】》…]*|[^ \t{_IDEOGRAPH}]+")


def wrap_text(text: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """Break ``text`` into lines of at most ``width``; a wider unit is broken between any characters.

    Args:
        measure: returns the width of a text.
    """
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for unit in _UNIT.findall(paragraph):
            if measure((line + unit).rstrip()) <= width:
                line += unit
                continue
            if line.strip():
                lines.append(line.rstrip())
            line = unit.lstrip()
            while measure(line) > width and len(line) > 1:
                fits = next((n for n in range(len(line) - 1, 1, -1) if measure(line[:n]) <= width), 1)
                lines.append(line[:fits])
                line = line[fits:]
        lines.append(line.rstrip())
    return lines


def shorten(lines: list[str], most: int) -> list[str]:
    """The first ``most`` lines; the last one ends in an ellipsis if lines were dropped."""
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1].rstrip() + " …"]
