"""Removal of orphaned files, which crashed processes leave behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from components.object_store import ObjectStore

#: Folders that are checked by one database query.
_CHUNK = 500

#: Maps the ids of folders, and the names of the files in them, to the names that rows refer to.
Wanted = Callable[[Sequence[str], Sequence[str]], set[str]]


def sweep(objects: ObjectStore, kind: str, wanted: Wanted, older_than_s: float) -> int:
    """Remove files of folders ``<kind>-…`` that are not wanted and older than ``older_than_s``; returns how many."""
    removed = 0
    for folders, names in _chunks(objects.names(), kind):
        keep = wanted(folders, names)
        for name in names:
            if name not in keep and _is_old(objects, name, older_than_s):
                objects.discard(name)
                removed += 1
    objects.remove_empty_folders(f"{kind}-")
    return removed


def _chunks(names: Sequence[str], kind: str) -> Iterator[tuple[list[str], list[str]]]:
    """Chunks of folders and the names of their files; hidden folders come from an earlier release."""
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


def _is_old(objects: ObjectStore, name: str, older_than_s: float) -> bool:
    try:
        return objects.age_s(name) >= older_than_s
    except FileNotFoundError:  # another process removed it
        return False
