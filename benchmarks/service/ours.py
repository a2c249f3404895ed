"""The service on its own Ray cluster.

``python -m benchmarks.service.ours <preset> [key=value …]`` prints its URL and serves until its input ends.
"""

from __future__ import annotations

import sys

import ray

from components.cluster import connect
from components.config import load_config
from components.progress import quiet_libraries
from deploy import app


def main(preset: str, *overrides: str) -> None:
    quiet_libraries()
    config = load_config(preset, overrides)
    connect(config.serving.generator_threads * config.serving.max_replicas + 2)
    url = app.start(config)
    print(url, flush=True)
    sys.stdin.read()
    app.stop()
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
