"""The files of a source: below a local folder, or a URL of fsspec.

A picture below the root is named by an address: the path of a file, such as ``cats/1.jpg``, or a member of a container,
such as ``a.tar!1.jpg@512+20481``. `components.data.address` documents the grammar.
"""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import fsspec
import pyarrow as pa

from components.data.address import Cell, Span, parse
from components.data.cells import read_cell
from components.data.change_detection import hashes, metadata_hashes
from components.errors import DataError

_TOO_LARGE = "more bytes than data.max_bytes"


@dataclass(frozen=True)
class SourceFiles:
    """A root below which addresses are read. Small, so that it can be sent to every worker.

    ``url`` is an absolute folder, or a URL such as ``s3://bucket/pairs``. Credentials come from the environment, as
    the package of the URL's protocol documents it.
    """

    url: str
    #: Part of cache keys, so that no process returns cached values of a table that has changed since.
    opened: str = field(default_factory=lambda: uuid.uuid4().hex, compare=False, repr=False)

    @classmethod
    def at(cls, place: str | Path) -> SourceFiles:
        """The store at a local folder or a URL.

        Raises:
            DataError: the URL's protocol is unknown, or its package is not installed.
        """
        url = str(place).removeprefix("file://").removeprefix("local://")
        store = cls(url if "://" in url else os.path.realpath(url))
        _ = store.filesystem
        return store

    @property
    def local(self) -> bool:
        return "://" not in self.url

    @property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        return self._opened[0]

    @property
    def root(self) -> str:
        """The root's path in the filesystem, without a slash at its end."""
        return self.url.rstrip("/") if self.local else self._opened[1].rstrip("/")

    @property
    def _opened(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            return fsspec.core.url_to_fs(self.url)  # fsspec caches filesystems for each process and thread
        except (ImportError, ValueError) as error:
            raise DataError(
                f"{self.url} cannot be opened: {error} (its protocol needs a package of fsspec's)"
            ) from None

    def path(self, file: str) -> str:
        """The path of ``file`` in the filesystem, links followed.

        Raises:
            DataError: the path leaves the root.
        """
        inner = PurePosixPath(file)
        if not inner.parts or inner.is_absolute() or ".." in inner.parts or "\0" in file:
            raise DataError("the path leaves the source's folder")
        if not self.local:
            return f"{self.root}/{inner}"
        real = os.path.realpath(os.path.join(self.url, file))
        if not Path(real).is_relative_to(self.url):
            raise DataError("the path leaves the source's folder")
        return real

    def files(self) -> list[str]:
        """All files below the root, sorted by the parts of their paths; links to folders are not followed."""
        if self.local:
            found = (os.path.join(folder, name) for folder, _, names in os.walk(self.url) for name in names)
        else:
            found = self.filesystem.find(self.root)
        return sorted((name[len(self.root) + 1 :] for name in found), key=lambda name: name.replace("/", "\0"))

    def open(self, file: str) -> BinaryIO:
        """Open ``file`` for random access.

        Raises:
            DataError: its path leaves the root, or it is a pipe or a device.
            OSError: it cannot be opened.
        """
        path = self.path(file)
        if not self.local:
            return self.filesystem.open(path, "rb")
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise DataError("the file cannot be read: neither a file nor a folder")
        return open(path, "rb")

    def open_arrow(self, file: str) -> pa.NativeFile:
        """As `open`, for pyarrow: a local file is memory-mapped."""
        stream = self.open(file)
        if not self.local:
            return pa.PythonFile(stream, "r")
        with stream:
            return pa.memory_map(stream.name)

    def read(self, address: str, max_bytes: int | None = None) -> bytes:
        """The bytes at ``address``; of a container, only the necessary part is read.

        Raises:
            DataError: they cannot be read, or are more than ``max_bytes``; the message is the reason of a reject.
        """
        file, place = parse(address)
        with _reasons(self.local):
            if isinstance(place, Cell):
                return read_cell(_Table(self, self.opened, file), place, max_bytes)
            if isinstance(place, Span):
                return self._span(file, place, max_bytes)
            data = self._range(file, 0, None if max_bytes is None else max_bytes + 1)
        if max_bytes is not None and len(data) > max_bytes:
            raise DataError(_TOO_LARGE)
        return data

    def marks(self, addresses: Iterable[str]) -> dict[str, str]:
        """A fingerprint of the content at each address, for change detection.

        Local files are hashed; of remote files, the metadata. A member's mark is that of its container with its
        position. An unreadable file is marked with the name of its error.
        """
        return ContentMarks(self).of(addresses)

    @contextmanager
    def stream(self, file: str) -> Iterator[BinaryIO]:
        """Open ``file``, and close it.

        Raises:
            DataError: it cannot be opened or read; the message is the reason.
        """
        with _reasons(self.local), self.open(file) as stream:
            yield stream

    def _span(self, file: str, span: Span, max_bytes: int | None) -> bytes:
        if max_bytes is not None and span.size > max_bytes:
            raise DataError(_TOO_LARGE)
        data = self._range(file, span.start, span.size)
        if len(data) < span.size:
            raise DataError("the container is cut short")
        return data

    def _range(self, file: str, start: int, size: int | None) -> bytes:
        """At most ``size`` bytes of ``file`` from ``start`` on."""
        if not self.local:
            end = None if size is None else start + size
            return self.filesystem.cat_file(self.path(file), start=start, end=end)
        with self.open(file) as stream:
            stream.seek(start)
            return stream.read(-1 if size is None else size)


class ContentMarks:
    """The marks of a store's files, for a part of the addresses at a time.

    What parts share is found once: the marks of containers, which hold many rows, and remote folders.
    """

    def __init__(self, store: SourceFiles) -> None:
        self._store = store
        self._containers: dict[str, str] = {}
        self._listed: set[str] = set()

    def of(self, addresses: Iterable[str]) -> dict[str, str]:
        """See `SourceFiles.marks`."""
        store, containers = self._store, self._containers
        wanted = {address: parse(address) for address in addresses}
        files = sorted({file for file, _ in wanted.values()} - containers.keys())
        if store.local:
            found = hashes(store.open, files)
        else:
            found = metadata_hashes(store.filesystem, store.path, files, self._listed)
        containers |= {file: found[file] for file, place in wanted.values() if place is not None and file in found}
        marks = containers | found
        return {
            address: marks[file] if place is None else f"{marks[file]}!{place}"
            for address, (file, place) in wanted.items()
        }


@dataclass(frozen=True)
class _Table:
    """A container of cells, as a cache key of `read_cell`."""

    store: SourceFiles
    opened: str
    file: str

    def open(self) -> pa.NativeFile:
        return self.store.open_arrow(self.file)


@contextmanager
def _reasons(local: bool) -> Iterator[None]:
    """Turn errors of reading into a `DataError` without file names."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError("the file does not exist") from None
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror or type(error).__name__}") from None
    except Exception as error:
        # Remote filesystems raise errors of their own types; in a local one, another type is a bug.
        if local:
            raise
        raise DataError(f"the file cannot be read: {type(error).__name__}") from error
