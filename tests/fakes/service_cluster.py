"""The whole service on a Ray of three nodes, over fakes; the head has no processors, so that replicas are elsewhere.

``python -m tests.fakes.service_cluster <store> <port> [key=value …]`` prints its URL and serves until its input ends.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import ray
from ray.cluster_utils import Cluster

from components.config import load_config
from deploy import app


def main(store: str, port: str, *overrides: str) -> None:
    config = load_config("tiny", [f"serving.store={store}", f"serving.port={port}", *overrides])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=3)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    print(app.start(config, registry="tests.fakes.pipeline"), flush=True)
    sys.stdin.read()
    app.stop()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
