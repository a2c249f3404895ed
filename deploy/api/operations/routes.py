"""The routes of whoever runs the service: is it alive, is it ready, what is it doing, what does it serve."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, params
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from components.config import Config
from deploy.api.error_responses import ApiError
from deploy.api.request_metrics import RequestMetrics
from deploy.api.schema import ModelPage, ModelResponse, ServedVersion
from deploy.status.metrics import exposition
from deploy.status.readiness import troubles
from deploy.status.replica_status import ReplicaStatus, Report, Serving, posted


def operation_routes(
    config: Config,
    model: ModelResponse,
    board: ReplicaStatus,
    metrics: RequestMetrics,
    keys: Sequence[params.Depends] = (),
) -> APIRouter:
    """``/healthz``, ``/readyz``, ``/metrics`` and ``/v1/models``.

    Args:
        model: what is served where no generator says otherwise.
        metrics: this gateway's own.
        keys: what has the document say that a key is to be sent to those that need one.
    """
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether this gateway is alive; it needs no key."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Whether all parts are ready to draw; if not, 503 says which are not. It needs no key."""
        found = troubles(await posted(board), config.serving.min_replicas)
        if found:
            told = "; ".join(f"{part}: {trouble}" for part, trouble in found.items())
            raise ApiError(503, f"not ready: {told}", code="not_ready")
        return {"status": "ready"}

    @router.get("/metrics", response_class=PlainTextResponse, dependencies=keys)
    async def prometheus() -> PlainTextResponse:
        """What the service has done and is doing, for Prometheus."""
        own = Report("gateway", "gateway", metrics=metrics.families())
        page = exposition([own, *await posted(board)])
        return PlainTextResponse(page, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    @router.get("/v1/models", dependencies=keys)
    async def list_models() -> ModelPage:
        """The model that is served, and its versions."""
        return ModelPage(data=[served(model, await posted(board))])

    return router


def served(model: ModelResponse, reports: list[Report]) -> ModelResponse:
    """The model with the versions that generators report; the version of most of them comes first."""
    counts: dict[Serving, int] = {}
    for report in reports:
        for serving in report.versions:
            counts[serving] = counts.get(serving, 0) + 1
    if not counts:
        return model
    found = [ServedVersion(version=s.version, role=s.role, replicas=count) for s, count in counts.items()]
    found.sort(key=lambda each: (each.role, -each.replicas, each.version))
    champion = next((each.version for each in found if each.role == "champion"), model.version)
    return model.model_copy(update={"version": champion, "versions": found})
