"""A script as people paste it: a line a panel."""

from __future__ import annotations

import re

#: What people number or mark their lines with.
_MARK = re.compile(r"^\s*(?:[-*•]\s+|\(?\d{1,3}[.):]\s+)")
_BREAKS = re.compile(r"\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")


def split_script(script: str) -> list[str]:
    """The prompts of a script: its lines without bullets and numbers in front; empty lines are left out."""
    lines = (_MARK.sub("", line, count=1).strip() for line in _BREAKS.split(script))
    return [line for line in lines if line]
