"""Marks of files' content, by which a change is noticed: hashes of local files, what others' filesystems state."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import fsspec

from components.errors import DataError

logger = logging.getLogger(__name__)
_THREADS = 16
_CHUNK = 1 << 20
#: What filesystems call the version of a file's content, and the time of its last change.
_STATED = (
    ("ETag", "etag", "md5Hash", "content_md5", "generation"),
    ("LastModified", "last_modified", "mtime", "updated", "modified", "created"),
)


def hashes(open_file: Callable[[str], BinaryIO], files: list[str]) -> dict[str, str]:
    """Hash each file's bytes; one that cannot be read counts as its error's name."""

    def digest(file: str) -> str:
        try:
            with open_file(file) as stream:
                state = hashlib.sha256()
                while block := stream.read(_CHUNK):
                    state.update(block)
        except (OSError, DataError) as error:
            return type(error).__name__
        return state.hexdigest()[:16]

    return _of_each(digest, files)


def statements(filesystem: fsspec.AbstractFileSystem, path: Callable[[str], str], files: list[str]) -> dict[str, str]:
    """Hash what ``filesystem`` states about each file: size, and version or time of change."""

    def digest(file: str) -> str:
        try:
            stated = filesystem.info(path(file))
        except Exception as error:  # every filesystem has errors of its own
            return type(error).__name__
        return hashlib.sha256(repr((stated.get("size"), *_stated(stated))).encode()).hexdigest()[:16]

    filesystem.invalidate_cache()
    _list_folders(filesystem, path, files)
    return _of_each(digest, files)


def _stated(info: dict[str, Any]) -> list[str]:
    """The version if one is stated, else the time."""
    found = ([str(info[name]) for name in names if info.get(name) is not None] for names in _STATED)
    return next((values for values in found if values), [])


def _list_folders(filesystem: fsspec.AbstractFileSystem, path: Callable[[str], str], files: list[str]) -> None:
    """List folders that hold several of ``files``: object stores then know each file without being asked again."""
    counts: Counter[str] = Counter()
    for file in files:
        try:
            counts[path(file).rpartition("/")[0]] += 1
        except DataError:
            continue
    folders = [folder for folder, count in counts.items() if count > 1]

    def listed(folder: str) -> str:
        try:
            filesystem.ls(folder, detail=True)
        except Exception as error:  # as above; each file is then asked for
            logger.debug("%s cannot be listed: %s", folder, error)
        return folder

    _of_each(listed, folders)


def _of_each(mark: Callable[[str], str], names: list[str]) -> dict[str, str]:
    with ThreadPoolExecutor(_THREADS) as threads:
        return dict(zip(names, threads.map(mark, names), strict=True))
