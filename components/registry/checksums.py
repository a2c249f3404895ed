"""Checksums of a directory, stored in it, to verify copies."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath

from components.errors import RegistryError

#: JSON file: path below the directory -> sha256.
NAME = "checksums.json"


def write_checksums(root: Path) -> str:
    """Write the checksums of all files below ``root`` to `NAME`; returns the sha256 of that file."""
    files = sorted(file for file in root.rglob("*") if file.is_file() and file != root / NAME)
    sums = {file.relative_to(root).as_posix(): sha256(file) for file in files}
    (root / NAME).write_text(json.dumps(sums, indent=1))
    return sha256(root / NAME)


def check_files(root: Path, expected: str | None = None) -> None:
    """Verify all listed files. Files that are not listed are ignored.

    Args:
        expected: the sha256 of the list, if known.

    Raises:
        RegistryError: a file is missing or was changed; the message names it.
    """
    listing = root / NAME
    if not listing.is_file() or expected not in (None, sha256(listing)):
        raise RegistryError(_fault(listing))
    for name, digest in _listed(listing).items():
        file = root / name
        if not file.is_file() or sha256(file) != digest:
            raise RegistryError(_fault(file))


def sha256(file: Path) -> str:
    """The sha256 of a file's content, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _listed(listing: Path) -> dict[str, str]:
    try:
        sums = json.loads(listing.read_text())
        sound = all(isinstance(d, str) and not PurePosixPath(n).is_absolute() for n, d in sums.items())
    except (ValueError, AttributeError):
        sound = False
    if not sound:
        raise RegistryError(_fault(listing))
    return dict(sums)


def _fault(file: Path) -> str:
    what = "does not match its sha256" if file.is_file() else "is missing"
    return f"{file} {what}: restore it from a backup, or register the adapter again"
