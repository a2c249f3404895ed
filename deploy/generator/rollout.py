"""Rollout of model versions while requests are running.

A new version is loaded and warmed up beside the old one. From then on it gets the new requests, while the old one
finishes those that it has started. A few old versions stay loaded for a fast rollback. A version that cannot be loaded
changes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, contextmanager
from dataclasses import dataclass

from components.config import RolloutConfig
from components.engine.stats import Stats
from deploy.generator.service import GenerationService
from deploy.interfaces.errors import BusyError
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.results import GenerationEvent, GenerationResult
from deploy.status.metrics import GeneratorMetrics
from deploy.status.readiness import UnhealthyError, check_progress
from deploy.status.replica_status import LoadedVersion, ReplicaReport

log = logging.getLogger(__name__)

#: Loads a version and warms it up; it may share frozen weights with a loaded one.
Load = Callable[[str, GenerationService | None], GenerationService]
#: Seconds after which a version that could not be loaded is tried again.
_RETRY_S = 60.0
#: Retry-After of a replica that is about to be replaced: another replica is likely to take the request.
_REPLACED_S = 5.0


@dataclass(frozen=True)
class VersionAliases:
    """The versions that the registry's aliases name; the challenger gets a share of the requests."""

    champion: str
    challenger: str | None = None


def select_version(aliases: VersionAliases, request: GenerationRequest, canary: float) -> str:
    """The version that generates a request; ``canary`` is the challenger's share.

    An owner always gets the same version. Without owners the seed decides, so that a repeated request gets the same.
    """
    if aliases.challenger is None or _hash_fraction(request.owner or str(request.seeds[0])) >= canary:
        return aliases.champion
    return aliases.challenger


