"""Routes for operators: health, readiness, metrics and the served model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from fastapi import APIRouter, params
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from components.config import Config
from deploy.api.error_responses import ApiError
from deploy.api.schema import ModelPage, ModelResponse, ServedVersion
from deploy.status.metrics import exposition
from deploy.status.readiness import readiness_problems
from deploy.status.replica_status import LoadedVersion, ReplicaReport, ReplicaStatus, read_reports


def operation_routes(
    config: Config,
    model: ModelResponse,
    status: ReplicaStatus,
    report: Callable[[], Awaitable[ReplicaReport]],
    security: Sequence[params.Depends] = (),
    awaited: Callable[[], str | None] | None = None,
) -> APIRouter:
    """``/healthz``, ``/readyz``, ``/metrics`` and ``/v1/models``.

    Args:
        model: the served model, if no generator reports a version.
        report: makes this gateway's report, newer than that in ``status``.
        awaited: what a generator that has not reported waits for, if known; called in a thread.
        security: dependencies that document the key of the routes that need one.
    """
    router = APIRouter()
    model = model.model_copy(update={"loras": list(config.model.loras), "controls": list(config.model.controls)})

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether this gateway is alive. Needs no key."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Whether all parts of the service are ready; 503 names those that are not. Needs no key."""
        reports, least = await read_reports(status), config.serving.min_replicas
        problems = readiness_problems(reports, least)
        if "generator" in problems and awaited is not None:
            problems = readiness_problems(reports, least, await asyncio.to_thread(awaited))
        if problems:
            listed = "; ".join(f"{part}: {problem}" for part, problem in problems.items())
            raise ApiError(503, f"not ready: {listed}", code="not_ready")
        return {"status": "ready"}

    @router.get("/metrics", response_class=PlainTextResponse, dependencies=security)
    async def prometheus() -> PlainTextResponse:
        """The metrics of all replicas, for Prometheus."""
        own = await report()
        others = [each for each in await read_reports(status) if each.replica != own.replica]
        page = exposition([own, *others])
        return PlainTextResponse(page, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    @router.get("/v1/models", dependencies=security)
    async def list_models() -> ModelPage:
        """The served model with its loaded versions, and the LoRAs and controls that requests may name."""
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
