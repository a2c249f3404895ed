"""Change detection: hashes of local files, and of the metadata of remote files."""

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
#: Names, in remote filesystems, of a file's content version and of its modification time.
_VERSION_FIELDS = (
    ("ETag", "etag", "md5Hash", "content_md5", "generation"),
    ("LastModified", "last_modified", "mtime", "updated", "modified", "created"),
)


def hashes(open_file: Callable[[str], BinaryIO], files: list[str]) -> dict[str, str]:
    """Hash each file's bytes; for an unreadable file, the name of its error."""

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


def metadata_hashes(
    filesystem: fsspec.AbstractFileSystem, path: Callable[[str], str], files: list[str], listed: set[str]
) -> dict[str, str]:
    """Hash the metadata of each file in ``filesystem``: size, and version or modification time.

    Args:
        listed: folders that were listed before, which is extended; while there are none, nothing cached is trusted.
    """

    def digest(file: str) -> str:
        try:
            info = filesystem.info(path(file))
        except Exception as error:  # every filesystem has its own error types
            return type(error).__name__
        return hashlib.sha256(repr((info.get("size"), *_version(info))).encode()).hexdigest()[:16]

    if not listed:
        filesystem.invalidate_cache()
    _list_folders(filesystem, path, files, listed)
    return _of_each(digest, files)


def _version(info: dict[str, Any]) -> list[str]:
    """The content version if there is one, else the modification time."""
    found = ([str(info[name]) for name in names if info.get(name) is not None] for names in _VERSION_FIELDS)
    return next((values for values in found if values), [])


def _list_folders(
    filesystem: fsspec.AbstractFileSystem, path: Callable[[str], str], files: list[str], listed: set[str]
) -> None:
    """List folders with several of ``files``, to fill the cache of object stores by one request each."""
    counts: Counter[str] = Counter()
    for file in files:
        try:
            counts[path(file).rpartition("/")[0]] += 1
        except DataError:
            continue
    folders = [folder for folder, count in counts.items() if count > 1 and folder not in listed]
    listed.update(folders)

    def list_one(folder: str) -> str:
        try:
            filesystem.ls(folder, detail=True)
        except Exception as error:  # as above; the files are then queried one by one
            logger.debug("%s cannot be listed: %s", folder, error)
        return folder

    _of_each(list_one, folders)


def _of_each(mark: Callable[[str], str], names: list[str]) -> dict[str, str]:
    with ThreadPoolExecutor(_THREADS) as threads:
        return dict(zip(names, threads.map(mark, names), strict=True))
