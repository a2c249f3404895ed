"""Promotion: gates are decided by paired differences, every decision is kept, and two at once do not race."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.config import Config, GateConfig
from components.errors import ConfigError, RegistryError
from components.evaluation.scores import Scores, difference, toybench_metrics
from components.evaluation.statistics import bootstrap
from components.evaluation.toybench import Measured
from components.registry import promotion, tracking, versions
from components.registry.decisions import DECISION, REASON, RUN, Decision
from components.registry.gates import evaluate_gates
from components.registry.lease import FLAG, hold_lease
from components.registry.promotion_lock import promotion_lock
from components.registry.versions import ModelVersion
from tests.fixtures.promotion_race import race

CASES = 60
NOISE = np.random.default_rng(0).normal(0, 0.2, CASES)


def scores_of(similarity: float, control: float = 0.9) -> Scores:
    """Cases that differ a lot from each other, and by exactly so much from those of another model."""
    names = tuple(map(str, range(CASES)))
    return Scores(names, names, {"similarity": NOISE + similarity, "text_control": np.full(CASES, control)})


SIMILARITY = GateConfig(metric="similarity")
CONTROL = GateConfig(metric="text_control", min_delta=-0.03)


@pytest.mark.parametrize(
    ("gain", "loss", "passed"),
    [(0.01, 0.0, [True, True]), (0.01, 0.05, [True, False]), (-0.01, 0.0, [False, True]), (0.0, 0.03, [True, True])],
)
def test_gates_compare_the_lower_bound_of_the_difference(gain: float, loss: float, passed: list[bool]) -> None:
    gate_results = evaluate_gates([SIMILARITY, CONTROL], scores_of(0.4, 0.5), scores_of(0.4 + gain, 0.5 - loss + 1e-12))
    # Far smaller than what tells the cases apart: only the pairing makes it visible.
    assert [v.passed for v in gate_results] == passed
    assert gate_results[0].gain.value == pytest.approx(gain)


def test_a_gain_that_chance_could_explain_does_not_pass() -> None:
    rng = np.random.default_rng(3)
    before = scores_of(0.4)
    noisy = Scores(
        before.cases, before.groups, {"similarity": before.values("similarity") + rng.normal(0.005, 0.2, CASES)}
    )
    (result,) = evaluate_gates([SIMILARITY], before, noisy)
    assert result.gain.low < 0 < result.gain.high
    assert not result.passed
    assert "may be below" in str(result)


def test_more_confidence_widens_the_interval() -> None:
    sample = np.random.default_rng(2).normal(size=50)
    narrow, wide = (bootstrap(lambda s: float(s.mean()), sample, confidence=c) for c in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high


@settings(max_examples=20, deadline=None)
@given(st.floats(-1, 1), st.floats(-1, 1))
def test_a_difference_has_the_other_sign_the_other_way_round(first: float, second: float) -> None:
    there = difference(scores_of(first), scores_of(second), "similarity", 0.95)
    back = difference(scores_of(second), scores_of(first), "similarity", 0.95)
    assert there.value == pytest.approx(-back.value, abs=1e-9)
    assert there.low == pytest.approx(-back.high, abs=1e-9)


def test_pictures_of_a_subject_are_resampled_together() -> None:
    values = np.repeat(np.arange(4.0), 50)
    cases = tuple(map(str, range(200)))
    alone = Scores(cases, cases, {"m": values}).estimate("m")
    grouped = Scores(cases, tuple(map(str, np.repeat(range(4), 50))), {"m": values}).estimate("m")
    assert alone.value == grouped.value == 1.5
    assert grouped.high - grouped.low > 4 * (alone.high - alone.low)


def test_cases_to_which_a_metric_does_not_apply_are_left_out() -> None:
    names = ("a", "a", "b")
    scores = Scores(names, names, {"m": np.array([1.0, np.nan, 3.0])})
    assert scores.estimate("m").value == 2.0
    nothing = Scores(names, names, {"m": np.full(3, np.nan)})
    with pytest.raises(ConfigError, match="applies to none"):
        difference(nothing, nothing, "m", 0.95)


def test_scores_of_other_cases_are_not_compared() -> None:
    other = Scores(("x",), ("x",), {"similarity": np.zeros(1)})
    with pytest.raises(ValueError, match="different cases"):
        evaluate_gates([SIMILARITY], scores_of(0.4), other)


def test_gates_that_decide_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"registry\.gates: it is empty"):
        evaluate_gates([], scores_of(0.4), scores_of(0.4))
    with pytest.raises(ConfigError, match=r"similarty.*it has similarity, text_control"):
        evaluate_gates([GateConfig(metric="similarty")], scores_of(0.4), scores_of(0.4))


def test_the_similarity_share_is_the_part_of_the_way_from_stock_to_real() -> None:
    stock, real = NOISE, NOISE + 0.8
    found = Measured(stock, NOISE + 0.4, real, np.ones(CASES), np.ones(CASES), np.ones(CASES))
    assert toybench_metrics(found)["similarity_share"].mean() == pytest.approx(0.5)


# --- decisions in a real store


@pytest.fixture
def store_config(config: Config) -> Config:
    registry = config.registry.model_copy(update={"gates": (SIMILARITY, CONTROL), "lock_timeout_s": 20})
    return config.model_copy(update={"registry": registry})


@pytest.fixture
def register(store_config: Config, tmp_path: Path) -> Callable[[], ModelVersion]:
    """Registers a version; its files are never looked into here."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "weights.txt").write_text("nothing")
    with tracking.run(store_config, "train", {}) as run_id:
        pass
    return lambda: versions.register(store_config, folder, run_id, {})


