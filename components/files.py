"""Directories and small files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """A hidden sibling to write into; it takes the place of ``directory`` when the block ends without an error."""
    staging = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        replace_directory(staging, directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_whole(file: Path, text: str) -> None:
    """Write ``text`` in the place of what ``file`` held; a reader sees the old text or the new one."""
    partial = file.with_suffix(".partial")
    partial.write_text(text)
    os.replace(partial, file)


def replace_directory(staging: Path, directory: Path) -> None:
    """Put ``staging`` in the place of ``directory``; a reader sees the old one or the new one, never a part."""
    old = directory.with_name(f".{directory.name}.{os.getpid()}.old")
    if directory.exists():
        directory.rename(old)
    staging.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
