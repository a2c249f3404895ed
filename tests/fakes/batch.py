"""A registry (module path ``tests.fakes.batch``) of a pipeline that a row can kill, and a run in its own process.

``python -m tests.fakes.batch <table> <output> [key=value …]`` draws a table and prints what became of it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

from components.batch.run import generate_table
from components.config import Config, load_config
from components.model.generation_request import GenerationRequest
from tests.fakes.pipeline import FakePipeline, FakeState


class KillablePipeline(FakePipeline):
    """Dies of a prompt with the word "deadly"."""

    def begin(self, request: GenerationRequest) -> FakeState:
        if "deadly" in request.prompts[0]:
            os._exit(1)
        return super().begin(request)


def resolve(config: Config, uri: str) -> SimpleNamespace:
    return SimpleNamespace(name="fake", version="1")


def load_pipeline(config: Config, uri: str) -> KillablePipeline:
    return KillablePipeline()


def main(table: str, output: str, *overrides: str) -> None:
    report = generate_table(load_config("tiny", overrides), table, Path(output), "tests.fakes.batch")
    print(report.rows, report.done, report.failed, report.generated)


if __name__ == "__main__":
    main(*sys.argv[1:])
