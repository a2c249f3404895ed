"""Versions of the model come and go while orders are drawn.

A new version is loaded and warmed beside the old one. Then new orders go to it, and the old one ends what it has begun.
A few old ones stay loaded, so that the way back takes no time. What cannot be loaded changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager

from components.config import RolloutConfig
from components.engine.stats import Stats
from components.jobs.job import JobProgress, Preview
from deploy.generator.aliases import VersionAliases, chosen
from deploy.generator.service import GenerationService
from deploy.interfaces.protocols import BusyError, Delivery, Order
from deploy.status.metrics import GeneratorMetrics
from deploy.status.readiness import UnhealthyError, check_moving
from deploy.status.replica_status import Report, Serving

log = logging.getLogger(__name__)

#: Loads a version and warms it; it may share the weights of one that is loaded.
Load = Callable[[str, GenerationService | None], GenerationService]
#: Seconds before a version that could not be loaded is tried again.
_RETRY_S = 60.0
#: Seconds until whoever is refused by a replica that is being replaced is likely to reach another.
_REPLACED_S = 5.0


class ModelVersions:
    """`Generator` over all versions that are loaded. Its methods belong to one event loop.

    Args:
        load: see `Load`; called in a thread.
        first: the version to begin with, loaded here and now; the second is for where that one cannot be.
        metrics: to count in.
    """

    def __init__(
        self,
        load: Load,
        first: Sequence[str],
        rollout: RolloutConfig = RolloutConfig(),
        metrics: GeneratorMetrics | None = None,
    ) -> None:
        self._load, self._rollout, self._metrics = load, rollout, metrics or GeneratorMetrics()
        #: When they were tried, of versions that could not be loaded.
        self._failed: dict[str, float] = {}
        #: Who was served last is last.
        self._loaded = self._begin(first)
        self._lineup = VersionAliases(*self._loaded)
        self._outdated = self._stuck = False
        self._drawing: Counter[str] = Counter()
        self._leaving: set[asyncio.Task[bool]] = set()

    async def generate(self, order: Order) -> Delivery:
        """Draw an order's pictures; see `GenerationService.generate`."""
        with self._turn(order) as service:
            delivery = await service.generate(order)
            self._metrics.count_order(service.version)
            return delivery

    async def draw(self, order: Order, previews: int = 0) -> AsyncGenerator[JobProgress | Preview | Delivery, None]:
        """Draw an order's pictures; see `GenerationService.draw`."""
        with self._turn(order) as service:
            async with aclosing(service.draw(order, previews)) as told:
                async for news in told:
                    if isinstance(news, Delivery):
                        self._metrics.count_order(service.version)
                    yield news

    async def follow(self, wanted: VersionAliases) -> None:
        """Serve ``wanted`` as soon as it is loaded, and whatever of it cannot be loaded not at all."""
        if not self._rollout.beside:
            self._outdated = wanted.champion != self._lineup.champion and wanted.champion not in self._failed
            return
        champion = wanted.champion if await self._has(wanted.champion) else self._lineup.champion
        challenger = wanted.challenger if self._rollout.canary and wanted.challenger != champion else None
        if challenger is not None and not await self._has(challenger):
            challenger = None
        before, self._lineup = self._lineup, VersionAliases(champion, challenger)
        if self._lineup != before:
            log.info("serving version %s, challenged by %s", champion, challenger)
            self._metrics.count_rollout("switched")
            for version in (before.challenger, before.champion, challenger, champion):
                if version in self._loaded:
                    self._loaded[version] = self._loaded.pop(version)
        self._dismiss()

    def versions(self) -> tuple[Serving, ...]:
        """What is loaded."""
        roles = {self._lineup.challenger: "challenger", self._lineup.champion: "champion"}
        return tuple(Serving(version, roles.get(version, "kept")) for version in self._loaded)  # type: ignore[arg-type]

    def stats(self) -> dict[str, Stats]:
        """What the engine of each version is doing."""
        return {version: service.stats() for version, service in self._loaded.items()}

    async def report(self, model: str, replica: str) -> Report:
        """How the versions of ``model`` are doing, for the board."""
        engines, versions = self.stats(), self.versions()
        families = self._metrics.families(model, versions, engines)
        backlog_s = sum(stats.backlog_s for stats in engines.values())
        return Report("generator", replica, backlog_s=backlog_s, versions=versions, metrics=families)

    def check(self, stuck_s: float) -> None:
        """Raise UnhealthyError, and from then on always, if this fleet is to be replaced.

        That is if an engine has been silent for ``stuck_s`` seconds, when everything is given up, for nobody is to wait
        any longer; and if another version is to be served, and not beside this one.
        """
        if self._stuck:
            raise UnhealthyError("its engines were given up")
        try:
            check_moving(self.stats().values(), stuck_s)
        except UnhealthyError:
            self._stuck = True
            for service in self._loaded.values():
                service.abandon()
            raise
        if self._outdated:
            raise UnhealthyError("another version is to be served, and not beside this one (serving.rollout.beside)")

    async def close(self, timeout: float | None = None) -> bool:
        """Finish what was begun and take nothing more; False if that took longer than ``timeout`` seconds."""
        closing = [asyncio.to_thread(service.close, timeout) for service in self._loaded.values()]
        return all(await asyncio.gather(*closing, *self._leaving))

    def _begin(self, first: Sequence[str]) -> dict[str, GenerationService]:
        for version in first[:-1]:
            try:
                return {version: self._load(version, None)}
            except Exception:
                self._note_failure(version, first[-1])
        return {first[-1]: self._load(first[-1], None)}

    @contextmanager
    def _turn(self, order: Order) -> Iterator[GenerationService]:
        """The version whose turn it is, which stays loaded until it is done."""
        if self._stuck:
            raise BusyError("a generator is being replaced; try again", _REPLACED_S)
        version = chosen(self._lineup, order, self._rollout.canary)
        self._drawing[version] += 1
        try:
            yield self._loaded[version]
        finally:
            self._drawing[version] -= 1
            self._dismiss()

    def _note_failure(self, version: str, served: str) -> None:
        """Of whatever kind it was: what is served is served on."""
        log.exception("version %s cannot be loaded, so version %s is served", version, served)
        self._failed[version] = time.monotonic()
        self._metrics.count_rollout("failed")

    async def _has(self, version: str) -> bool:
        """Whether a version is loaded, by now."""
        if version in self._loaded:
            return True
        if time.monotonic() - self._failed.get(version, float("-inf")) < _RETRY_S:
            return False
        beside = self._loaded[self._lineup.champion]
        try:
            self._loaded[version] = await asyncio.to_thread(self._load, version, beside)
        except Exception:
            self._note_failure(version, self._lineup.champion)
            return False
        self._failed.pop(version, None)
        return True

    def _dismiss(self) -> None:
        """Let go of the old versions that are too many and have nothing left to draw."""
        served = (self._lineup.champion, self._lineup.challenger)
        old = [version for version in self._loaded if version not in served]
        for version in old[: max(0, len(old) - self._rollout.keep)]:
            if not self._drawing[version]:
                leaving = asyncio.create_task(asyncio.to_thread(self._loaded.pop(version).close))
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)


async def watch(fleet: ModelVersions, look: Callable[[], VersionAliases | None], poll_s: float) -> None:
    """Have ``fleet`` follow what ``look``, called in a thread, sees every ``poll_s`` seconds, for ever."""
    while True:
        try:
            wanted = await asyncio.to_thread(look)
            if wanted is not None:
                await fleet.follow(wanted)
        except Exception as error:  # a registry that does not answer changes nothing
            log.warning("the registry does not answer: %s", type(error).__name__)
        await asyncio.sleep(poll_s * random.uniform(0.8, 1.2))  # replicas do not all load at the same moment
