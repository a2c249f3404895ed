"""Resuming, sharing and accumulating: the same parameters for any number of workers and interruptions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from components.config import Config
from components.training.batches import read_window
from components.training.dataset_rows import find_rows
from components.training.learner import Learner
from components.training.validation import validation_loss
from tests.fixtures.prepared_dataset import write_prepared
from tests.fixtures.tolerances import adam_error, additions, attends_in_bf16, distance

STEPS = 6


def small(config: Config, **training: object) -> Config:
    settings = {"steps": STEPS, "batch_size": 4, "warmup": 2, "learning_rate": 1e-3, "shuffle_rows": 8, "ema": 0.5}
    settings |= {} if attends_in_bf16() else {"bf16": False}
    adapter = config.adapter.model_copy(update={"head_dim": 8, "hidden_dim": 32})
    update = {"training": config.training.model_copy(update=settings | training), "adapter": adapter}
    return config.model_copy(update=update)


@pytest.fixture
def prepared(config: Config) -> Config:
    """A dataset of the miniature's shapes, features included."""
    features = Learner(small(config, workers=1), torch.device("cpu")).absent.vision
    patches, channels = features.deep.shape[1:]
    shapes = {"deep": (patches, channels), "local": (4 * patches, channels), "face": (patches,)}
    write_prepared(
        Path(config.training.dataset),
        {("train", "64x64"): 40, ("validation", "64x64"): 7},
        references=shapes,
    )
    return config


def advance(learner: Learner, config: Config, steps: range, lanes: Sequence[int]) -> list[float]:
    rows = find_rows(config.training.dataset, config.training)
    return [learner.train_step(step, read_window(rows, step, lanes)).loss for step in steps]


def parameters(learner: Learner) -> dict[str, Tensor]:
    tensors = {}
    for name, module in learner.shared.modules.items():
        tensors |= {f"{name}.{key}": value.detach().clone() for key, value in module.state_dict().items()}
    return tensors


def furthest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[key] - b[key]).abs().max()) for key in a)


def movement(start: dict[str, Tensor], end: dict[str, Tensor]) -> Tensor:
    """How far each parameter has moved, [n]."""
    return torch.cat([(end[key] - value).flatten() for key, value in start.items()])


@pytest.mark.parametrize("killed_after", [1, 4])
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(
    prepared: Config, tmp_path: Path, killed_after: int
) -> None:
    config = small(prepared, workers=1)
    whole = Learner(config, torch.device("cpu"))
    start = parameters(whole)
    losses = advance(whole, config, range(STEPS), [0])
    killed = Learner(config, torch.device("cpu"))
    advance(killed, config, range(killed_after), [0])
    killed.save(tmp_path / "state", killed_after, write=True)
    advance(killed, config, range(killed_after, killed_after + 1), [0])  # lost with the worker
    resumed = Learner(config, torch.device("cpu"))
    step = resumed.load(tmp_path / "state")
    assert step == killed_after
    assert advance(resumed, config, range(step, STEPS), [0]) == losses[step:]
    assert furthest(parameters(resumed), parameters(whole)) == 0
    assert furthest(parameters(whole), start) > 1e-4  # it did learn
    state = whole.optimizer.state_dict()["state"], resumed.optimizer.state_dict()["state"]
    assert all(torch.equal(state[0][i][slot], state[1][i][slot]) for i in state[0] for slot in state[0][i])


def test_checkpointed_activations_give_the_same_gradients(prepared: Config) -> None:
    results = []
    for checkpointing in (False, True):
        config = small(prepared, workers=1, gradient_checkpointing=checkpointing)
        learner = Learner(config, torch.device("cpu"))
        advance(learner, config, range(2), [0])
        results.append(parameters(learner))
    assert furthest(*results) == 0


def test_a_gradient_that_is_not_finite_moves_nothing(prepared: Config) -> None:
    config = small(prepared, workers=1)
    learner = Learner(config, torch.device("cpu"))
    rows = find_rows(config.training.dataset, config.training)
    [(lane, batch)] = read_window(rows, 0, [0])
    batch["latents"][1, 0, 0, 0] = float("nan")
    before = parameters(learner)
    assert not learner.train_step(0, [(lane, batch)]).finite
    assert furthest(before, parameters(learner)) == 0
    assert learner.train_step(0, read_window(rows, 0, [0])).finite  # nothing of it is left


