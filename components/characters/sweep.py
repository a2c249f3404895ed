"""Removes what processes that died have left: files that no row names any more, or none ever did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from components.object_store import ObjectStore

#: Folders that are compared with the database at a time.
_CHUNK = 500

#: Maps the ids of folders, and the names of the files in them, to the names that rows stand for.
Wanted = Callable[[Sequence[str], Sequence[str]], set[str]]


def sweep(blobs: ObjectStore, kind: str, wanted: Wanted, older_than_s: float) -> int:
    """Remove the files in folders ``<kind>-…`` that are not wanted and too old to be in the making.

    Returns:
        How many.
    """
    removed = 0
    for folders, names in _chunks(blobs.names(), kind):
        keep = wanted(folders, names)
        for name in names:
            if name not in keep and _is_old(blobs, name, older_than_s):
                blobs.discard(name)
                removed += 1
    blobs.tidy(f"{kind}-")
    return removed


def _chunks(names: Sequence[str], kind: str) -> Iterator[tuple[list[str], list[str]]]:
    """Some folders, and the names of the files in them, at a time; hidden folders are of an earlier release."""
    own = sorted(name for name in names if "/" in name and name.startswith((f"{kind}-", f".{kind}-")))
    folders: list[str] = []
    files: list[str] = []
    for folder, inside in groupby(own, key=lambda name: name.partition("/")[0]):
        folders.append(folder)
        files.extend(inside)
        if len(folders) == _CHUNK:
            yield folders, files
            folders, files = [], []
    if folders:
        yield folders, files


def _is_old(blobs: ObjectStore, name: str, older_than_s: float) -> bool:
    try:
        return blobs.age_s(name) >= older_than_s
    except FileNotFoundError:  # another process was quicker
        return False
