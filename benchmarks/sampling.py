"""Time, memory and masks of generating an image with a subject, compared with other methods.

    python -m benchmarks.sampling --json
    python -m benchmarks.sampling --size sdxl --json          # on a GPU
    python -m benchmarks.sampling --variants --json           # cost against mask quality of cheaper guidance

All implementations denoise the same inputs with the same U-Net weights in one process, alternating in rounds; ratios
are of median seconds. Masks are compared on the trained miniature. docs/explanation/performance.md defines the figures.
``--json`` prints one object on the last line.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.masks import mask_agreement
from benchmarks.memory import PeakMemory
from benchmarks.peers.inputs import DenoisingInputs, Implementation, random_inputs, toy_inputs
from benchmarks.peers.ip_adapter import ip_adapter
from benchmarks.peers.ours import exact, ours
from benchmarks.peers.plain import plain
from benchmarks.peers.stock import stock
from benchmarks.picture import picture_implementations, toy_picture_implementations
from benchmarks.sizes import MEDIUM, SDXL, Size
from components.config import Config, GuidanceConfig, load_config
from components.errors import RealCustomError
from components.evaluation.statistics import Estimate
from components.evaluation.toybench import cases
from components.progress import quiet_libraries
from workflows.entry import one_line_errors

SIZES: dict[str, Size | None] = {"tiny": None, "medium": MEDIUM, "sdxl": SDXL}
#: MiB of an implementation's weights, and of its peak memory beyond them.
Memory = Mapping[str, float | None]
#: Figure -> the two implementations whose median seconds it compares.
RATIOS = {
    "ours_over_stock": ("default", "stock"),
    "exact_over_plain": ("exact", "plain"),
    "ours_over_plain": ("default", "plain"),
    "ours_over_ip_adapter": ("default", "ip_adapter"),
}
#: Width of the image features that IP-Adapter's projection reads at the miniature's size.
_TINY_CLIP_WIDTH = 64
_WARM_UP_STEPS = 3
_MEMORY_RUNS = 3


def main() -> None:
    arguments = _arguments()
    quiet_libraries()
    torch.set_num_threads(arguments.threads)
    with one_line_errors():
        report = measure(arguments)
    _print(report)
    if arguments.json:
        print(json.dumps(report))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The values of the report."""
    tiny = load_config("tiny", arguments.set)
    inputs, clip_width = build_inputs(arguments.size, tiny, arguments.set, arguments.seed)
    implementations = [stock(inputs), ip_adapter(inputs, clip_width), plain(inputs)]
    implementations += [
        ours(name, inputs, variant) for name, variant in guidance_variants(inputs.guidance, arguments.variants).items()
    ]
    few = min(arguments.steps, _WARM_UP_STEPS)
    whole = warm_up(_picture_implementations(arguments.size, tiny, inputs), few, inputs.noise.device.type)
    memory = warm_up(implementations, few, inputs.noise.device.type)
    seconds = time_rounds(implementations, arguments.steps, arguments.repeats)
    report = figures(seconds, memory, whole)
    if arguments.prompts:
        guidance = tiny.sampling.guidance
        agreement = mask_agreement(
            tiny, guidance_variants(guidance, arguments.variants), arguments.prompts, arguments.seed, arguments.steps
        )
        report = {
            "mask_iou": agreement["default"].value,
            **report,
            "mask_agreement": _as_dicts(agreement),
            "mask_guidance": guidance.model_dump(),
        }
    return report | {
        "size": arguments.size,
        "steps": arguments.steps,
        "repeats": arguments.repeats,
        "guidance": inputs.guidance.model_dump(),
        "prompts": arguments.prompts,
        "seed": arguments.seed,
        "machine": machine(),
    }


def build_inputs(size: str, tiny: Config, overrides: Sequence[str], seed: int) -> tuple[DenoisingInputs, int]:
    """The inputs of all implementations, and the width of IP-Adapter's image features."""
    shape = SIZES[size]
    if shape is None:
        return toy_inputs(tiny, cases(1, seed, tiny)), _TINY_CLIP_WIDTH
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if shape is SDXL and device == "cpu":
        raise RealCustomError("--size sdxl needs a GPU: measure --size medium on a CPU")
    sampling = load_config("sdxl", overrides).sampling
    return random_inputs(shape, sampling.guidance, sampling.guidance_scale, device, seed), shape.clip_width


def _picture_implementations(size: str, tiny: Config, inputs: DenoisingInputs) -> list[Implementation]:
    shape = SIZES[size]
    return toy_picture_implementations(tiny, inputs) if shape is None else picture_implementations(inputs, shape)