def aliases(config: Config) -> dict[str, str]:
    found = tracking.client(config.registry).get_registered_model(config.registry.model)
    return {alias: str(version) for alias, version in found.aliases.items()}


def tags(config: Config, version: str) -> dict[str, str]:
    return dict(tracking.client(config.registry).get_model_version(config.registry.model, version).tags)


def test_candidates_are_promoted_refused_and_rolled_back(
    store_config: Config, register: Callable[[], ModelVersion]
) -> None:
    table = {"1": scores_of(0.4), "2": scores_of(0.5), "3": scores_of(0.6, control=0.8), "4": scores_of(0.55)}
    asked: list[str] = []

    def score(version: ModelVersion) -> Scores:
        asked.append(version.version)
        assert aliases(store_config)["challenger"] in ("2", "3", "4")
        return table[version.version]

    first = promotion.promote(store_config, register(), score)
    assert (first.outcome, first.champion, asked) == ("promoted", None, [])
    assert "no champion yet" in first.reason
    second = promotion.promote(store_config, register(), score)
    assert (second.outcome, second.champion, asked) == ("promoted", "1", ["1", "2"])
    third = promotion.promote(store_config, register(), score)
    assert third.outcome == "refused"
    assert "text_control -0.100" in third.reason and "may be below -0.030" in third.reason
    assert aliases(store_config) == {"champion": "2", "previous": "1"}
    fourth = promotion.promote(store_config, register(), score)
    assert fourth.outcome == "promoted"
    assert aliases(store_config) == {"champion": "4", "previous": "2"}
    again = versions.resolve(store_config, f"models:/{store_config.registry.model}/4")
    assert promotion.promote(store_config, again, score).outcome == "kept"

    assert promotion.roll_back(store_config).version == "2"
    assert aliases(store_config) == {"champion": "2", "previous": "1"}
    assert promotion.roll_back(store_config).version == "1"
    assert aliases(store_config) == {"champion": "1"}
    with pytest.raises(RegistryError, match="none to go back to"):
        promotion.roll_back(store_config)

    assert [tags(store_config, v)[DECISION] for v in "1234"] == ["restored", "rolled back", "refused", "rolled back"]
    refused = tags(store_config, "3")
    assert refused[REASON] == third.reason
    written = json.loads(
        Path(
            mlflow.artifacts.download_artifacts(
                run_id=refused[RUN],
                artifact_path="decision.json",
                tracking_uri=store_config.registry.absolute_uri,
            )
        ).read_text()
    )
    assert (written["outcome"], written["champion"], written["reason"]) == ("refused", "2", third.reason)
    assert [(gate["metric"], gate["passed"]) for gate in written["gates"]] == [
        ("similarity", True),
        ("text_control", False),
    ]


def test_a_champion_that_comes_in_between_is_what_a_candidate_is_compared_with(
    store_config: Config, register: Callable[[], ModelVersion]
) -> None:
    first, second, third = register(), register(), register()
    promotion.appoint(store_config, first, "to begin with")
    table = {"1": scores_of(0.4), "2": scores_of(0.5), "3": scores_of(0.5)}
    asked: list[str] = []

    def score(version: ModelVersion) -> Scores:
        if asked == ["1"]:  # while version 3 is measured, somebody else promotes version 2
            promotion.promote(store_config, second, lambda v: table[v.version])
        asked.append(version.version)
        return table[version.version]

    table["3"] = scores_of(0.45)
    decision = promotion.promote(store_config, third, score)
    assert asked == ["1", "3", "2", "3"]
    assert (decision.outcome, decision.champion) == ("refused", "2")
    assert aliases(store_config) == {"champion": "2", "previous": "1"}


