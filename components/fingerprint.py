"""Fingerprints: short hashes of inputs and settings, by which finished work is recognised and reused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def fingerprint(facts: Any) -> str:
    """Hash JSON-serialisable ``facts`` to 16 hexadecimal digits, independent of the order of keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint_each(items: Iterable[Any]) -> str:
    """`fingerprint` of a list of ``items``, of which one at a time is in memory; the value is not that of a list."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(item, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()[:16]


def digest_files(root: Path, names: Iterable[str]) -> str:
    """Hash names and contents of files below ``root``; for an unreadable file, the name of its error."""
    digest = hashlib.sha256()
    for name in sorted(set(names)):
        digest.update(f"\0{name}\0".encode())
        try:
            with (root / name).open("rb") as stream:
                while block := stream.read(_CHUNK):
                    digest.update(block)
        except OSError as error:
            digest.update(type(error).__name__.encode())
    return digest.hexdigest()[:16]