class ModelVersions:
    """`Generator` over all loaded versions. Its methods belong to one event loop.

    Args:
        load: called in a thread.
        first: versions to start with: the first one that can be loaded is, before this returns.
        may_be_replaced: whether this replica may be replaced now; without ``beside`` it is asked when another version
            is to be served, until it is True. By default a replica may always be replaced.
    """

    def __init__(
        self,
        load: Load,
        first: Sequence[str],
        rollout: RolloutConfig = RolloutConfig(),
        metrics: GeneratorMetrics | None = None,
        may_be_replaced: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._load, self._rollout, self._metrics = load, rollout, metrics or GeneratorMetrics()
        self._may_be_replaced = may_be_replaced
        #: Versions that will be served once all of `set_aliases` is loaded.
        self._awaited: frozenset[str] = frozenset()
        #: Version -> time of the last failed load.
        self._failed: dict[str, float] = {}
        #: In the order in which they were served last.
        self._loaded = self._load_first(first)
        self._aliases = VersionAliases(*self._loaded)
        self._outdated = self._stuck = False
        #: Running requests by version.
        self._running: Counter[str] = Counter()
        self._unloading: set[asyncio.Task[bool]] = set()

    async def generate(self, request: GenerationRequest) -> GenerationResult:
        """See `GenerationService.generate`."""
        with self._acquire(request) as service:
            result = await service.generate(request)
            self._metrics.count_request(service.version)
            return result

    async def encode_character(self, character: str, revision: int, owner: str = "") -> None:
        """See `GenerationService.encode_character`; the tokens are those of the champion."""
        with self._hold(self._aliases.champion) as service:
            await service.encode_character(character, revision, owner)

    async def stream(self, request: GenerationRequest, previews: int = 0) -> AsyncGenerator[GenerationEvent, None]:
        """See `GenerationService.stream`."""
        with self._acquire(request) as service:
            async with aclosing(service.stream(request, previews)) as events:
                async for event in events:
                    if isinstance(event, GenerationResult):
                        self._metrics.count_request(service.version)
                    yield event

    async def set_aliases(self, aliases: VersionAliases) -> None:
        """Load the versions of ``aliases`` and serve those that can be loaded."""
        if not self._rollout.beside:
            outdated = aliases.champion != self._aliases.champion and aliases.champion not in self._failed
            asks = outdated and not self._outdated and self._may_be_replaced is not None
            self._outdated = outdated and (not asks or await self._may_be_replaced())  # type: ignore[misc]
            return
        self._awaited = frozenset({aliases.champion, aliases.challenger} - {None})  # type: ignore[arg-type]
        try:
            await self._switch(aliases)
        finally:
            self._awaited = frozenset()
        self._unload_old()

    async def _switch(self, aliases: VersionAliases) -> None:
        champion = aliases.champion if await self._ensure_loaded(aliases.champion) else self._aliases.champion
        challenger = aliases.challenger if self._rollout.canary and aliases.challenger != champion else None
        if challenger is not None and not await self._ensure_loaded(challenger):
            challenger = None
        before, self._aliases = self._aliases, VersionAliases(champion, challenger)
        if self._aliases != before:
            log.info("serving version %s, challenger %s", champion, challenger)
            self._metrics.count_rollout("switched")
            for version in (before.challenger, before.champion, challenger, champion):
                if version in self._loaded:
                    self._loaded[version] = self._loaded.pop(version)

    def versions(self) -> tuple[LoadedVersion, ...]:
        """The loaded versions."""
        roles = {self._aliases.challenger: "challenger", self._aliases.champion: "champion"}
        return tuple(LoadedVersion(v, roles.get(v, "kept")) for v in self._loaded)  # type: ignore[arg-type]

    def stats(self) -> dict[str, Stats]:
        """The engine's statistics by version."""
        return {version: service.stats() for version, service in self._loaded.items()}

    async def report(self, model: str, replica: str) -> ReplicaReport:
        """This replica's report; ``model`` is the model's name in the metrics."""
        engines, versions = self.stats(), self.versions()
        families = self._metrics.families(model, versions, engines)
        backlog_s = sum(stats.backlog_s for stats in engines.values())
        speed = self._loaded[self._aliases.champion].speed
        return ReplicaReport("generator", replica, None, backlog_s, versions, families, speed)

    def check(self, stuck_s: float) -> None:
        """Raise UnhealthyError, now and in every later call, if this replica has to be replaced.

        That is the case if an engine with work has made no progress for ``stuck_s`` seconds, in which case all requests
        fail at once; and if another version is to be served that may not be loaded beside this one.
        """
        if self._stuck:
            raise UnhealthyError("its engines were stuck, and their requests have failed")
        try:
            check_progress(self.stats().values(), stuck_s)
        except UnhealthyError:
            self._stuck = True
            for service in self._loaded.values():
                service.abandon()
            raise
        if self._outdated:
            raise UnhealthyError("another version is to be served, and not beside this one (serving.rollout.beside)")

    async def close(self, timeout: float | None = None) -> bool:
        """Accept no more requests and finish the running ones; False if that took more than ``timeout`` seconds.

        Engines that were stuck have no requests any more, and are not waited for.
        """
        timeout = 0 if self._stuck else timeout
        closing = [asyncio.to_thread(service.close, timeout) for service in self._loaded.values()]
        return all(await asyncio.gather(*closing, *self._unloading))

    def _load_first(self, versions: Sequence[str]) -> dict[str, GenerationService]:
        for version in versions[:-1]:
            try:
                return {version: self._load(version, None)}
            except Exception:
                self._record_failure(version, versions[-1])
        return {versions[-1]: self._load(versions[-1], None)}

    def _acquire(self, request: GenerationRequest) -> AbstractContextManager[GenerationService]:
        """The service that generates the request; see `_hold`."""
        return self._hold(select_version(self._aliases, request, self._rollout.canary))

    @contextmanager
    def _hold(self, version: str) -> Iterator[GenerationService]:
        """The service of ``version``, which stays loaded until the block ends."""
        if self._stuck:
            raise BusyError("a generator is being replaced; try again", _REPLACED_S)
        self._running[version] += 1
        try:
            yield self._loaded[version]
        finally:
            self._running[version] -= 1
            self._unload_old()

    def _record_failure(self, version: str, served: str) -> None:
        """Log a failed load of any kind; ``served`` goes on serving."""
        log.exception("version %s cannot be loaded, so version %s is served", version, served)
        self._failed[version] = time.monotonic()
        self._metrics.count_rollout("failed")

    async def _ensure_loaded(self, version: str) -> bool:
        """Load a version unless it is loaded or has failed recently; whether it is loaded now."""
        if version in self._loaded:
            return True
        if time.monotonic() - self._failed.get(version, float("-inf")) < _RETRY_S:
            return False
        beside = self._loaded[self._aliases.champion]
        try:
            self._loaded[version] = await asyncio.to_thread(self._load, version, beside)
        except Exception:
            self._record_failure(version, self._aliases.champion)
            return False
        self._failed.pop(version, None)
        return True

    def _unload_old(self) -> None:
        """Close the oldest versions beyond ``serving.rollout.keep``, unless they have running requests."""
        served = (self._aliases.champion, self._aliases.challenger, *self._awaited)
        old = [version for version in self._loaded if version not in served]
        for version in old[: max(0, len(old) - self._rollout.keep)]:
            if not self._running[version]:
                task = asyncio.create_task(asyncio.to_thread(self._loaded.pop(version).close))
                self._unloading.add(task)
                task.add_done_callback(self._unloading.discard)


async def follow_aliases(
    versions: ModelVersions, read_aliases: Callable[[], VersionAliases | None], poll_s: float
) -> None:
    """Poll ``read_aliases`` in a thread about every ``poll_s`` seconds, for ever, and serve what it returns."""
    while True:
        try:
            aliases = await asyncio.to_thread(read_aliases)
            if aliases is not None:
                await versions.set_aliases(aliases)
        except Exception as error:  # while the registry is unavailable, nothing changes
            log.warning("the registry does not answer: %s", type(error).__name__)
        await asyncio.sleep(poll_s * random.uniform(0.8, 1.2))  # jitter: replicas do not all load at the same moment


def _hash_fraction(name: str) -> float:
    """A hash of ``name`` in [0, 1), uniformly distributed over names."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
