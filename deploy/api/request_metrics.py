"""What the gateway counts of the requests that pass through it."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.status.metrics import SECONDS

#: Requests of a route that its quantiles are taken from.
_RECENT = 1000
_QUANTILES = (0.5, 0.99)
#: Answers that ask the client to come back later.
_REFUSALS = (429, 503)


class RequestMetrics:
    """Durations by route, and refusals by reason."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "realcustom_request_seconds",
            "From a request's arrival to the end of its answer",
            ["method", "route", "status"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._refused = Counter(
            "realcustom_rejections", "Requests refused for now, by reason", ["reason"], registry=self._registry
        )
        self.open = Gauge("realcustom_requests_open", "Requests that are being answered", registry=self._registry)
        self._recent: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_RECENT))

    def count(self, method: str, route: str, status: int, seconds: float, reason: str | None) -> None:
        """A request was answered; ``reason`` is the code of a refusal."""
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
            f"Of the last {_RECENT:,} requests of a route",
            labels=["route", "quantile"],
        )
        for route, recent in self._recent.items():
            ordered = sorted(recent)
            for quantile in _QUANTILES:
                quantiles.add_metric([route, str(quantile)], ordered[int(quantile * (len(ordered) - 1))])
        yield quantiles


class CountRequests:
    """ASGI middleware: counts every request, under its route and never under its path."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, reason = time.perf_counter(), 500, None

        async def sent(message: Message) -> None:
            nonlocal status, reason
            if message["type"] == "http.response.start":
                status, reason = message["status"], Headers(raw=message["headers"]).get("X-Error-Code")
            await send(message)

        with self._metrics.open.track_inprogress():
            try:
                await self._app(scope, receive, sent)
            finally:
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.count(scope["method"], route, status, time.perf_counter() - started, reason)
