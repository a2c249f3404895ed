"""A full disk as an error with a remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.errors import DataError


@contextmanager
def report_full_disk(directory: Path, field: str = "data.output") -> Iterator[None]:
    """Turn a full disk of ``directory``, which ``field`` names, into an error with a remedy.

    Raises:
        DataError: no space is left.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(
            f"{field}: no space left for {directory}: free some and run again; finished work is kept"
        ) from error
