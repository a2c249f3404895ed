"""The HTTP interface, and only that: requests become calls of the service's parts, results become JSON."""

from __future__ import annotations

from fastapi import FastAPI

from components.config import Config
from deploy.api.authentication import Authentication, documented
from deploy.api.characters.routes import character_routes
from deploy.api.error_responses import install_error_handlers
from deploy.api.images.edit_routes import edit_routes
from deploy.api.images.routes import image_routes
from deploy.api.jobs.routes import job_routes
from deploy.api.middleware import HideErrors, LimitBody
from deploy.api.openapi import install_openapi
from deploy.api.operations.routes import operation_routes
from deploy.api.request_metrics import CountRequests, RequestMetrics
from deploy.api.schema import ModelResponse
from deploy.api.stories.routes import story_routes
from deploy.api.studio import studio_routes
from deploy.api.timeouts import LimitTime, RetryAfter
from deploy.interfaces.protocols import Characters, Generator, Jobs
from deploy.interfaces.stories import Stories
from deploy.status.replica_status import ReplicaStatus


def _larger(config: Config) -> dict[str, int]:
    """Paths that take more than other requests."""
    return {"/v1/stories/import": config.serving.stories.max_import_bytes}


def create_app(
    config: Config,
    model: ModelResponse,
    characters: Characters,
    generator: Generator,
    jobs: Jobs,
    board: ReplicaStatus | None = None,
    stories: Stories | None = None,
) -> FastAPI:
    """The application over its parts.

    Args:
        config: the defaults (``sampling``) and limits (``serving``) of requests.
        model: what is served.
        board: where the parts say how they are; one of its own, where nobody does, by default.
        stories: without a part that keeps them, the interface has none.
    """
    board = board or ReplicaStatus()
    patience, metrics = RetryAfter(board, config.serving), RequestMetrics()
    app = FastAPI(title="RealCustom Studio")
    # The last one added is the first one met.
    app.add_middleware(LimitBody, max_bytes=config.serving.max_upload_bytes, larger=_larger(config))
    if config.serving.access.keys == "required":
        app.add_middleware(Authentication, config=config)
    app.add_middleware(HideErrors)
    app.add_middleware(LimitTime, seconds=config.serving.request_timeout_s, patience=patience)
    app.add_middleware(CountRequests, metrics=metrics)
    install_error_handlers(app, patience.retry_after_s)
    keys = documented(config)
    app.include_router(operation_routes(config, model, board, metrics, keys))
    app.include_router(character_routes(config, model.id, characters, generator), dependencies=keys)
    app.include_router(image_routes(config, model.id, characters, generator), dependencies=keys)
    app.include_router(edit_routes(config, model.id, characters, generator), dependencies=keys)
    app.include_router(job_routes(config, model.id, characters, jobs), dependencies=keys)
    if stories is not None:
        app.include_router(story_routes(config, model, stories, jobs, board), dependencies=keys)
    app.include_router(studio_routes())
    install_openapi(app)
    return app
