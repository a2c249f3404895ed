"""Splits a pasted script into panels, one per line."""

from __future__ import annotations

import re

#: Bullets and numbers at the start of a line.
_MARK = re.compile(r"^\s*(?:[-*•]\s+|\(?\d{1,3}[.):]\s+)")
_BREAKS = re.compile(r"\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")


def split_script(script: str) -> list[str]:
    """The non-empty lines of a script, without leading bullets and numbers."""
    lines = (_MARK.sub("", line, count=1).strip() for line in _BREAKS.split(script))
    return [line for line in lines if line]