def test_the_validation_loss_is_the_same_each_time_and_leaves_no_trace(prepared: Config) -> None:
    config = small(prepared, workers=1)
    learner = Learner(config, torch.device("cpu"))
    first = validation_loss(learner, config.training.dataset)
    assert first is not None and first == validation_loss(learner, config.training.dataset)
    untouched = Learner(config, torch.device("cpu"))
    assert advance(learner, config, range(2), [0]) == advance(untouched, config, range(2), [0])
    assert validation_loss(learner, config.training.dataset) != first


def _worker(rank: int, world: int, rendezvous: str, config: Config, work: Callable[..., None], out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    try:
        work(rank, world, config, out)
    finally:
        dist.destroy_process_group()


def _train_and_save(rank: int, world: int, config: Config, out: str) -> None:
    learner = Learner(config, torch.device("cpu"))
    saved = Path(out, "resume")
    start = learner.load(saved) if saved.exists() else 0
    advance(learner, config, range(start, STEPS), range(rank, config.training.lanes, world))
    validation = validation_loss(learner, config.training.dataset)
    learner.save(Path(out, "state"), STEPS, write=rank == 0)
    average = learner.shared.whole_average(keep=rank == 0)
    assert (average is None) == (rank > 0)
    if average is not None:
        average.save_pretrained(Path(out, "average"))
        Path(out, "validation").write_text(repr(validation))


def distributed(config: Config, world: int, out: Path) -> tuple[dict[str, Tensor], float]:
    """Train on so many processes; the state they saved, and their validation loss."""
    out.mkdir(exist_ok=True)
    mp.spawn(_worker, (world, str(out / "rendezvous"), config, _train_and_save, str(out)), nprocs=world)
    learner = Learner(config, torch.device("cpu"))
    assert learner.load(out / "state") == STEPS
    return parameters(learner), float(Path(out, "validation").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_workers_end_where_one_with_their_lanes_does(prepared: Config, tmp_path: Path, sharding: str) -> None:
    """Also where lanes cannot be shared evenly, and where gradients are accumulated."""
    torch.set_num_threads(1)
    for workers, accumulation in ((2, 1), (3, 1), (2, 2)):
        # In float32, since rounding the parameters to bfloat16 is not continuous.
        parallel = {"workers": workers, "accumulation": accumulation, "sharding": sharding}
        config = small(prepared, batch_size=2, bf16=False, **parallel)
        alone = Learner(config, torch.device("cpu"))
        start = parameters(alone)
        advance(alone, config, range(STEPS), range(config.training.lanes))
        together, validation = distributed(config, 2, tmp_path / f"{workers}-{accumulation}")
        allowed = adam_error(torch.float32, STEPS * additions(alone.shared.denoiser))
        if sharding == "ddp" and (workers, accumulation) == (2, 1):
            allowed = 0.0  # the half that a worker adds is the half that two workers average
        assert distance(movement(start, together), movement(start, parameters(alone))) <= allowed
        expected = validation_loss(alone, config.training.dataset)
        assert expected is not None and validation == pytest.approx(expected, rel=allowed)


@pytest.mark.slow
def test_a_sharded_training_goes_on_where_a_whole_one_stopped(prepared: Config, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    kinds = ("ddp", "fsdp")
    whole, sharded = (small(prepared, workers=2, batch_size=2, bf16=False, sharding=kind) for kind in kinds)
    uninterrupted, _ = distributed(whole, 2, tmp_path / "whole")
    alone = Learner(whole, torch.device("cpu"))
    start = parameters(alone)
    advance(alone, whole, range(3), range(2))
    (tmp_path / "part").mkdir()
    alone.save(tmp_path / "part" / "resume", 3, write=True)
    resumed, _ = distributed(sharded, 2, tmp_path / "part")
    allowed = adam_error(torch.float32, STEPS * additions(alone.shared.denoiser))
    assert distance(movement(start, resumed), movement(start, uninterrupted)) < allowed
