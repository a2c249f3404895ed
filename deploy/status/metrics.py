"""Prometheus' families of the service: what each part counts, and how the reports of all become one page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from components.engine.future import ImageFuture
from components.engine.request import Phase
from components.engine.stats import Stats
from components.jobs.job import QueueStatus, State
from deploy.status.replica_status import Report, Serving

#: Upper bounds in seconds: from a picture of the miniature to an hour in the queue.
SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 3600)


class GeneratorMetrics:
    """What a generator counts beside its engines' own numbers."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._first_step = Histogram(
            "realcustom_first_step_seconds",
            "From a picture's entry into the engine to the end of its first step",
            ["version"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._tokens = Counter(
            "realcustom_subject_tokens",
            "Characters in orders, by whether their vision tokens were cached, kept or had to be computed",
            ["source"],
            registry=self._registry,
        )
        self._orders = Counter(
            "realcustom_orders", "Orders delivered, by the version that drew them", ["version"], registry=self._registry
        )
        self._rollouts = Counter(
            "realcustom_rollouts",
            "Versions that were to be served: switched to, or failed to load",
            ["outcome"],
            registry=self._registry,
        )

    def count_first_step(self, version: str, handle: ImageFuture) -> None:
        """A picture is done with, however it ended."""
        if handle.first_step is not None:
            self._first_step.labels(version).observe(handle.first_step - handle.since[Phase.QUEUED])

    def count_tokens(self, source: str) -> None:
        """A character's tokens were ``cached`` here, ``kept`` or had to be ``computed``."""
        self._tokens.labels(source).inc()

    def count_order(self, version: str) -> None:
        """An order was delivered."""
        self._orders.labels(version).inc()

    def count_rollout(self, outcome: str) -> None:
        """Another version is served now (``switched``), or could not be loaded (``failed``)."""
        self._rollouts.labels(outcome).inc()

    def families(self, model: str, versions: Sequence[Serving], engines: Mapping[str, Stats]) -> tuple[Metric, ...]:
        """All of it now, with the versions that are loaded and what their engines are doing."""
        info = GaugeMetricFamily("realcustom_model_info", "Loaded versions", labels=["model", "version", "role"])
        for serving in versions:
            info.add_metric([model, serving.version, serving.role], 1)
        return (*self._registry.collect(), *engine_families(engines), info)


def engine_families(engines: Mapping[str, Stats]) -> Iterator[Metric]:
    """What engines say of themselves, by version."""
    gauges: dict[str, tuple[str, Callable[[Stats], float]]] = {
        "pixels": ("Pixels that are being denoised", lambda s: s.pixels),
        "pixel_budget": ("Most pixels that are denoised at the same time", lambda s: s.budget),
        "batch": ("Pictures in the last step", lambda s: s.batch),
        "recent_step_seconds": ("Mean of the last steps", lambda s: s.step_s),
        "backlog_seconds": ("Until what is queued and denoised now will be done", lambda s: s.backlog_s),
        "silent_seconds": ("Since anything moved although there is work", lambda s: s.silent_s),
    }
    counters: dict[str, tuple[str, Callable[[Stats], float]]] = {
        "steps": ("Steps", lambda s: s.steps),
        "step_time_seconds": ("Seconds of all steps", lambda s: s.step_seconds),
        "step_pictures": ("Pictures in all steps, each in every step it took part in", lambda s: s.pictures),
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
    now = GaugeMetricFamily("realcustom_engine_requests", "Pictures by phase", labels=["version", "phase"])
    ended = CounterMetricFamily("realcustom_engine_ended", "Pictures by how they ended", labels=["version", "phase"])
    for version, stats in engines.items():
        for phase in ("queued", "denoising", "decoding"):
            now.add_metric([version, phase], getattr(stats, phase))
        for last, count in stats.ended.items():
            ended.add_metric([version, last], count)
    yield now
    yield ended


def job_families(outlook: QueueStatus) -> tuple[Metric, ...]:
    """The jobs of the whole service: every worker says the same."""
    states = GaugeMetricFamily("realcustom_jobs", "Jobs that are kept, by state", labels=["state"])
    for state in State:
        states.add_metric([state], outlook.states.get(state, 0))
    oldest = GaugeMetricFamily("realcustom_jobs_oldest_queued_seconds", "How long the oldest queued job has waited")
    oldest.add_metric([], outlook.oldest_s)
    return states, oldest


def exposition(reports: Iterable[Report]) -> bytes:
    """The page that Prometheus reads: the families of all ``reports``, each sample with its replica's name."""
    return generate_latest(_Merged(reports))


class _Merged(Collector):
    def __init__(self, reports: Iterable[Report]) -> None:
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
