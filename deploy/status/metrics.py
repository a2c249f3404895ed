"""Prometheus metrics: the families of generators, engines and jobs, and one page of all replicas' reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from components.engine.future import ImageFuture
from components.engine.request import Phase
from components.engine.stats import Stats
from components.jobs.job import QueueStatus, State
from deploy.status.replica_status import LoadedVersion, ReplicaReport

#: Histogram buckets in seconds: from one image of the miniature to an hour in the queue.
SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 3600)


class GeneratorMetrics:
    """A generator's own counters; its engines report theirs in `Stats`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._start = Gauge(
            "realcustom_start_seconds",
            "Duration of a version's start, by part: load, and then warm_up with the measurement of the pixel budget",
            ["version", "part"],
            registry=self._registry,
        )
        self._first_step = Histogram(
            "realcustom_first_step_seconds",
            "From an image's submission to the engine to the end of its first step",
            ["version"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._tokens = Counter(
            "realcustom_subject_tokens",
            "Characters in requests, by source of their vision tokens: cached, kept (stored) or computed",
            ["source"],
            registry=self._registry,
        )
        self._requests = Counter(
            "realcustom_orders", "Completed generation requests, by model version", ["version"], registry=self._registry
        )
        self._rollouts = Counter(
            "realcustom_rollouts",
            "Rollouts of versions, by outcome: switched to, or failed to load",
            ["outcome"],
            registry=self._registry,
        )

    def observe_start(self, version: str, load_s: float, warm_up_s: float) -> None:
        """Record how long a version took to load, and then to be ready."""
        for part, seconds in (("load", load_s), ("warm_up", warm_up_s)):
            self._start.labels(version, part).set(seconds)

    def count_first_step(self, version: str, future: ImageFuture) -> None:
        """Count an image that has ended, unless it ended before its first step."""
        if future.first_step is not None:
            self._first_step.labels(version).observe(future.first_step - future.since[Phase.QUEUED])

    def count_tokens(self, source: str) -> None:
        """Count a character by the source of its tokens: ``cached``, ``kept`` or ``computed``."""
        self._tokens.labels(source).inc()

    def count_request(self, version: str) -> None:
        """Count a completed request."""
        self._requests.labels(version).inc()

    def count_rollout(self, outcome: str) -> None:
        """Count a change of the served versions: ``switched``, or ``failed`` to load."""
        self._rollouts.labels(outcome).inc()

    def families(
        self, model: str, versions: Sequence[LoadedVersion], engines: Mapping[str, Stats]
    ) -> tuple[Metric, ...]:
        """All families, with the loaded versions and their engines' statistics."""
        info = GaugeMetricFamily("realcustom_model_info", "Loaded model versions", labels=["model", "version", "role"])
        for loaded in versions:
            info.add_metric([model, loaded.version, loaded.role], 1)
        return (*self._registry.collect(), *engine_families(engines), info)


def engine_families(engines: Mapping[str, Stats]) -> Iterator[Metric]:
    """The statistics of engines, by version."""
    gauges: dict[str, tuple[str, Callable[[Stats], float]]] = {
        "pixels": ("Pixels that are being denoised", lambda s: s.pixels),
        "pixel_budget": ("Maximum of pixels that are denoised at the same time", lambda s: s.budget),
        "batch": ("Images in the last step", lambda s: s.batch),
        "recent_step_seconds": ("Mean duration of the last steps", lambda s: s.step_s),
        "backlog_seconds": ("Seconds until all queued and running requests are done", lambda s: s.backlog_s),
        "silent_seconds": ("Seconds without progress although there is work", lambda s: s.silent_s),
    }
    counters: dict[str, tuple[str, Callable[[Stats], float]]] = {
        "steps": ("Denoising steps", lambda s: s.steps),
        "step_time_seconds": ("Total duration of all steps", lambda s: s.step_seconds),
        "step_pictures": ("Images summed over all steps", lambda s: s.pictures),
    }
    for name, (text, value) in gauges.items():
        gauge = GaugeMetricFamily(f"realcustom_engine_{name}", text, labels=["version"])
        for version, stats in engines.items():
            gauge.add_metric([version], value(stats))
        yield gauge
    for name, (text, value) in counters.items():
        counter = CounterMetricFamily(f"realcustom_engine_{name}", text, labels=["version"])
        for version, stats in engines.items():
            counter.add_metric([version], value(stats))
        yield counter
    now = GaugeMetricFamily("realcustom_engine_requests", "Images in the engine, by phase", labels=["version", "phase"])
    ended = CounterMetricFamily(
        "realcustom_engine_ended", "Images that have ended, by final phase", labels=["version", "phase"]
    )
    for version, stats in engines.items():
        for phase in ("queued", "denoising", "decoding"):
            now.add_metric([version, phase], getattr(stats, phase))
        for last, count in stats.ended.items():
            ended.add_metric([version, last], count)
    yield now
    yield ended


def job_families(queue_status: QueueStatus) -> tuple[Metric, ...]:
    """The jobs of the whole service; every job worker reports the same."""
    states = GaugeMetricFamily("realcustom_jobs", "Stored jobs, by state", labels=["state"])
    for state in State:
        states.add_metric([state], queue_status.states.get(state, 0))
    oldest = GaugeMetricFamily("realcustom_jobs_oldest_queued_seconds", "Age of the oldest queued job")
    oldest.add_metric([], queue_status.oldest_s)
    return states, oldest


def exposition(reports: Iterable[ReplicaReport]) -> bytes:
    """The page for Prometheus: the families of all reports, each sample labelled with its replica."""
    return generate_latest(_MergedReports(reports))


class _MergedReports(Collector):
    def __init__(self, reports: Iterable[ReplicaReport]) -> None:
        self._reports = list(reports)

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for report in self._reports:
            for family in report.metrics:
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    if not sample.name.endswith("_created"):
                        merged.add_sample(sample.name, {**sample.labels, "replica": report.replica}, sample.value)
        yield from families.values()
