"""The baseline: the same pipeline in a plain FastAPI server, which processes one request at a time.

``python -m benchmarks.service.plain <preset> [key=value …]`` prints its URL and serves until its input ends.
"""

from __future__ import annotations

import asyncio
import base64
import io
import socket
import sys
import threading
import time
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel

from components.config import Config, load_config
from components.cut_outs import cut_out
from components.data.region import subject_mask
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.progress import quiet_libraries


class PlainReference(BaseModel):
    """A picture of a subject, in base64."""

    picture: str


class PlainRequest(BaseModel):
    prompt: str
    seed: int
    steps: int
    subject: int
    word: str


def create_app(config: Config, pipeline: RealCustomPipeline) -> FastAPI:
    """``POST /subjects`` encodes and stores a reference; ``POST /pictures`` generates with a stored one."""
    app = FastAPI()
    turn = asyncio.Lock()  # first come, first served
    kept: list[torch.Tensor] = []

    def encode(data: bytes) -> int:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        kept.append(pipeline.encode_subject([cut_out(picture, subject_mask(picture), pipeline.reference_size)]))
        return len(kept) - 1

    def generate(request: PlainRequest) -> dict[str, Any]:
        settings = config.sampling.arguments | {"num_inference_steps": request.steps}
        subject = Subject(kept[request.subject], request.word)
        noise = torch.Generator().manual_seed(request.seed)
        started = time.perf_counter()
        result = pipeline(request.prompt, subjects=subject, **settings, generator=noise)
        bare_s = time.perf_counter() - started
        buffer = io.BytesIO()
        result.images[0].save(buffer, "PNG")
        return {"b64_json": base64.b64encode(buffer.getvalue()).decode(), "bare_s": bare_s}

    @app.post("/subjects")
    async def create_subject(reference: PlainReference) -> int:
        async with turn:
            return await asyncio.to_thread(encode, base64.b64decode(reference.picture))

    @app.post("/pictures")
    async def create_picture(request: PlainRequest) -> dict[str, Any]:
        async with turn:
            return await asyncio.to_thread(generate, request)

    return app


def main(preset: str, *overrides: str) -> None:
    quiet_libraries()
    config = load_config(preset, overrides)
    torch.set_num_threads(config.serving.generator_threads)
    app = create_app(config, RealCustomPipeline.from_config(config))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    threading.Thread(target=lambda: (sys.stdin.read(), setattr(server, "should_exit", True)), daemon=True).start()
    print("http://{}:{}".format(*listening.getsockname()), flush=True)
    server.run([listening])


if __name__ == "__main__":
    main(*sys.argv[1:])
