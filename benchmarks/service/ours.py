"""The whole service on a Ray of its own.

``python -m benchmarks.service.ours <preset> [key=value …]`` prints its URL and serves until its input ends.
"""

from __future__ import annotations

import sys

import ray

from components.config import load_config
from components.progress import quiet_libraries
from deploy import app


def main(preset: str, *overrides: str) -> None:
    quiet_libraries()
    url = app.start(load_config(preset, overrides))
    print(url, flush=True)
    sys.stdin.read()
    app.stop()
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
