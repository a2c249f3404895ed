"""Directories and files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """A hidden sibling to write into; it takes the place of ``directory`` when the block ends without an error.

    Everything else in ``directory`` is deleted: use `adding_files` for a directory that holds other files.
    """
    staging = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        replace_directory(staging, directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def adding_files(directory: Path, last: str | None = None) -> Iterator[Path]:
    """A hidden subdirectory to write into; its files move into ``directory`` when the block ends without an error.

    Each file is renamed into its place, so a reader sees the old file or the new one. Other files stay.

    Args:
        last: name of the file that moves after all others, by which a reader can tell that the rest is complete.
    """
    directory.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".", suffix=".partial", dir=directory))
    try:
        yield staging
        files = sorted(file.relative_to(staging) for file in staging.rglob("*") if file.is_file())
        for file in sorted(files, key=lambda file: str(file) == last):
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / file, directory / file)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def replacing_file(file: Path) -> Iterator[Path]:
    """A hidden sibling to write; it takes the place of ``file`` when the block ends without an error."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        yield partial
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(file: Path, text: str) -> None:
    """Write ``text`` in UTF-8 in the place of what ``file`` held; a reader sees the old text or the new one."""
    with replacing_file(file) as partial:
        partial.write_text(text, encoding="utf-8")


def replace_directory(staging: Path, directory: Path) -> None:
    """Put ``staging`` in the place of ``directory``; a reader sees the old one or the new one, never a part."""
    old = directory.with_name(f".{directory.name}.{os.getpid()}.old")
    if directory.exists():
        directory.rename(old)
    staging.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
