"""Statistics of measurements, as pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

#: Allowed statuses of an overloaded service.
ALLOWED = frozenset({200, 202, 429, 503})
#: Share of the samples of memory that are the warm-up, and those at the end that are compared with the next as many.
_SHARE = 0.2


@dataclass(frozen=True)
class Round:
    """One turn of both servers; seconds, unless something else is said.

    Args:
        ours, plain: pictures a second of many clients at the same time.
        our_shorts, plain_shorts: of short requests among long ones.
        our_alone: of a request that is alone, on our service.
        bare: of the bare pipeline's call of the same pictures.
        stored, uploaded: of a picture with a stored character; of creating one and generating with it.
        encoding: of these, what encoding the reference took.
    """

    ours: float
    plain: float
    our_shorts: list[float]
    plain_shorts: list[float]
    our_alone: list[float]
    bare: list[float]
    stored: list[float]
    uploaded: list[float]
    encoding: list[float]


def figures(rounds: Sequence[Round]) -> dict[str, Any]:
    """The figures of the report, except those of the soak test."""
    ours, plain = ([getattr(r, name) for r in rounds] for name in ("ours", "plain"))
    short = percentile(_all(r.our_shorts for r in rounds), 0.99)
    plain_short = percentile(_all(r.plain_shorts for r in rounds), 0.99)
    alone, bare = median(_all(r.our_alone for r in rounds)), median(_all(r.bare for r in rounds))
    stored, uploaded = median(_all(r.stored for r in rounds)), median(_all(r.uploaded for r in rounds))
    ratios = [r.ours / r.plain for r in rounds]
    return {
        "throughput_over_plain": median(ours) / median(plain),
        "short_p99_over_plain": short / plain_short,
        "overhead_ms": 1000 * (alone - bare),
        "overhead_share": (alone - bare) / bare,
        "overhead_over_limit": 1000 * (alone - bare) / (100 * bare + 15),
        "stored_character_saves_s": uploaded - stored,
        "spread": {"throughput_over_plain": {"low": min(ratios), "high": max(ratios)}},
        "pictures_per_second": {"ours": ours, "plain": plain},
        "short_p99_s": {"ours": short, "plain": plain_short},
        "alone_s": {"ours": alone, "bare": bare},
        "character_s": {
            "stored": stored,
            "uploaded": uploaded,
            "encoding": median(_all(r.encoding for r in rounds)),
        },
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of ``values`` that at least ``share`` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def growth(samples: Sequence[float]) -> float:
    """Relative growth from the first fifth after the warm-up to the last fifth."""
    size = max(1, int(len(samples) * _SHARE))
    return median(samples[-size:]) / median(samples[size : 2 * size] or samples[:1]) - 1


def soak_figures(
    statuses: Iterable[int], jobs: Iterable[str], memory: Sequence[float], capacity: float, rate: float
) -> dict[str, Any]:
    """The figures of a soak test.

    Args:
        statuses: of all answers.
        jobs: how each accepted job ended.
        memory: samples of the service's resident bytes.
        capacity, rate: requests a second that the service can do, and that came.
    """
    counted, ended = Counter(statuses), Counter(jobs)
    return {
        "answers": {str(status): number for status, number in sorted(counted.items())},
        "other_answers": sum(number for status, number in counted.items() if status not in ALLOWED),
        "jobs_accepted": sum(ended.values()),
        "jobs_done": ended["done"],
        "jobs_ended": dict(ended),
        "memory_growth": growth(memory),
        "memory_mib": {"first": memory[0] / 2**20, "last": memory[-1] / 2**20, "most": max(memory) / 2**20},
        "capacity_per_s": capacity,
        "arrivals_per_s": rate,
    }


def _all(lists: Iterable[Sequence[float]]) -> list[float]:
    return [value for values in lists for value in values]
