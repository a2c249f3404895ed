"""The HTTP interface, and only that: requests become calls of the service's parts, results become JSON."""

from __future__ import annotations

from fastapi import FastAPI

from components.config import Config
from deploy.character_routes import character_routes
from deploy.document import install_document
from deploy.door import Door, documented
from deploy.edits import edit_routes
from deploy.envelope import HideErrors, LimitBody, install_error_handlers
from deploy.image_routes import image_routes
from deploy.job_routes import job_routes
from deploy.protocols import Characters, Generator, Jobs
from deploy.schema import ModelPage, ModelResponse


def create_app(
    config: Config, model: ModelResponse, characters: Characters, generator: Generator, jobs: Jobs
) -> FastAPI:
    """The application over its parts.

    Args:
        config: the defaults (``sampling``) and limits (``serving``) of requests.
        model: what is served.
    """
    app = FastAPI(title="RealCustom Studio")
    # The last one added is the first one met.
    app.add_middleware(LimitBody, max_bytes=config.serving.max_upload_bytes)
    if config.serving.access.keys == "required":
        app.add_middleware(Door, config=config)
    app.add_middleware(HideErrors)
    install_error_handlers(app)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def list_models() -> ModelPage:
        return ModelPage(data=[model])

    keys = documented(config)
    app.include_router(character_routes(characters), dependencies=keys)
    app.include_router(image_routes(config, model.id, characters, generator), dependencies=keys)
    app.include_router(edit_routes(config, model.id, characters, generator), dependencies=keys)
    app.include_router(job_routes(config, model.id, characters, jobs), dependencies=keys)
    install_document(app)
    return app
