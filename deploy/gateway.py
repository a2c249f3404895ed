"""The HTTP interface, and only that: requests become calls of the service's parts, results become JSON."""

from __future__ import annotations

from fastapi import FastAPI

from components.config import Config
from deploy.board import Board
from deploy.character_routes import character_routes
from deploy.document import install_document
from deploy.door import Door, documented
from deploy.edits import edit_routes
from deploy.envelope import install_error_handlers
from deploy.guards import HideErrors, LimitBody
from deploy.image_routes import image_routes
from deploy.job_routes import job_routes
from deploy.measure import Measure, RequestMetrics
from deploy.operation_routes import operation_routes
from deploy.patience import LimitTime, Patience
from deploy.protocols import Characters, Generator, Jobs
from deploy.schema import ModelResponse


def create_app(
    config: Config,
    model: ModelResponse,
    characters: Characters,
    generator: Generator,
    jobs: Jobs,
    board: Board | None = None,
) -> FastAPI:
    """The application over its parts.

    Args:
        config: the defaults (``sampling``) and limits (``serving``) of requests.
        model: what is served.
        board: where the parts say how they are; one of its own, where nobody does, by default.
    """
    board = board or Board()
    patience, metrics = Patience(board, config.serving), RequestMetrics()
    app = FastAPI(title="RealCustom Studio")
    # The last one added is the first one met.
    app.add_middleware(LimitBody, max_bytes=config.serving.max_upload_bytes)
    if config.serving.access.keys == "required":
        app.add_middleware(Door, config=config)
    app.add_middleware(HideErrors)
    app.add_middleware(LimitTime, seconds=config.serving.request_timeout_s, patience=patience)
    app.add_middleware(Measure, metrics=metrics)
    install_error_handlers(app, patience.retry_after_s)
    keys = documented(config)
    app.include_router(operation_routes(config, model, board, metrics, keys))
    app.include_router(character_routes(config, model.id, characters, generator), dependencies=keys)
    app.include_router(image_routes(config, model.id, characters, generator), dependencies=keys)
    app.include_router(edit_routes(config, model.id, characters, generator), dependencies=keys)
    app.include_router(job_routes(config, model.id, characters, jobs), dependencies=keys)
    install_document(app)
    return app
