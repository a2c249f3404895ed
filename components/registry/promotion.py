"""Promotion: a candidate replaces the champion if it passes the gates. Every decision is recorded.

Scoring takes minutes and holds no lock. Writing the decision holds `promotion_lock` for a moment: if the champion has
changed by then, the candidate is compared again. So in concurrent promotions each candidate is compared with the
champion that it replaces.

The record is written before the alias moves: a process that dies in between leaves the old champion and a record
"promoted", and the promotion must be repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from components.config import Config
from components.errors import RegistryError
from components.evaluation.scores import Scores
from components.registry import tracking, versions
from components.registry.decisions import REPLACED, Decision, record
from components.registry.gates import GateResult, evaluate_gates
from components.registry.promotion_lock import Check, promotion_lock
from components.registry.versions import ModelVersion

logger = logging.getLogger(__name__)

CHALLENGER, PREVIOUS = "challenger", "previous"
#: Tag of the registered model: the number of its champions so far.
_NUMBER = "promotion.number"


def promote(config: Config, candidate: ModelVersion, score: Callable[[ModelVersion], Scores]) -> Decision:
    """Compare ``candidate`` with the champion, and record the decision.

    Args:
        score: scores a version, always on the same cases.

    Raises:
        ConfigError: `registry.gates` does not match the benchmark.
        RegistryError: a concurrent promotion holds the lock, or changed the champion.
    """
    aliases = _Aliases(config, candidate.name)
    if aliases.champion == candidate.version:
        return _kept(candidate)
    with _challenging(aliases, candidate.version):
        while True:
            champion = aliases.champion
            gate_results = []
            if champion is not None:
                holder = versions.resolve(config, f"models:/{candidate.name}/{champion}")
                gate_results = evaluate_gates(config.registry.gates, score(holder), score(candidate))
            with promotion_lock(config.registry, aliases.store) as check:
                if aliases.champion == champion:
                    return _conclude(aliases, candidate.version, champion, gate_results, check)
            logger.info("version %s has become champion: comparing again", aliases.champion)


def appoint(config: Config, version: ModelVersion, reason: str) -> Decision:
    """Make ``version`` the champion without scoring it, for the stated ``reason``."""
    aliases = _Aliases(config, version.name)
    with promotion_lock(config.registry, aliases.store) as check:
        if aliases.champion == version.version:
            return _kept(version)
        decision = Decision(version.name, version.version, "promoted", aliases.champion, reason)
        _record_and_promote(aliases, decision, check)
    return decision


def roll_back(config: Config) -> Decision:
    """Restore the previous champion; if repeated, the one before it.

    Raises:
        RegistryError: there is no champion, or no previous one.
    """
    aliases = _Aliases(config, config.registry.model)
    with promotion_lock(config.registry, aliases.store) as check:
        champion, previous = aliases.champion, aliases.holder(PREVIOUS)
        if champion is None:
            raise RegistryError(f"models:/{aliases.name} has no @{config.registry.alias}: promote a version first")
        if previous is None or previous == champion:
            raise RegistryError(
                f"models:/{aliases.name}/{champion} replaced no version, so there is none to go back to"
            )
        check()
        record(
            aliases.store,
            config,
            Decision(aliases.name, champion, "rolled back", previous, f"version {previous} was put back"),
        )
        decision = Decision(aliases.name, previous, "restored", champion, f"version {champion} was rolled back")
        record(aliases.store, config, decision)
        before = aliases.replaced_by(previous)
        aliases.set_champion(previous, check)
        check()
        if before is None:
            aliases.delete(PREVIOUS)
        else:
            aliases.set(PREVIOUS, before)
    return decision


@contextmanager
def _challenging(aliases: _Aliases, version: str) -> Iterator[None]:
    """Point the challenger's alias at ``version`` for the block; of concurrent ones, the last wins.

    The lock is needed, since concurrent inserts of the same alias collide in MLflow.
    """
    with promotion_lock(aliases.config.registry, aliases.store):
        aliases.set(CHALLENGER, version)
    try:
        yield
    finally:
        with promotion_lock(aliases.config.registry, aliases.store):
            if aliases.holder(CHALLENGER) == version:
                aliases.delete(CHALLENGER)


def _conclude(
    aliases: _Aliases, version: str, champion: str | None, gate_results: list[GateResult], check: Check
) -> Decision:
    if champion is None:
        reason = "there is no champion yet, so nothing was compared"
    else:
        reason = f"against version {champion}: {'; '.join(map(str, gate_results))}"
    if all(result.passed for result in gate_results):
        decision = Decision(aliases.name, version, "promoted", champion, reason, gate_results)
        _record_and_promote(aliases, decision, check)
    else:
        decision = Decision(aliases.name, version, "refused", champion, reason, gate_results)
        check()
        record(aliases.store, aliases.config, decision)
    return decision


def _record_and_promote(aliases: _Aliases, decision: Decision, check: Check) -> None:
    check()
    record(aliases.store, aliases.config, decision)
    if decision.champion is not None:
        check()
        aliases.set(PREVIOUS, decision.champion)
    aliases.set_champion(decision.version, check)


def _kept(version: ModelVersion) -> Decision:
    return Decision(version.name, version.version, "kept", None, "it is the champion already")


class _Aliases:
    """The aliases and promotion tags of a registered model."""

    def __init__(self, config: Config, name: str) -> None:
        self.config, self.name = config, name
        self.store = tracking.client(config.registry)

    @property
    def champion(self) -> str | None:
        return self.holder(self.config.registry.alias)

    def holder(self, alias: str) -> str | None:
        """The version that ``alias`` points at."""
        found = self._model().aliases.get(alias)
        return None if found is None else str(found)

    def set(self, alias: str, version: str) -> None:
        self.store.set_registered_model_alias(self.name, alias, version)

    def delete(self, alias: str) -> None:
        self.store.delete_registered_model_alias(self.name, alias)

    def replaced_by(self, version: str) -> str | None:
        """The version that ``version`` replaced when it was promoted."""
        before = self.store.get_model_version(self.name, version).tags.get(REPLACED, "none")
        return None if before in ("none", version) else before

    def set_champion(self, version: str, check: Check) -> None:
        """Make ``version`` the champion, and check that no concurrent process set another one."""
        number = str(int(self._model().tags.get(_NUMBER, "0")) + 1)
        check()
        self.store.set_registered_model_tag(self.name, _NUMBER, number)
        check()
        self.set(self.config.registry.alias, version)
        found = self._model()
        if (found.tags.get(_NUMBER), self.champion) != (number, version):
            raise RegistryError(f"models:/{self.name}: another promotion changed the champion too; look at @champion")

    def _model(self) -> RegisteredModel:
        try:
            return self.store.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
            raise RegistryError(f"registry.model {self.name!r} has no version: train and register one") from None
