"""Prometheus metrics of HTTP requests, counted by the gateway."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.status.metrics import SECONDS

#: Number of a route's last requests whose durations give the quantiles.
_WINDOW = 1000
_QUANTILES = (0.5, 0.99)
#: Statuses that tell the client to retry later.
_REFUSALS = (429, 503)


class RequestMetrics:
    """Durations by route, and refused requests by reason."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "realcustom_request_seconds",
            "From the arrival of a request to the end of its response",
            ["method", "route", "status"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._refused = Counter(
            "realcustom_rejections", "Requests refused with 429 or 503, by reason", ["reason"], registry=self._registry
        )
        self.open = Gauge("realcustom_requests_open", "Requests in progress", registry=self._registry)
        self._recent: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_WINDOW))

    def count(self, method: str, route: str, status: int, seconds: float, reason: str | None) -> None:
        """Count a finished request; ``reason`` is the error code of a refused one."""
        self._seconds.labels(method, route, str(status)).observe(seconds)
        self._recent[route].append(seconds)
        if status in _REFUSALS:
            self._refused.labels(reason or str(status)).inc()

    def families(self) -> tuple[Metric, ...]:
        return tuple(self._collect())

    def _collect(self) -> Iterator[Metric]:
        yield from self._registry.collect()
        quantiles = GaugeMetricFamily(
            "realcustom_request_quantile_seconds",
            f"Quantiles of the last {_WINDOW:,} requests of a route",
            labels=["route", "quantile"],
        )
        for route, recent in self._recent.items():
            durations = sorted(recent)
            for quantile in _QUANTILES:
                quantiles.add_metric([route, str(quantile)], durations[int(quantile * (len(durations) - 1))])
        yield quantiles


class RequestMetricsMiddleware:
    """ASGI middleware: counts requests by route. Paths are no labels: there are too many."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, reason = time.perf_counter(), 500, None

        async def send_and_note(message: Message) -> None:
            nonlocal status, reason
            if message["type"] == "http.response.start":
                status, reason = message["status"], Headers(raw=message["headers"]).get("X-Error-Code")
            await send(message)

        with self._metrics.open.track_inprogress():
            try:
                await self._app(scope, receive, send_and_note)
            finally:
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.count(scope["method"], route, status, time.perf_counter() - started, reason)
