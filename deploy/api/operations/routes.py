"""Routes for operators: health, readiness, metrics and the served model."""

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
from deploy.status.readiness import readiness_problems
from deploy.status.replica_status import LoadedVersion, ReplicaReport, ReplicaStatus, read_reports


def operation_routes(
    config: Config,
    model: ModelResponse,
    status: ReplicaStatus,
    metrics: RequestMetrics,
    security: Sequence[params.Depends] = (),
) -> APIRouter:
    """``/healthz``, ``/readyz``, ``/metrics`` and ``/v1/models``.

    Args:
        model: the served model, if no generator reports a version.
        metrics: of this gateway.
        security: dependencies that document the key of the routes that need one.
    """
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether this gateway is alive. Needs no key."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Whether all parts of the service are ready; 503 names those that are not. Needs no key."""
        problems = readiness_problems(await read_reports(status), config.serving.min_replicas)
        if problems:
            listed = "; ".join(f"{part}: {problem}" for part, problem in problems.items())
            raise ApiError(503, f"not ready: {listed}", code="not_ready")
        return {"status": "ready"}

    @router.get("/metrics", response_class=PlainTextResponse, dependencies=security)
    async def prometheus() -> PlainTextResponse:
        """The metrics of all replicas, for Prometheus."""
        own = ReplicaReport("gateway", "gateway", metrics=metrics.families())
        page = exposition([own, *await read_reports(status)])
        return PlainTextResponse(page, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    @router.get("/v1/models", dependencies=security)
    async def list_models() -> ModelPage:
        """The served model and its loaded versions."""
        return ModelPage(data=[served_model(model, await read_reports(status))])

    return router


def served_model(model: ModelResponse, reports: list[ReplicaReport]) -> ModelResponse:
    """The model with the versions that generators report, sorted by role and number of replicas."""
    counts: dict[LoadedVersion, int] = {}
    for report in reports:
        for loaded in report.versions:
            counts[loaded] = counts.get(loaded, 0) + 1
    if not counts:
        return model
    versions = [ServedVersion(version=v.version, role=v.role, replicas=count) for v, count in counts.items()]
    versions.sort(key=lambda v: (v.role, -v.replicas, v.version))
    champion = next((v.version for v in versions if v.role == "champion"), model.version)
    return model.model_copy(update={"version": champion, "versions": versions})
