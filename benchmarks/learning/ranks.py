"""Memory of two workers that train adapters of several sizes, replicated or sharded."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from benchmarks.memory import PeakMemory
from components.config import Config
from components.training.batches import read_window
from components.training.dataset_rows import find_rows
from components.training.learner import Learner

_STEPS = 3


def memory_by_rank(config: Config, hidden_dim: int, sharding: str) -> dict[str, Any]:
    """The number of parameters of an adapter with this projector width, and the peak MiB of each of two workers."""
    training = config.training.model_copy(
        update={"workers": 2, "sharding": sharding, "batch_size": 2, "shuffle_rows": 2}
    )
    adapter = config.adapter.model_copy(update={"hidden_dim": hidden_dim})
    sized = config.model_copy(update={"training": training, "adapter": adapter})
    with tempfile.TemporaryDirectory() as scratch:
        mp.spawn(_train, (2, scratch, sized), nprocs=2)
        found = [json.loads((Path(scratch) / f"{rank}.json").read_text()) for rank in range(2)]
    return {
        "hidden_dim": hidden_dim,
        "sharding": sharding,
        "parameters": found[0]["parameters"],
        "rank_mib": [one["mib"] for one in found],
    }


def _train(rank: int, world: int, scratch: str, config: Config) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{scratch}/rendezvous", rank=rank, world_size=world)
    try:
        rows = find_rows(config.training.dataset, config.training)
        with PeakMemory("cpu") as peak:
            learner = Learner(config, torch.device("cpu"))
            parameters = sum(p.numel() for p in learner.shared.adapter.parameters())
            for step in range(_STEPS):
                learner.train_step(step, read_window(rows, step, [rank]))
    finally:
        dist.destroy_process_group()
    Path(scratch, f"{rank}.json").write_text(json.dumps({"parameters": parameters, "mib": peak.mib}))
