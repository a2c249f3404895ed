"""The whole service in a process, without Ray: a gateway over fakes on a port of its own, whose jobs are worked on."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from components.config import Config, load_config
from components.provenance.image_files import ModelName
from components.provenance.manifests import picture_writer
from deploy.api.app import create_app
from deploy.api.schema import ModelResponse
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from deploy.interfaces.protocols import Generator
from deploy.jobs.service import JobService
from deploy.status.replica_status import ReplicaReport, ReplicaStatus
from deploy.stories.service import StoryService
from tests.fakes.pipeline import FakeNamer, FakePipeline

#: What makes jobs quick to begin and to end. The lease is one that a busy machine keeps.
QUICK = ["serving.jobs.tick_s=0.05", "serving.jobs.lease_s=30"]
#: For tests in which a job is taken over. A stall of the process may end such a lease, too.
SHORT_LEASE = "serving.jobs.lease_s=0.5"
#: Seconds between two reports of the parts, and after which one that is silent is gone.
_REPORT_S, _SILENT_S = 0.2, 1.0


def painter(config: Config, characters: CharacterService) -> GenerationService:
    """A generator that paints in place of drawing."""
    write = picture_writer(config.serving, ModelName("realcustom-tiny", "7"))
    return GenerationService(FakePipeline(), characters, write=write, namer=FakeNamer)


async def serve(
    config: Config,
    listening: socket.socket,
    server: uvicorn.Server,
    generator: Generator | None,
    status: ReplicaStatus | None = None,
) -> None:
    """Serve until the server is told to exit."""
    characters = CharacterService(config)
    generator = generator or painter(config, characters)
    jobs, stories = JobService(config, generator), StoryService(config)
    reported = status is None
    status = status or ReplicaStatus(_SILENT_S)
    model = ModelResponse(id="realcustom-tiny", version="7")
    server.config.app = create_app(config, model, characters, generator, jobs, stories, status)
    jobs.start()
    stories.start()
    reporting = asyncio.create_task(_report(status, generator)) if reported else None
    try:
        await server.serve([listening])
    finally:
        if reporting is not None:
            reporting.cancel()
        await stories.close()
        await jobs.close()


async def _report(status: ReplicaStatus, generator: Generator) -> None:
    """Report what is there, as replicas do."""
    while True:
        await status.report(ReplicaReport("jobs", "jobs-1"))
        if getattr(generator, "there", True):
            await status.report(ReplicaReport("generator", "generator-1"))
        await asyncio.sleep(_REPORT_S)


@contextmanager
def running(config: Config, generator: Generator | None = None, status: ReplicaStatus | None = None) -> Iterator[str]:
    """The service in a thread; the URL that it answers at."""
    listening, server = _listen()
    service = serve(config, listening, server, generator, status)
    thread = threading.Thread(target=lambda: asyncio.run(service), daemon=True)
    thread.start()
    try:
        yield _url(listening)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def main(store: str, *overrides: str) -> None:
    """Print the URL, and serve until this process is killed, at ``serving.port`` where that is given."""
    config = load_config("tiny", [f"serving.store={store}", "serving.port=0", *QUICK, *overrides])
    listening, server = _listen(config.serving.port)
    print(_url(listening), flush=True)
    asyncio.run(serve(config, listening, server, None))


def _listen(port: int = 0) -> tuple[socket.socket, uvicorn.Server]:
    """Requests that come before the server is up wait in the socket."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen()
    return listening, uvicorn.Server(uvicorn.Config(app=_nothing, log_level="warning", timeout_graceful_shutdown=2))


async def _nothing(*_: object) -> None:
    raise AssertionError("the application is put in its place before the server runs")


def _url(listening: socket.socket) -> str:
    return "http://{}:{}".format(*listening.getsockname())
