"""Two implementations that take turns step by step in one thread, so that both meet the same load of the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from greenlet import getcurrent, greenlet

from benchmarks.machine import machine
from benchmarks.memory import PeakMemory
from benchmarks.peers.inputs import DenoisingInputs, Implementation, denoise, random_inputs, share_weights
from benchmarks.peers.ip_adapter import ip_adapter
from benchmarks.peers.ours import Ours, exact
from benchmarks.peers.plain import plain
from benchmarks.peers.stock import make_pipeline, run_pipeline
from benchmarks.picture import picture_implementations
from benchmarks.sizes import SDXL
from components.config import load_config

#: Calls its argument after each of so many steps.
SteppedRun = Callable[[int, Callable[[], None]], object]
_ROUNDS = 3


def alternate(runs: Mapping[str, SteppedRun], steps: int) -> dict[str, list[float]]:
    """Run all of ``runs``, a step of each in turn; returns the seconds of every step.

    What a run does before its first step counts to that step; what it does after its last one is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    main = getcurrent()

    def start(name: str, run: SteppedRun) -> Callable[[], None]:
        def body() -> None:
            began = [time.perf_counter()]

            def after_step() -> None:
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                seconds[name].append(time.perf_counter() - began[0])
                main.switch()
                began[0] = time.perf_counter()

            run(steps, after_step)

        return body

    waiting = [greenlet(start(name, run)) for name, run in runs.items()]
    while waiting:
        for each in list(waiting):
            each.switch()
            if each.dead:
                waiting.remove(each)
    return seconds


def compare_at_full_size(weights: Path, threads: int, device: str, latent: int, steps: int) -> dict[str, Any]:
    """Default against stock, in turns; exact, IP-Adapter and plain once each. Seconds of denoising.

    Then a whole call of the pipeline with a character, from the prompt to the pixels, with random text encoders and a
    random autoencoder of SDXL's shapes (see `whole_call`).

    Args:
        weights: the directory of random weights; of it, the U-Net is used.
        latent: side of the latents, an eighth of that in pixels.
    """
    torch.set_num_threads(threads)
    unet = UNet2DConditionModel.from_pretrained(weights / "base", subfolder="unet", dtype=SDXL.dtype).to(device)
    sampling = load_config("sdxl").sampling
    size = replace(SDXL, latent=latent)
    inputs = random_inputs(size, sampling.guidance, sampling.guidance_scale, device, 0, unet)
    rounds = compare_rounds(inputs, steps, _ROUNDS)
    others = {
        "exact": Ours(inputs, exact(sampling.guidance)).run,
        "ip_adapter": ip_adapter(inputs, size.clip_width).run,
        "plain": plain(inputs).run,
    }
    report = ratio_of_rounds(rounds)
    report["rounds"] = rounds
    report["others_s"] = {name: _timed(run, steps) for name, run in others.items()}
    _, call = picture_implementations(inputs, size)
    return report | whole_call(call, steps, device) | {"steps": steps, "pixels": 8 * latent, "machine": machine()}


def whole_call(call: Implementation, steps: int, device: str) -> dict[str, float | None]:
    """``images_per_s`` of one image at a time, and ``generation_memory_gib``: weights and peak working memory.

    Memory is None where the system does not tell it.
    """
    call.run(1)  # what libraries allocate once, and memory that is read
    with PeakMemory(device) as peak:
        seconds = _timed(call.run, steps)
    memory = None if peak.mib is None else (call.weights_mib + peak.mib) / 1024
    return {"images_per_s": 1 / seconds, "generation_memory_gib": memory}


def compare_rounds(inputs: DenoisingInputs, steps: int, rounds: int) -> list[dict[str, float]]:
    """Seconds of each round's runs; who begins alternates. A first step of each is not counted."""
    default = Ours(inputs, inputs.guidance)
    pipeline = make_pipeline(share_weights(inputs.unet), inputs)

    def run_default(steps: int, after_step: Callable[[], None]) -> None:
        denoise(inputs, default.predictor(), steps, after_step)

    def run_stock(steps: int, after_step: Callable[[], None]) -> None:
        def callback(_pipeline: Any, _step: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            after_step()
            return values

        run_pipeline(pipeline, inputs, steps, callback_on_step_end=callback)

    runs: dict[str, SteppedRun] = {"default": run_default, "stock": run_stock}
    alternate(runs, 1)
    found = []
    for turn in range(rounds):
        ordered = dict(reversed(runs.items())) if turn % 2 else runs
        found.append({name: sum(seconds) for name, seconds in alternate(ordered, steps).items()})
    return found


def ratio_of_rounds(rounds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The median ratio of default to stock, with the smallest and the largest one."""
    ratios = [each["default"] / each["stock"] for each in rounds]
    return {"ours_over_stock": median(ratios), "spread": {"low": min(ratios), "high": max(ratios)}}


def _timed(run: Callable[[int], object], steps: int) -> float:
    began = time.perf_counter()
    run(steps)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began
