"""A lease kept as tags of the registered model, for stores that offer nothing but MLflow's own calls.

Tags know no compare-and-set, so none is taken over: every contender raises a flag of its own, a tag with a fresh name,
then reads all tags. Who sees no other flag holds the lease; who sees one takes its own down and tries again later. Of
two contenders the one whose flag came last sees the other's, so they never both hold it.

This asks that a read shows every write that was answered before it (one database behind the server, no lagging
replica). A holder may die, so a flag that an onlooker has seen unchanged for longer than a lease lasts is taken down;
nobody's wall clock is compared with another's. A holder asks before every write whether its time is up and its flag is
still there. What remains: a single write that the network delays for longer than `_GRACE` after it was checked.
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
#: Seconds that a lease lasts, and how long after it a flag stays in the way.
_LEASE, _GRACE = 60.0, 30.0


class _Model(Protocol):
    tags: dict[str, str]


class TagStore(Protocol):
    """The part of `mlflow.MlflowClient` that a lease needs."""

    def get_registered_model(self, name: str) -> _Model: ...
    def set_registered_model_tag(self, name: str, key: str, value: str) -> None: ...
    def delete_registered_model_tag(self, name: str, key: str) -> None: ...


@contextmanager
def hold_lease(
    store: TagStore, model: str, patience: float, lease: float = _LEASE, grace: float = _GRACE
) -> Iterator[Callable[[], None]]:
    """Hold the lease of ``model`` for the block, which gets a function that raises when it is lost.

    Args:
        patience: seconds to wait for it.

    Raises:
        RegistryError: others held it all the time.
    """
    own, ends = _acquire(store, model, patience, lease, grace)

    def check() -> None:
        if time.monotonic() > ends or own not in _flags(store, model):
            raise RegistryError(f"{model}: the promotion took longer than its lease; promote again")

    try:
        yield check
    finally:
        store.delete_registered_model_tag(model, own)


def _acquire(store: TagStore, model: str, patience: float, lease: float, grace: float) -> tuple[str, float]:
    """The own flag, and when the lease ends by this process's clock."""
    deadline = time.monotonic() + patience
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
