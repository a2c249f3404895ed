"""Small files by name, below a directory or a URL of fsspec's; each is there whole or not at all.

Names are ``<file>`` or ``<folder>/<file>``. A local file is written beside its place, renamed, and on the disk when
`write` returns. Behind a URL is an object store (``s3://``, ``gs://``, ``memory://`` …), which shows an object once all
of it has arrived; file systems that show files while they grow are reached by a path.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import fsspec

from components.errors import ConfigError

#: How names of half-written files end.
_PARTIAL = ".partial"


class ObjectStore(Protocol):
    """Reading or dating what is not there raises FileNotFoundError."""

    def write(self, name: str, content: bytes) -> None:
        """Put ``content`` in the place of what ``name`` held."""
        ...

    def read(self, name: str) -> bytes: ...

    def discard(self, name: str) -> None:
        """Remove ``name``, if it is there."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """All names below ``folder``, those of half-written files too."""
        ...

    def age_s(self, name: str) -> float:
        """Seconds since ``name`` was written."""
        ...

    def clear(self, folder: str) -> None:
        """Remove everything below ``folder``, and the folder; what somebody is just writing there is theirs."""
        ...

    def tidy(self, prefix: str) -> None:
        """Remove empty folders whose names begin with ``prefix``."""
        ...


def open_object_store(place: Path | str) -> ObjectStore:
    """The blobs below a local directory, which is made, or a URL.

    Raises:
        ConfigError: the URL's protocol is unknown, or its package is not installed.
    """
    plain = str(place).removeprefix("file://").removeprefix("local://")
    return RemoteObjectStore(plain) if "://" in plain else LocalObjectStore(Path(plain))


def below(place: Path | str, name: str) -> Path | str:
    """The place ``name`` in a local directory or URL."""
    return place / name if isinstance(place, Path) else f"{place.rstrip('/')}/{name}"


class LocalObjectStore:
    """Files in a directory that several processes share. A folder goes with its last file."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root

    def write(self, name: str, content: bytes) -> None:
        path = self._root / name
        while not _write(path, content):
            pass
        for folder in {path.parent, self._root}:  # the new names, too
            _sync(folder)

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def discard(self, name: str) -> None:
        path = self._root / name
        path.unlink(missing_ok=True)
        if path.parent != self._root:
            _remove_if_empty(path.parent)

    def names(self, folder: str = "") -> list[str]:
        found = os.walk(self._root / folder)
        return [str((Path(inner) / file).relative_to(self._root)) for inner, _, files in found for file in files]

    def age_s(self, name: str) -> float:
        return time.time() - (self._root / name).stat().st_mtime

    def clear(self, folder: str) -> None:
        while found := [name for name in self.names(folder) if not name.endswith(_PARTIAL)]:
            for name in found:
                self.discard(name)
        _remove_if_empty(self._root / folder)

    def tidy(self, prefix: str) -> None:
        for folder in self._root.iterdir():
            if folder.name.startswith(prefix):
                _remove_if_empty(folder)


class RemoteObjectStore:
    """Objects behind a URL. Credentials come from the environment, as the package of its protocol documents it."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") if not url.endswith("://") else url
        try:
            _ = self._filesystem
        except (ImportError, ValueError) as error:
            raise ConfigError(f"{url} cannot be opened: {error} (its protocol needs a package of fsspec's)") from None

    def write(self, name: str, content: bytes) -> None:
        self._filesystem.pipe_file(self._path(name), content)

    def read(self, name: str) -> bytes:
        return bytes(self._filesystem.cat_file(self._path(name)))

    def discard(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._filesystem.rm_file(self._path(name))

    def names(self, folder: str = "") -> list[str]:
        filesystem = self._filesystem
        filesystem.invalidate_cache()  # other processes write, too
        return [str(name)[len(self._path("")) :] for name in filesystem.find(self._path(folder).rstrip("/"))]

    def age_s(self, name: str) -> float:
        return time.time() - float(self._filesystem.modified(self._path(name)).timestamp())

    def clear(self, folder: str) -> None:
        while found := self.names(folder):
            for name in found:
                self.discard(name)

    def tidy(self, prefix: str) -> None:
        """Object stores have no folders."""

    @property
    def _filesystem(self) -> fsspec.AbstractFileSystem:
        return fsspec.core.url_to_fs(self._url)[0]  # fsspec keeps filesystems, one for each process and thread

    def _path(self, name: str) -> str:
        return f"{fsspec.core.url_to_fs(self._url)[1].rstrip('/')}/{name}"


def _write(path: Path, content: bytes) -> bool:
    """Write ``path`` whole; False if somebody has cleared its folder meanwhile, and it is to be done again."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except (FileNotFoundError, FileExistsError):  # the latter: it was there, and is gone before mkdir looks again
        if path.parent.exists() and not path.parent.is_dir():
            raise
        return False
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return True


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # it is not empty, or another process was quicker
        folder.rmdir()


def _sync(folder: Path) -> None:
    try:
        opened = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # what was written is removed already
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
