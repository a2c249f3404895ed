"""A lease in tags of the registered model, for stores with MLflow's API only.

Tags have no compare-and-set, so each contender sets its own flag, a tag with a unique name, and then reads all tags. It
holds the lease if there is no other flag; otherwise it removes its flag and retries later. Of two contenders, the one
that sets its flag last sees the other's, so they never both hold the lease.

This requires read-after-write consistency (one database behind the server, no lagging replica). Since a holder may die,
a contender removes a flag that it has seen for longer than a lease lasts; clocks of machines are not compared. A holder
checks before every write that its lease has not expired and its flag exists. A remaining risk is a write that the
network delays for longer than `_GRACE` after this check.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from components.errors import RegistryError

FLAG = "promotion.lease."
#: Duration of a lease in seconds, and seconds until an expired flag is removed.
_LEASE, _GRACE = 60.0, 30.0


class _Model(Protocol):
    tags: dict[str, str]


class TagStore(Protocol):
    """The interface of `mlflow.MlflowClient` that a lease needs."""

    def get_registered_model(self, name: str) -> _Model: ...
    def set_registered_model_tag(self, name: str, key: str, value: str) -> None: ...
    def delete_registered_model_tag(self, name: str, key: str) -> None: ...


@contextmanager
def hold_lease(
    store: TagStore, model: str, timeout_s: float, lease: float = _LEASE, grace: float = _GRACE
) -> Iterator[Callable[[], None]]:
    """Hold the lease of ``model`` for the block; yields a function that raises if it is lost.

    Args:
        timeout_s: seconds to wait for the lease.

    Raises:
        RegistryError: the lease was not free in that time.
    """
    own, ends = _acquire(store, model, timeout_s, lease, grace)

    def check() -> None:
        if time.monotonic() > ends or own not in _flags(store, model):
            raise RegistryError(f"{model}: the promotion took longer than its lease; promote again")

    try:
        yield check
    finally:
        store.delete_registered_model_tag(model, own)


def _acquire(store: TagStore, model: str, timeout_s: float, lease: float, grace: float) -> tuple[str, float]:
    """The name of our flag, and the end of the lease by the monotonic clock."""
    deadline = time.monotonic() + timeout_s
    seen: dict[str, float] = {}
    while True:
        others = _flags(store, model)
        if not others:
            own, began = f"{FLAG}{uuid.uuid4().hex}", time.monotonic()
            store.set_registered_model_tag(model, own, f"{os.uname().nodename} {os.getpid()}")
            others = {name: holder for name, holder in _flags(store, model).items() if name != own}
            if not others:
                return own, began + lease
            store.delete_registered_model_tag(model, own)
        now = time.monotonic()
        for name in others:
            if now - seen.setdefault(name, now) > lease + grace:
                store.delete_registered_model_tag(model, name)
        if now > deadline:
            raise RegistryError(f"{model}: another promotion is being written down ({', '.join(others.values())})")
        time.sleep(random.uniform(0.2, 1.0) * min(1.0, lease / 10))


def _flags(store: TagStore, model: str) -> dict[str, str]:
    tags = store.get_registered_model(model).tags
    return {name: holder for name, holder in tags.items() if name.startswith(FLAG)}
