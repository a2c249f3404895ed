"""The lock for changing the champion of a model, across processes and machines.

It depends on the store:

* SQLite: a file lock beside the database, which the operating system releases when its process ends. It works across
  machines if SQLite does, on a shared filesystem with locks.
* PostgreSQL: an advisory lock of a separate connection, which the server releases when the connection ends.
* others, such as a tracking server over HTTP: a lease (`components.registry.lease`).
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import filelock
import sqlalchemy
from mlflow import MlflowClient
from sqlalchemy.pool import NullPool

from components.config import RegistryConfig
from components.errors import RegistryError
from components.registry import tracking
from components.registry.lease import hold_lease

#: Raises `RegistryError` if the lock was lost; called before every write.
Check = Callable[[], None]


def promotion_lock(registry: RegistryConfig, store: MlflowClient | None = None) -> AbstractContextManager[Check]:
    """Hold the lock for the length of the block; yields a `Check`.

    Args:
        store: the process's client, where there is one.

    Raises:
        RegistryError: it was not free within `registry.lock_timeout_s`.
    """
    uri = registry.absolute_uri
    if uri.startswith("sqlite:///"):
        return _file_lock(uri.removeprefix("sqlite:///"), registry)
    if uri.startswith("postgresql"):
        return _advisory_lock(uri, registry)
    return hold_lease(store or tracking.client(registry), registry.model, registry.lock_timeout_s)


@contextmanager
def _file_lock(database: str, registry: RegistryConfig) -> Iterator[Check]:
    name = hashlib.sha256(registry.model.encode()).hexdigest()[:12]
    try:
        with filelock.FileLock(f"{database}.{name}.lock", timeout=registry.lock_timeout_s):
            yield _still_held
    except filelock.Timeout:
        raise _busy(registry) from None


def _still_held() -> None:
    """A running process does not lose its file locks."""


@contextmanager
def _advisory_lock(uri: str, registry: RegistryConfig) -> Iterator[Check]:
    key = int.from_bytes(hashlib.sha256(f"realcustom {registry.model}".encode()).digest()[:8], signed=True)
    engine = sqlalchemy.create_engine(uri, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:

        def check() -> None:
            try:
                connection.execute(sqlalchemy.text("SELECT 1"))
            except sqlalchemy.exc.DBAPIError:
                raise RegistryError("the connection that held the promotion lock is gone: promote again") from None

        deadline = time.monotonic() + registry.lock_timeout_s
        acquire = sqlalchemy.text("SELECT pg_try_advisory_lock(:key)")
        while not connection.execute(acquire, {"key": key}).scalar():
            if time.monotonic() > deadline:
                raise _busy(registry)
            time.sleep(random.uniform(0.05, 0.3))
        try:
            yield check
        finally:
            connection.close()  # releases the lock, also if the connection is broken


def _busy(registry: RegistryConfig) -> RegistryError:
    return RegistryError(
        f"{registry.model}: another promotion is being written down; promote again, or raise registry.lock_timeout_s"
    )
