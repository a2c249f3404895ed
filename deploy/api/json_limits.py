"""Limits of a JSON body's structure, checked in one pass over its bytes before anything is built of it.

A validator collects an error for each unknown key, and a parser builds an object for each value: a few megabytes of
either would hold up every other request. What is counted here is what makes a body costly: its nesting, and its commas
and colons, which is to say its values.
"""

from __future__ import annotations

import re

#: The deepest body of this service has five levels.
MAX_DEPTH = 32
#: Bodies with lists of panels have the most values; none has a tenth of this.
MAX_VALUES = 100_000
#: A string, so that nothing within it counts, or one character that does.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]', re.DOTALL)
