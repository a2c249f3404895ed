"""Small objects by name, below a directory or a URL of fsspec. Writes are atomic.

Names are ``<file>`` or ``<folder>/<file>``. A local file is written under a temporary name, synced and renamed. A URL
must name an object store (``s3://``, ``gs://``, ``memory://`` …), where an object is visible once it is complete; use a
path for file systems.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import fsspec
from fsspec.asyn import AsyncFileSystem

from components.errors import ConfigError

#: Suffix of unfinished files.
_PARTIAL = ".partial"
#: Seconds to connect and to wait for an answer.
_CONNECT_S, _READ_S = 5, 30
#: Seconds that writing an object may take.
_WRITE_S = 60
#: The same as options of fsspec's filesystems by protocol, unless fsspec's own configuration has the option.
_TIME_LIMITS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": _CONNECT_S, "read_timeout": _READ_S, "retries": {"max_attempts": 2}}},
    "gs": {"requests_timeout": (_CONNECT_S, _READ_S)},
}


class StoreUnavailableError(OSError):
    """The store does not answer, refuses, or has no room left; a retry may succeed."""


class ObjectStore(Protocol):
    """`read` and `age_s` of a missing object raise FileNotFoundError, whatever else fails `StoreUnavailableError`."""

    def write(self, name: str, content: bytes) -> None:
        """Write or replace the object ``name``."""
        ...

    def read(self, name: str) -> bytes: ...

    def discard(self, name: str) -> None:
        """Remove ``name`` if it exists."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """All names below ``folder``, including unfinished files."""
        ...

    def age_s(self, name: str) -> float:
        """Seconds since ``name`` was written."""
        ...

    def clear(self, folder: str) -> None:
        """Remove everything below ``folder`` except unfinished files, and the folder if it is empty then."""
        ...

    def remove_empty_folders(self, prefix: str) -> None:
        """Remove empty folders whose names begin with ``prefix``."""
        ...


def read_or_make(store: ObjectStore, name: str, make: Callable[[], bytes]) -> bytes:
    """The object ``name``; a missing one is made and written first."""
    try:
        return store.read(name)
    except FileNotFoundError:
        made = make()
    store.write(name, made)
    return made


def open_object_store(place: Path | str) -> ObjectStore:
    """The store below a local directory, which is created, or a URL.

    Raises:
        ConfigError: the URL's protocol is unknown, or its package is not installed.
    """
    plain = str(place).removeprefix("file://").removeprefix("local://")
    return RemoteObjectStore(plain) if "://" in plain else LocalObjectStore(Path(plain))


def below(place: Path | str, name: str) -> Path | str:
    """The place ``name`` in a local directory or URL."""
    return place / name if isinstance(place, Path) else f"{place.rstrip('/')}/{name}"


class LocalObjectStore:
    """Files in a directory that several processes share. A folder is removed with its last file."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root

    def write(self, name: str, content: bytes) -> None:
        path = self._root / name
        with _as_store_errors():
            while not _write(path, content):
                pass
            for folder in {path.parent, self._root}:  # new directory entries, too
                _sync(folder)

    def read(self, name: str) -> bytes:
        with _as_store_errors():
            return (self._root / name).read_bytes()

    def discard(self, name: str) -> None:
        path = self._root / name
        with _as_store_errors():
            path.unlink(missing_ok=True)
        if path.parent != self._root:
            _remove_if_empty(path.parent)

    def names(self, folder: str = "") -> list[str]:
        found = os.walk(self._root / folder)
        return [str((Path(inner) / file).relative_to(self._root)) for inner, _, files in found for file in files]

    def age_s(self, name: str) -> float:
        with _as_store_errors():
            return time.time() - (self._root / name).stat().st_mtime

    def clear(self, folder: str) -> None:
        while found := [name for name in self.names(folder) if not name.endswith(_PARTIAL)]:
            for name in found:
                self.discard(name)
        _remove_if_empty(self._root / folder)

    def remove_empty_folders(self, prefix: str) -> None:
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
        filesystem = self._filesystem
        # A connection's limits do not hold while a server is to say that it takes the content.
        limit = {"timeout": _WRITE_S} if isinstance(filesystem, AsyncFileSystem) else {}
        with _as_store_errors():
            filesystem.pipe_file(self._path(name), content, **limit)

    def read(self, name: str) -> bytes:
        with _as_store_errors():
            return bytes(self._filesystem.cat_file(self._path(name)))

    def discard(self, name: str) -> None:
        with suppress(FileNotFoundError), _as_store_errors():
            self._filesystem.rm_file(self._path(name))

    def names(self, folder: str = "") -> list[str]:
        with _as_store_errors():
            found = self._filesystem.find(self._path(folder).rstrip("/"))
        return [str(name)[len(self._path("")) :] for name in found]

    def age_s(self, name: str) -> float:
        with _as_store_errors():
            return time.time() - float(self._filesystem.modified(self._path(name)).timestamp())

    def clear(self, folder: str) -> None:
        while found := self.names(folder):
            for name in found:
                self.discard(name)

    def remove_empty_folders(self, prefix: str) -> None:
        """Object stores have no folders."""

    @property
    def _opened(self) -> tuple[fsspec.AbstractFileSystem, str]:
        """The filesystem, which fsspec keeps for each process and thread, and the store's path in it.

        Other processes write to the store: a listing that is kept would lack their objects.
        """
        protocol = self._url.partition("://")[0]
        own = fsspec.config.conf.get(protocol, {})
        limits = {name: value for name, value in _TIME_LIMITS.get(protocol, {}).items() if name not in own}
        filesystem, path = fsspec.core.url_to_fs(self._url, use_listings_cache=False, **limits)
        return filesystem, path

    @property
    def _filesystem(self) -> fsspec.AbstractFileSystem:
        return self._opened[0]

    def _path(self, name: str) -> str:
        return f"{self._opened[1].rstrip('/')}/{name}"


@contextmanager
def _as_store_errors() -> Iterator[None]:
    """Raise whatever fails, but for a missing object, as a `StoreUnavailableError`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreUnavailableError(error.errno, f"the store does not answer: {error.strerror or error}") from error
    except Exception as error:  # what the library of an object store raises depends on it
        raise StoreUnavailableError(f"the object store does not answer: {type(error).__name__}") from error


def _write(path: Path, content: bytes) -> bool:
    """Write ``path`` atomically; False if another process removed its folder, and the write must be repeated."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except (FileNotFoundError, FileExistsError):  # the latter: the folder was removed during mkdir
        if _is_file(path.parent):
            raise
        return False
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return True


def _is_file(folder: Path) -> bool:
    """Whether something other than a folder has its name, by one look: it may come and go between two."""
    try:
        return not stat.S_ISDIR(folder.stat().st_mode)
    except FileNotFoundError:
        return False


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # it is not empty, or another process removed it
        folder.rmdir()


def _sync(folder: Path) -> None:
    try:
        opened = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # the folder was removed
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
