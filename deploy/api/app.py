"""The FastAPI application: middleware and routes over the service's parts."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from components.access.audit import AuditLog
from components.access.stored_answers import AnswerStore
from components.access.usage import UsageStore
from components.config import Config
from components.database import open_service_database
from components.object_store import open_object_store
from deploy.administration.service import AdministrationService
from deploy.api.admin.routes import admin_routes
from deploy.api.audit_recorder import AuditRecorder
from deploy.api.authentication import AuthenticationMiddleware, openapi_security
from deploy.api.body_limits import BodyLimits
from deploy.api.characters.routes import character_routes
from deploy.api.error_responses import install_error_handlers
from deploy.api.fair_generator import FairGenerator
from deploy.api.images.edit_routes import edit_routes
from deploy.api.images.routes import image_routes
from deploy.api.jobs.routes import job_routes
from deploy.api.json_limits import JsonLimitMiddleware
from deploy.api.middleware import BodySizeLimitMiddleware, UnexpectedErrorMiddleware
from deploy.api.open_requests import OPEN_REQUESTS, OpenRequestsMiddleware
from deploy.api.openapi import install_openapi
from deploy.api.operations.routes import operation_routes
from deploy.api.request_log import RequestLogMiddleware
from deploy.api.request_metrics import RequestMetrics, RequestMetricsMiddleware
from deploy.api.retry_after import RetryAfter
from deploy.api.schema import ModelResponse
from deploy.api.stories.history_routes import history_routes
from deploy.api.stories.routes import story_routes
from deploy.api.studio import studio_routes
from deploy.api.time_limits import TimeLimits
from deploy.api.timeouts import TimeoutMiddleware
from deploy.api.usage.routes import usage_routes
from deploy.api.usage_counter import UsageCounter, UsageMiddleware
from deploy.interfaces.administration import Administration
from deploy.interfaces.protocols import Characters, Generator, Jobs
from deploy.interfaces.stories import Stories
from deploy.status.replica_status import RecentReports, ReplicaReport, ReplicaStatus, report_periodically

#: Methods that scripts of other origins may use.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def create_app(
    config: Config,
    model: ModelResponse,
    characters: Characters,
    generator: Generator,
    jobs: Jobs,
    stories: Stories,
    status: ReplicaStatus | None = None,
    administration: Administration | None = None,
    echo_request_id: bool = True,
    awaited: Callable[[], str | None] | None = None,
) -> FastAPI:
    """Create the application.

    Args:
        config: defaults (``sampling``) and limits (``serving``) of requests.
        model: the served model.
        status: the reports of the replicas; by default an empty one.
        administration: usage of owners; by default in this process.
        echo_request_id: answer with ``X-Request-Id``, unless a proxy in front does.
        awaited: see `deploy.api.operations.routes.operation_routes`.
    """
    status, administration = status or ReplicaStatus(), administration or AdministrationService(config)
    serving = config.serving
    reports = RecentReports(status)
    generator, time_limits = FairGenerator(generator, serving, reports), TimeLimits(reports, serving)
    retry_after, metrics = RetryAfter(reports, serving), RequestMetrics()
    engine = open_service_database(serving)
    counter, audit = UsageCounter(UsageStore(engine)), AuditRecorder(AuditLog(engine))
    answers = AnswerStore(open_object_store(serving.store))
    replica = secrets.token_hex(4)

    async def report() -> ReplicaReport:
        return ReplicaReport("gateway", replica, metrics=metrics.families())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        reporting = asyncio.create_task(report_periodically(status, report))
        yield
        reporting.cancel()
        await counter.flush()
        await audit.flush()

    app = FastAPI(title="RealCustom Studio", lifespan=lifespan)
    # The middleware added last is the outermost.
    limits = BodyLimits(config)
    app.add_middleware(JsonLimitMiddleware, max_values=limits.max_values)
    app.add_middleware(BodySizeLimitMiddleware, max_bytes=limits.max_bytes)
    app.add_middleware(UsageMiddleware, counter=counter)
    if config.serving.access.keys == "required":
        most = math.ceil(config.serving.owner_share * OPEN_REQUESTS)
        app.add_middleware(OpenRequestsMiddleware, limit=most)
        app.add_middleware(AuthenticationMiddleware, config=config)
    app.add_middleware(UnexpectedErrorMiddleware)
    app.add_middleware(TimeoutMiddleware, seconds=config.serving.request_timeout_s, retry_after=retry_after)
    if serving.allowed_origins:
        # Outside the authentication: browsers ask without a key, and scripts may read every error.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=serving.allowed_origins,
            allow_methods=_METHODS,
            allow_headers=["*"],
            expose_headers=["*"],
        )
    app.add_middleware(RequestMetricsMiddleware, metrics=metrics)
    app.add_middleware(RequestLogMiddleware, echo=echo_request_id, audit=audit)
    install_error_handlers(app, retry_after.seconds)
    security = openapi_security(config)
    app.include_router(operation_routes(config, model, status, report, security, awaited))
    for router in (
        character_routes(config, model.id, characters, generator, stories, time_limits, answers),
        image_routes(config, model.id, characters, generator, stories, time_limits, answers),
        edit_routes(config, model.id, characters, generator, stories, time_limits, answers),
        job_routes(config, model.id, characters, jobs, time_limits),
        story_routes(config, model, characters, stories, jobs, status, time_limits),
    ):
        app.include_router(router, dependencies=security)
    app.include_router(history_routes(stories), dependencies=security)
    app.include_router(admin_routes(config, administration, jobs, counter, audit), dependencies=security)
    app.include_router(usage_routes(administration, counter, config.serving), dependencies=security)
    app.include_router(studio_routes())
    install_openapi(app)
    return app