def test_a_failed_measurement_leaves_the_champion(store_config: Config, register: Callable[[], ModelVersion]) -> None:
    promotion.appoint(store_config, register(), "to begin with")

    def score(version: ModelVersion) -> Scores:
        raise ConfigError("no encoders")

    with pytest.raises(ConfigError):
        promotion.promote(store_config, register(), score)
    assert aliases(store_config) == {"champion": "1"}


def test_rollback_needs_a_champion(store_config: Config, register: Callable[[], ModelVersion]) -> None:
    with pytest.raises(RegistryError, match="has no version"):
        promotion.roll_back(store_config)
    register()
    with pytest.raises(RegistryError, match="promote a version first"):
        promotion.roll_back(store_config)


def test_tags_stay_short_however_much_there_is_to_say() -> None:
    gates = [GateConfig(metric="similarity")] * 30
    gate_results = evaluate_gates(gates, scores_of(0.4), scores_of(0.5))
    decision = Decision("m", "2", "promoted", "1", "; ".join(map(str, gate_results)), gate_results)
    assert len(decision.reason) > 1000
    assert all(len(value) <= 1000 for value in decision.tags("run").values())
    assert len(decision.facts()["gates"]) == 30


@pytest.mark.slow
def test_of_two_promotions_at_once_one_changes_the_champion_and_the_other_is_judged_against_it(
    store_config: Config, register: Callable[[], ModelVersion], tmp_path: Path
) -> None:
    first = register()
    register(), register()
    race(store_config, first, tmp_path)


def test_who_waits_too_long_for_the_lock_is_told(store_config: Config, register: Callable[[], ModelVersion]) -> None:
    register()
    impatient = store_config.registry.model_copy(update={"lock_timeout_s": 0.2})
    late = pytest.raises(RegistryError, match="lock_timeout_s")
    with promotion_lock(store_config.registry), late, promotion_lock(impatient):
        pass
    with promotion_lock(impatient):
        pass


# --- the lease


@dataclass
class Tags:
    """A store of tags whose calls take their time."""

    tags: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get_registered_model(self, name: str) -> SimpleNamespace:
        time.sleep(0.001)
        with self.lock:
            return SimpleNamespace(tags=dict(self.tags))

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        time.sleep(0.001)
        with self.lock:
            self.tags[key] = value

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        with self.lock:
            self.tags.pop(key, None)


def test_nobody_holds_the_lease_beside_another() -> None:
    store, inside, most, done = Tags(), [0], [0], []

    def contend() -> None:
        for _ in range(3):
            with hold_lease(store, "m", timeout_s=30, lease=1.0, grace=1.0) as check:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.005)
                check()
                inside[0] -= 1
            done.append(1)

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most[0], len(done), store.tags) == (1, 12, {})


def test_the_flag_of_a_dead_holder_goes_after_its_lease() -> None:
    store = Tags({f"{FLAG}dead": "elsewhere 7", "other": "tag"})
    with pytest.raises(RegistryError, match="elsewhere 7"), hold_lease(store, "m", timeout_s=0.1, lease=5):
        pass
    began = time.monotonic()
    with hold_lease(store, "m", timeout_s=10, lease=0.3, grace=0.1) as check:
        assert time.monotonic() - began > 0.4
        check()
        assert f"{FLAG}dead" not in store.tags
    assert store.tags == {"other": "tag"}


def test_a_holder_notices_that_its_lease_is_over() -> None:
    store = Tags()
    with hold_lease(store, "m", timeout_s=1, lease=0.05, grace=0.05) as check:
        time.sleep(0.1)
        with pytest.raises(RegistryError, match="longer than its lease"):
            check()
    with hold_lease(store, "m", timeout_s=1) as check:
        store.tags.clear()  # an onlooker took the flag down
        with pytest.raises(RegistryError, match="longer than its lease"):
            check()


def test_a_lease_works_on_a_real_registry(store_config: Config, register: Callable[[], ModelVersion]) -> None:
    register()
    store = tracking.client(store_config.registry)
    with hold_lease(store, store_config.registry.model, timeout_s=1) as check:
        check()
        with pytest.raises(RegistryError), hold_lease(store, store_config.registry.model, timeout_s=0.1):
            pass
    with hold_lease(store, store_config.registry.model, timeout_s=1):
        pass