def guidance_variants(guidance: GuidanceConfig, variants: bool = False) -> dict[str, GuidanceConfig]:
    """The authors' schedule and the default; with ``variants``, what else could save time."""
    paper = exact(guidance)
    found = {"exact": paper, "default": guidance}
    if variants:
        changes: dict[str, dict[str, Any]] = {
            "separate, up blocks": {"layers": ("up_blocks",)},
            "separate, half the steps": {"steps": max(1, paper.steps // 2)},
            "separate, refined": {"self_attention": True},
            "conditional": {"source": "conditional"},
            "conditional, up blocks": {"source": "conditional", "layers": ("up_blocks",)},
            "conditional, refined": {"source": "conditional", "self_attention": True},
        }
        found |= {name: paper.model_copy(update=change) for name, change in changes.items()}
    return found


def warm_up(implementations: Sequence[Implementation], steps: int, device: str) -> dict[str, Memory]:
    """Run every implementation untimed: MiB of the weights it holds, and of what it holds besides at its peak.

    The peak is the median of several runs: what an allocator keeps back differs from run to run.
    """
    memory: dict[str, Memory] = {}
    for implementation in implementations:
        implementation.run(1)  # what libraries allocate once is not the implementation's
        peaks = []
        for _ in range(_MEMORY_RUNS):
            with PeakMemory(device) as peak:
                implementation.run(steps)
            peaks.append(peak.mib)
        working = None if None in peaks else median(peaks)
        memory[implementation.name] = {"weights_mib": implementation.weights_mib, "working_mib": working}
    return memory


def time_rounds(implementations: Sequence[Implementation], steps: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of ``repeats`` runs of each implementation, in turns; each round begins with another one."""
    seconds: dict[str, list[float]] = {implementation.name: [] for implementation in implementations}
    for turn in range(repeats):
        first = turn % len(implementations)
        for implementation in (*implementations[first:], *implementations[:first]):
            start = time.perf_counter()
            implementation.run(steps)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[implementation.name].append(time.perf_counter() - start)
    return seconds


def figures(
    seconds: Mapping[str, Sequence[float]], memory: Mapping[str, Memory], whole: Mapping[str, Memory]
) -> dict[str, Any]:
    """Ratios of median seconds, with the smallest and largest ratio of a round, and every implementation's own figures.

    ``memory`` is that of denoising alone, ``whole`` that of pictures from prompt to pixels.
    """
    report: dict[str, Any] = {}
    spread = {}
    for name, (ours_, theirs) in RATIOS.items():
        report[name] = median(seconds[ours_]) / median(seconds[theirs])
        rounds = [a / b for a, b in zip(seconds[ours_], seconds[theirs], strict=True)]
        spread[name] = {"low": min(rounds), "high": max(rounds)}
    report["memory_over_stock"] = _ratio(_total(whole["default"]), _total(whole["stock"]))
    report["denoising_memory_over_stock"] = _ratio(_total(memory["default"]), _total(memory["stock"]))
    report["whole_picture"] = {name: dict(figures) for name, figures in whole.items()}
    report["spread"] = spread
    report["peers"] = {
        name: {"median_s": median(runs), "seconds": list(runs), **memory[name]} for name, runs in seconds.items()
    }
    return report


def _total(memory: Memory) -> float | None:
    weights, working = memory["weights_mib"], memory["working_mib"]
    return None if weights is None or working is None else weights + working


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None


def _as_dicts(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    return {name: asdict(estimate) for name, estimate in estimates.items()}


def _print(report: Mapping[str, Any]) -> None:
    table = Table("peer", "seconds", "of stock", "weights + working MiB", "mask IoU")
    base = report["peers"]["stock"]["median_s"]
    for name, implementation in report["peers"].items():
        iou = report.get("mask_agreement", {}).get(name)
        table.add_row(
            name,
            f"{implementation['median_s']:.2f}",
            f"{implementation['median_s'] / base:.3f}",
            f"{_mib(implementation['weights_mib'])} + {_mib(implementation['working_mib'])}",
            str(Estimate(**iou)) if iou else "",
        )
    console = Console()
    console.print(table)
    for name, memory in report["whole_picture"].items():
        console.print(f"a whole picture, {name}: {_mib(memory['weights_mib'])} + {_mib(memory['working_mib'])} MiB")


def _mib(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--size", choices=sorted(SIZES), default="medium", help="of the U-Net that is timed")
    parser.add_argument("--steps", type=_positive, default=25, help="denoising steps")
    parser.add_argument("--repeats", type=_positive, default=5, help="timed rounds")
    parser.add_argument("--threads", type=_positive, default=1, help="processor threads of every implementation")
    parser.add_argument("--prompts", type=int, default=48, help="toy prompts whose masks are compared; 0 skips it")
    parser.add_argument("--variants", action="store_true", help="also measure cheaper methods of finding masks")
    parser.add_argument("--seed", type=int, default=20_000)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="configuration override")
    return parser.parse_args()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


if __name__ == "__main__":
    main()
