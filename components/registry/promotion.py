"""Promotion: a candidate takes the champion's place only if it measures better, and every decision is kept.

Measuring takes minutes and holds no lock. Writing the outcome down takes a moment and holds `promotion_lock`: who finds
another champion there than the one it was compared with compares again. So of several promotions at once each is judged
against the champion that it replaces.

The record is written before the alias moves: a process that dies in between leaves the old champion and a record that
says "promoted", and the promotion is to be repeated.
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
from components.registry.lock import Check, promotion_lock
from components.registry.versions import ModelVersion

logger = logging.getLogger(__name__)

CHALLENGER, PREVIOUS = "challenger", "previous"
#: Counts the champions of a model; a tag of the registered model.
_NUMBER = "promotion.number"


def promote(config: Config, candidate: ModelVersion, score: Callable[[ModelVersion], Scores]) -> Decision:
    """Let ``candidate`` challenge the champion, and write down what came out.

    Args:
        score: measures a version; always on the same cases.

    Raises:
        ConfigError: `registry.gates` does not fit the benchmark.
        RegistryError: another promotion is being written down, or came in between.
    """
    board = _Board(config, candidate.name)
    if board.champion == candidate.version:
        return _kept(candidate)
    with _challenging(board, candidate.version):
        while True:
            champion = board.champion
            verdicts = []
            if champion is not None:
                holder = versions.resolve(config, f"models:/{candidate.name}/{champion}")
                verdicts = evaluate_gates(config.registry.gates, score(holder), score(candidate))
            with promotion_lock(config.registry) as check:
                if board.champion == champion:
                    return _conclude(board, candidate.version, champion, verdicts, check)
            logger.info("version %s became champion meanwhile: comparing again", board.champion)


def appoint(config: Config, version: ModelVersion, reason: str) -> Decision:
    """Make ``version`` the champion without measuring it, for the stated ``reason``."""
    board = _Board(config, version.name)
    with promotion_lock(config.registry) as check:
        if board.champion == version.version:
            return _kept(version)
        decision = Decision(version.name, version.version, "promoted", board.champion, reason)
        _record_and_crown(board, decision, check)
    return decision


def roll_back(config: Config) -> Decision:
    """Put the champion's predecessor back in its place; repeated, the one before that.

    Raises:
        RegistryError: there is no champion, or none before it.
    """
    board = _Board(config, config.registry.model)
    with promotion_lock(config.registry) as check:
        champion, previous = board.champion, board.holder(PREVIOUS)
        if champion is None:
            raise RegistryError(f"models:/{board.name} has no @{config.registry.alias}: promote a version first")
        if previous is None or previous == champion:
            raise RegistryError(f"models:/{board.name}/{champion} replaced no version, so there is none to go back to")
        check()
        record(
            board.store,
            config,
            Decision(board.name, champion, "rolled back", previous, f"version {previous} was put back"),
        )
        decision = Decision(board.name, previous, "restored", champion, f"version {champion} was rolled back")
        record(board.store, config, decision)
        before = board.replaced_by(previous)
        board.crown(previous, check)
        check()
        if before is None:
            board.drop(PREVIOUS)
        else:
            board.point(PREVIOUS, before)
    return decision


@contextmanager
def _challenging(board: _Board, version: str) -> Iterator[None]:
    """Let the challenger's alias point at ``version``; of several at once it is the last one's.

    Writing an alias is not atomic in MLflow either: two that insert the same one collide.
    """
    with promotion_lock(board.config.registry):
        board.point(CHALLENGER, version)
    try:
        yield
    finally:
        with promotion_lock(board.config.registry):
            if board.holder(CHALLENGER) == version:
                board.drop(CHALLENGER)


def _conclude(board: _Board, version: str, champion: str | None, verdicts: list[GateResult], check: Check) -> Decision:
    if champion is None:
        reason = "there is no champion yet, so nothing was compared"
    else:
        reason = f"against version {champion}: {'; '.join(map(str, verdicts))}"
    if all(verdict.passed for verdict in verdicts):
        decision = Decision(board.name, version, "promoted", champion, reason, verdicts)
        _record_and_crown(board, decision, check)
    else:
        decision = Decision(board.name, version, "refused", champion, reason, verdicts)
        check()
        record(board.store, board.config, decision)
    return decision


def _record_and_crown(board: _Board, decision: Decision, check: Check) -> None:
    check()
    record(board.store, board.config, decision)
    if decision.champion is not None:
        check()
        board.point(PREVIOUS, decision.champion)
    board.crown(decision.version, check)


def _kept(version: ModelVersion) -> Decision:
    return Decision(version.name, version.version, "kept", None, "it is the champion already")


class _Board:
    """The aliases of a registered model."""

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

    def point(self, alias: str, version: str) -> None:
        self.store.set_registered_model_alias(self.name, alias, version)

    def drop(self, alias: str) -> None:
        self.store.delete_registered_model_alias(self.name, alias)

    def replaced_by(self, version: str) -> str | None:
        """Whose place ``version`` took when it was promoted."""
        before = self.store.get_model_version(self.name, version).tags.get(REPLACED, "none")
        return None if before in ("none", version) else before

    def crown(self, version: str, check: Check) -> None:
        """Make ``version`` the champion, and see that nobody else did so with another one at the same time."""
        number = str(int(self._model().tags.get(_NUMBER, "0")) + 1)
        check()
        self.store.set_registered_model_tag(self.name, _NUMBER, number)
        check()
        self.point(self.config.registry.alias, version)
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
