"""Checksums of a directory: written beside its files, so that whoever copies it can tell that all arrived unchanged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath

from components.errors import RegistryError

#: Maps each file, by its path below the directory, to its sha256.
NAME = "checksums.json"


def write_checksums(root: Path) -> str:
    """List every file below ``root`` in `NAME`; returns the list's own sha256."""
    files = sorted(file for file in root.rglob("*") if file.is_file() and file != root / NAME)
    sums = {file.relative_to(root).as_posix(): sha256(file) for file in files}
    (root / NAME).write_text(json.dumps(sums, indent=1))
    return sha256(root / NAME)


def check_files(root: Path, expected: str | None = None) -> None:
    """See that every listed file is there, as it was listed. Files that came later are nobody's business.

    Args:
        expected: the list's own sha256, where it is known.

    Raises:
        RegistryError: a file is missing or was changed; it is named.
    """
    listing = root / NAME
    if not listing.is_file() or expected not in (None, sha256(listing)):
        raise RegistryError(_fault(listing))
    for name, digest in _listed(listing).items():
        file = root / name
        if not file.is_file() or sha256(file) != digest:
            raise RegistryError(_fault(file))


def sha256(file: Path) -> str:
    """Of the file's content, in hexadecimal digits."""
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
