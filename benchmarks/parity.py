"""Compares this implementation with tensors recorded from the authors' code, on the same inputs, case by case.

    python -m benchmarks.parity --golden ../shared/golden
    python -m benchmarks.parity --golden DIR --json

All recordings in the directory are compared: influence masks (``a_*``), projectors
(``b_*``), the cross-attention layer (``c_*``), small U-Nets (``d_*``), guided loops (``e_*``), the scheduler (``f_*``)
and the lists of official parameter names. Exit code 1 if any case is above its tolerance, 2 if there is nothing to
compare.
``--json`` prints one object on the last line.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.machine import machine
from components.config import AdapterConfig
from components.errors import DataError
from components.model.adapter import RealCustomAdapter
from components.model.attention import (
    AttentionRecorder,
    SubjectAttention,
    SubjectAttnProcessor,
    SubjectContext,
    VisionKeyValues,
)
from components.model.influence_mask import Norm, average_maps, min_max, normalize, select_scope
from components.model.official import meta_adapter, meta_unet, official_scheduler
from components.model.projector import build_projector
from components.model.vision import VisionFeatures
from components.progress import quiet_libraries
from workflows.entry import one_line_errors

SelfNorm = Literal["none", "max_norm", "min_max_per_channel"]

TOLERANCE = 1e-4
#: Where 25 steps add up.
LOOP_TOLERANCE = 5e-4
_NORMS: tuple[Norm, ...] = ("max_norm", "min_max_norm", "min_max_per_channel")
_SELF_NORMS: dict[str, SelfNorm] = {
    "selfmap_max_norm": "max_norm",
    "selfmap_min_max_per_channel": "min_max_per_channel",
}
_LOOP_NORMS: dict[str, Norm] = {
    "mmpc": "min_max_per_channel",
    "maxnorm": "max_norm",
    "mmnorm": "min_max_norm",
    "minmaxnorm": "min_max_norm",
    "minmax": "min_max_norm",
}
#: The recorded layer's place in the per-layer mask.
_LAYER_ID = 3
#: Head width of the recorded projectors, which their shapes do not tell.
_HEAD_DIM = 32
_VISION_PROJECTION = "encoder_hidden_states_vision_projection."
_EPSILON = 1e-6


@dataclass(frozen=True)
class MaskMode:
    """A mode of the authors' mask, including modes that `GuidanceConfig` does not offer.

    Args:
        norm: of the influence quantity; None leaves the mean over the layers as it is.
        scope: share of the positions that are kept (with ``threshold``: values of at least ``1 - scope`` are kept).
        threshold: select by value in place of by rank.
        binary: set the kept positions to 1.
    """

    norm: Norm | None = "min_max_per_channel"
    scope: float = 0.25
    threshold: bool = False
    binary: bool = False

    def quantity(
        self,
        maps: list[Tensor],
        size: tuple[int, int],
        self_maps: list[Tensor] | None = None,
        self_norm: SelfNorm = "none",
    ) -> Tensor:
        """The influence quantity [b, 1, H, W] of the word's maps [b, h, w].

        Args:
            self_maps: self-attention maps, one [b, heads, h w, h w] a layer, that multiply the mean before it is
                normalised; the authors' code skips them where there is no norm.
            self_norm: how each head's self-attention is normalised first (``max_norm``: by the maximum of all).
        """
        average = average_maps(maps, size, self.norm)
        if self.norm is None:
            return average
        if self_maps:
            average = _multiply_self_maps(average, self_maps, self_norm)
        return normalize(average, self.norm)

    def select(self, quantity: Tensor) -> Tensor:
        """The mask of ``quantity``, 0 outside the scope."""
        if not self.threshold:
            return select_scope(quantity, self.scope, self.binary)
        kept = (quantity >= 1 - self.scope) & (quantity > 0)
        return kept.to(quantity.dtype) if self.binary else quantity * kept


def _multiply_self_maps(average: Tensor, self_maps: list[Tensor], norm: SelfNorm) -> Tensor:
    """``S @ average``, S being the mean over all heads of all layers at ``average``'s resolution."""
    positions = average[0].numel()
    heads = torch.cat([F.interpolate(m.float(), (positions, positions), mode="bilinear") for m in self_maps], dim=1)
    if norm == "min_max_per_channel":
        heads = min_max(heads)
    if norm == "max_norm":
        heads = heads / (heads.amax((1, 2, 3), keepdim=True) + _EPSILON)
    return (heads.mean(1) @ average.flatten(2).mT).mT.view_as(average)


@dataclass(frozen=True)
class Case:
    """One comparison.

    Args:
        error: largest absolute difference of a value.
        mismatched: number of positions, names or list entries that differ, for cases without an error.
    """

    kind: str
    name: str
    error: float = 0.0
    mismatched: int = 0
    tolerance: float = TOLERANCE

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance and self.mismatched == 0


def masks(golden: Path) -> Iterator[Case]:
    """Every mode of the mask, with and without self-attention maps."""
    for listing in sorted(golden.glob("a_*_index.json")):
        data = _load(listing.with_name(listing.name.replace("_index.json", ".safetensors")))
        for case in json.loads(listing.read_text()):
            yield _mask(data, case)


def _mask(data: dict[str, Tensor], case: dict[str, Any]) -> Case:
    mode, token = case["mask_mode"], data[f"token.{case['token']}"][0]
    selection = MaskMode(_norm(mode), case["mask_scope"], "threshold" in mode, "binary" in mode)
    self_norm: SelfNorm = next((n for key, n in _SELF_NORMS.items() if key in mode), "none")
    maps = [(m.mean(1) * token.view(1, -1, 1, 1)).sum(1) for m in _numbered(data, f"cross.{case['set']}")]
    self_maps = _numbered(data, f"self.{case['set']}") if case["selfmaps"] else None
    quantity = selection.quantity(maps, (case["mask_target_h"], case["mask_target_w"]), self_maps, self_norm)
    flags = [case["set"], case["token"], str(case["mask_scope"]), "self" if case["selfmaps"] else "", *mode]
    name = f"{case['key']} {' '.join(flag for flag in flags if flag)}"
    return compare_masks("mask", name, selection, quantity, data[case["key"]])


def compare_masks(
    kind: str, name: str, mode: MaskMode, quantity: Tensor, recorded: Tensor, tolerance: float = TOLERANCE
) -> Case:
    """The mask of ``quantity`` [b, 1, H, W] against the recorded one.

    If positions with equal quantities tie at the limit of the scope, any choice of the right number is accepted.
    """
    ours = mode.select(quantity)
    if ours.shape != recorded.shape:
        return Case(kind, name, mismatched=recorded.numel(), tolerance=tolerance)
    settled = ~_open_ties(mode, quantity)
    differs = ((ours > 0) != (recorded > 0)) & settled
    counts = ((ours > 0).flatten(1).sum(1) - (recorded > 0).flatten(1).sum(1)).abs()
    mismatched = int(torch.maximum(differs.flatten(1).sum(1), counts).sum())
    return Case(kind, name, float(((ours - recorded) * settled).abs().max()), mismatched, tolerance)


def _open_ties(mode: MaskMode, quantity: Tensor) -> Tensor:
    """Positions that tie at the smallest kept quantity, if not all of them are kept."""
    flat = quantity.flatten(1)
    if mode.threshold:
        return torch.zeros_like(quantity, dtype=torch.bool)
    count = max(1, int(flat.shape[1] * mode.scope))
    last = flat.topk(count, dim=1).values[:, -1:]
    several = (flat >= last).sum(1, keepdim=True) > count
    return ((flat == last) & several).view_as(quantity)


def projectors(golden: Path) -> Iterator[Case]:
    """The projectors."""
    for file in sorted(golden.glob("b_projector_*.safetensors")):
        data = _load(file)
        weights = _stripped(data, "sd.")
        channels, out = weights["projector_base.weight"].shape[::-1]
        projector = build_projector(channels, out, _projector_config(weights, _HEAD_DIM))
        projector.load_state_dict(weights)
        ours = projector(_features(_numbered(data, "in")))
        yield _values("projector", file.stem, ours, data["out"])


def attention(golden: Path) -> Iterator[Case]:
    """One cross-attention layer: without and with references, masks of several sizes, several references."""
    for file in sorted(golden.glob("c_*.safetensors")):
        data = _load(file)
        for name, ours in _attention_outputs(data):
            yield _values("attention", f"{file.stem} {name}", ours, data[f"out.{name}"])


def _attention_outputs(data: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    heads, _, *size = data["out.crossmap"].shape[1:]
    weights = _stripped(data, "sd.")
    inner, context = weights["to_k.weight"].shape
    queries = weights["to_q.weight"].shape[1]
    layer = Attention(queries, context, heads=heads, dim_head=inner // heads)
    layer.load_state_dict({k: v for k, v in weights.items() if "_vision" not in k})
    vision = VisionKeyValues(context, inner)
    vision.load_state_dict({k: v for k, v in weights.items() if "_vision" in k})
    layer.set_processor(SubjectAttnProcessor("layer", vision))
    one = data["in.vision"]

    def run(*subjects: SubjectAttention, recorder: AttentionRecorder | None = None) -> Tensor:
        context = SubjectContext((size[0], size[1]), list(subjects), recorder)
        out: Tensor = layer(data["in.hidden_states"], data["in.text"], subject=context)
        return out

    for key in sorted(k for k in data if k.startswith("out.")):
        name = key.removeprefix("out.")
        if name in ("no_vision", "text_bias"):  # the recorded code ignores its text bias
            yield name, run()
        elif name == "crossmap":
            recorder = _record_all(data["in.text"])
            run(recorder=recorder)
            data["out.crossmap"] = data["out.crossmap"].mean(1)
            yield name, recorder.maps[0]
        elif name.startswith("vision_multi"):
            masks = next(data[k] for k in data if k.startswith("in.mask_multi"))
            masked = not name.endswith("nomask")
            parts = enumerate(data["in.vision_multi"].unbind(1))
            yield name, run(*(SubjectAttention(v, mask=masks[:, i : i + 1] if masked else None) for i, v in parts))
        elif name == "vision_nomask":
            yield name, run(SubjectAttention(one))
        elif name == "vision_mask_perlayer":
            masks = next(data[k] for k in data if k.startswith("in.mask_perlayer"))
            yield name, run(SubjectAttention(one, mask=masks[:, :, _LAYER_ID]))
        elif name.startswith("vision_mask"):
            yield name, run(SubjectAttention(one, mask=data[f"in.{name.removeprefix('vision_')}"]))
        else:
            raise DataError(f"recording {key}: what it is cannot be told from its name")


@dataclass
class RecordedUNet:
    """A stock diffusers U-Net with recorded weights, and our adapter attached to it."""

    unet: UNet2DConditionModel
    adapter: RealCustomAdapter

    @classmethod
    def load(cls, config_file: Path) -> RecordedUNet:
        stem = config_file.name.removesuffix("_config.json")
        config = json.loads(config_file.read_text())
        projector = config.pop("image_prompt_settings")["vision_projection_config"]["params"]
        tensors = _load(config_file.with_name(f"{stem}_state_dict.safetensors"))
        unet = UNet2DConditionModel(**config).eval()
        unet.load_state_dict({k: v for k, v in tensors.items() if "_vision" not in k})
        sizes = _projector_config(_stripped(tensors, _VISION_PROJECTION), projector["dim_head"])
        adapter = RealCustomAdapter.for_unet(unet, projector["vision_dim"], sizes, None).eval()
        adapter.load_official_state_dict({k: v for k, v in tensors.items() if "_vision" in k})
        adapter.attach(unet)
        return cls(unet, adapter)

    def __call__(
        self,
        sample: Tensor,
        timestep: int | Tensor,
        text: Tensor,
        pooled: Tensor,
        time_ids: Tensor,
        vision: Tensor | None = None,
        mask: Tensor | None = None,
        recorder: AttentionRecorder | None = None,
    ) -> Tensor:
        """The noise prediction of one condition, unbatched, as in the authors' code."""
        subjects = [] if vision is None else [SubjectAttention(vision, mask=mask)]
        height, width = sample.shape[-2:]
        out: Tensor = self.unet(
            sample,
            timestep,
            text,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
            cross_attention_kwargs={"subject": SubjectContext((height, width), subjects, recorder)},
            return_dict=False,
        )[0]
        return out


def unets(golden: Path) -> Iterator[Case]:
    """Small U-Nets: every kind of call, and the text maps of single layers."""
    for file in sorted(golden.glob("d_unet_*_config.json")):
        stem = file.name.removesuffix("_config.json")
        recorded = golden / f"{stem}_io.safetensors"
        if not recorded.is_file():
            continue
        model, data = RecordedUNet.load(file), _load(recorded)
        for group in sorted(k.removesuffix(".in.sample") for k in data if k.endswith(".in.sample")):
            yield from _unet_calls(model, _stripped(data, f"{group}."), f"{stem} {group}")


def _unet_calls(model: RecordedUNet, data: dict[str, Tensor], name: str) -> Iterator[Case]:
    positive = (data["in.text"], data["in.pooled"], data["in.time_ids"])
    negative = (data["in.neg_text"], data["in.neg_pooled"], data["in.time_ids"])
    seen, blank = (model.adapter(_features(_numbered(data, f"in.vision_{k}"))) for k in ("pos", "neg"))
    calls = {
        "text_only": (*positive, None, None),
        "cond_mask": (*positive, seen, data["in.mask"]),
        "cond_nomask": (*positive, seen, None),
        "negative_mask": (*negative, blank, data["in.mask"]),
    }
    outputs = sorted(m.groups() for key in data if (m := re.fullmatch(r"t(\d+)\.(\w+)", key)))
    for step, call in outputs:
        ours = model(data["in.sample"], int(step), *calls[call])
        yield _values("unet", f"{name} t{step} {call}", ours, data[f"t{step}.{call}"])
    maps = sorted(m.groups() for key in data if (m := re.fullmatch(r"t(\d+)\.crossmap\.(\d+)", key)))
    for step in sorted({step for step, _ in maps}):
        recorder = _record_all(data["in.text"])
        model(data["in.sample"], int(step), *positive, recorder=recorder)
        for layer in (layer for at, layer in maps if at == step):
            recorded = data[f"t{step}.crossmap.{layer}"].mean(1)
            yield _values("unet", f"{name} t{step} crossmap {layer}", recorder.maps[int(layer)], recorded)


def loops(golden: Path) -> Iterator[Case]:
    """Whole guided loops from the recorded noise, without corrections in between."""
    for file in sorted(golden.glob("e_loop_*.safetensors")):
        named = re.match(r"e_loop_(?P<projector>\w+?)_(\d+)x(\d+)_reuse(?P<reuse>\d+)_(?P<norm>[a-z]+)", file.stem)
        if not named or named["norm"] not in _LOOP_NORMS:
            raise DataError(f"{file.name}: expected e_loop_<projector>_<height>x<width>_reuse<T>_<norm>.safetensors")
        config = golden / f"d_unet_{named['projector']}_config.json"
        if not config.is_file():
            raise DataError(f"{file.name} needs the U-Net of {config.name}: put it beside")
        data = _load(file)
        ours = run_loop(RecordedUNet.load(config), data, int(named["reuse"]), _LOOP_NORMS[named["norm"]])
        yield from _compare_loop(file.stem, ours, data, MaskMode(_LOOP_NORMS[named["norm"]]))


def run_loop(
    model: RecordedUNet, data: dict[str, Tensor], reuse: int, norm: Norm, scale: float = 3.5
) -> dict[str, Tensor]:
    """The authors' schedule: a text-only call for the mask in the first ``reuse`` steps, then two guided calls.

    Returns:
        What the recording calls ``step.*`` and ``out.final_x0``, and ``step.quantity``: the mask before its selection.
    """
    latent = data["in.initial_latent"]
    positive = (data["in.text"], data["in.pooled"], data["in.time_ids"])
    negative = (data["in.neg_text"], data["in.neg_pooled"], data["in.time_ids"])
    seen, blank = (model.adapter(_features(_numbered(data, f"in.vision_{k}"))) for k in ("pos", "neg"))
    word = data["in.target_token"].expand(len(latent), -1)[..., None]
    mode, size = MaskMode(norm), (latent.shape[-2] // 2, latent.shape[-1] // 2)
    scheduler = official_scheduler()
    scheduler.set_timesteps(len(data["in.timesteps"]))
    steps: dict[str, list[Tensor]] = {}

    def note(**values: Tensor) -> None:
        for name, value in values.items():
            steps.setdefault(f"step.{name}", []).append(value)

    for index, timestep in enumerate(scheduler.timesteps):
        if index < max(1, reuse):
            recorder = AttentionRecorder(word)
            note(eps_text=model(latent, timestep, *positive, recorder=recorder))
            quantity = mode.quantity([m[:, 0] for m in recorder.maps], size)
            mask = mode.select(quantity)
        cond = model(latent, timestep, *positive, seen, mask)
        neg = model(latent, timestep, *negative, blank, mask)
        guided = neg + scale * (cond - neg)
        latent = scheduler.step(guided, timestep, latent).prev_sample
        note(quantity=quantity, mask=mask, eps_cond=cond, eps_neg=neg, eps_guided=guided)
        note(latent_after=latent, pred_original_sample=scheduler.model_outputs[-1])
    return {name: torch.stack(values) for name, values in steps.items()} | {"out.final_x0": latent}


def _compare_loop(name: str, ours: dict[str, Tensor], data: dict[str, Tensor], mode: MaskMode) -> Iterator[Case]:
    for key in sorted(k for k in data if k.startswith(("step.", "out."))):
        what, recorded = key.split(".", 1)[1], data[key]
        if key == "step.mask":
            quantity = ours["step.quantity"]
            yield compare_masks(
                "loop", f"{name} {what}", mode, quantity.flatten(0, 1), recorded.flatten(0, 1), LOOP_TOLERANCE
            )
        elif key == "step.latent_after":  # our last step goes on to x0, which is compared as final_x0
            yield _values("loop", f"{name} {what}", ours[key][:-1], recorded[:-1], LOOP_TOLERANCE)
        else:
            yield _values("loop", f"{name} {what}", ours[key], recorded, LOOP_TOLERANCE)


def schedulers(golden: Path) -> Iterator[Case]:
    """The sampler on the recorded stand-in model ``0.2 x + 0.5 B``."""
    for file in sorted(golden.glob("f_*.safetensors")):
        data = _load(file)
        for group in sorted(k.removesuffix(".trajectory") for k in data if re.fullmatch(r"n\d+\.trajectory", k)):
            run, name = _stripped(data, f"{group}."), f"{file.stem} {group}"
            scheduler = official_scheduler()
            scheduler.set_timesteps(len(run["timesteps"]))
            x, states, predicted = data["x_T"], [data["x_T"]], []
            for t in scheduler.timesteps:
                x = scheduler.step(0.2 * x + 0.5 * data["B"], t, x).prev_sample
                states.append(x)
                predicted.append(scheduler.model_outputs[-1])
            # The recorded loop's last state is never decoded: ours is its last predicted x0 instead.
            yield _entries("scheduler", f"{name} timesteps", scheduler.timesteps, run["timesteps"])
            orders = torch.tensor(scheduler.order_list)
            yield _entries("scheduler", f"{name} orders", orders[:-1], run["order_list"][: len(orders) - 1])
            yield _values("scheduler", f"{name} trajectory", torch.stack(states[:-1]), run["trajectory"][:-1])
            yield _values("scheduler", f"{name} pred_x0", torch.stack(predicted), run["pred_x0"])
            yield _values("scheduler", f"{name} decoded", states[-1], run["pred_x0"][-1])


def names(golden: Path) -> Iterator[Case]:
    """The parameters of the full-size adapter and U-Net, by name and shape."""
    found: dict[str, Callable[[], dict[str, Tensor]]] = {
        "sdxl_base": lambda: dict(meta_unet().state_dict()),
        "highres": lambda: meta_adapter(meta_unet()).official_state_dict(),
        "shallow": lambda: meta_adapter(meta_unet(), config=AdapterConfig(projector="shallow")).official_state_dict(),
    }
    for name, tensors in found.items():
        listing = golden / f"official_keys_{name}.json"
        if listing.is_file():
            ours = {(key, tuple(value.shape)) for key, value in tensors().items()}
            wanted = {(key, tuple(shape)) for key, shape in json.loads(listing.read_text()).items()}
            yield Case("names", f"{name} ({len(wanted)} tensors)", mismatched=len(ours ^ wanted))


KINDS: dict[str, Callable[[Path], Iterator[Case]]] = {
    "mask": masks,
    "projector": projectors,
    "attention": attention,
    "unet": unets,
    "loop": loops,
    "scheduler": schedulers,
    "names": names,
}


@torch.no_grad()
def compare(golden: Path) -> list[Case]:
    """Every case of the directory.

    Raises:
        DataError: there is no such directory, nothing to compare in it, or a file without what it needs.
    """
    if not golden.is_dir():
        raise DataError(f"--golden {golden}: no such directory")
    cases = [case for kind in KINDS.values() for case in kind(golden)]
    if not cases:
        raise DataError(f"--golden {golden}: holds no recorded tensors (a_*_index.json, b_projector_*, ...)")
    return cases


def report(cases: list[Case]) -> dict[str, Any]:
    """The comparison as one JSON object: the number of cases, the failed ones, and the worst of each kind."""
    failures = [asdict(case) for case in cases if not case.ok]
    worst = {
        kind: {
            "cases": len(own),
            "mismatched": sum(case.mismatched for case in own),
            **{key: asdict(max(own, key=lambda case: case.error))[key] for key in ("name", "error", "tolerance")},
        }
        for kind in KINDS
        if (own := [case for case in cases if case.kind == kind])
    }
    return {"cases": len(cases), "failed": len(failures), "failures": failures, "worst": worst, "machine": machine()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=Path, required=True, metavar="DIR", help="directory of recorded tensors")
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    arguments = parser.parse_args()
    quiet_libraries()
    with one_line_errors():
        cases = compare(arguments.golden)
    Console(width=150).print(_table(cases))
    summary = report(cases)
    print(f"{len(cases)} cases, {summary['failed']} above tolerance")
    if arguments.json:
        print(json.dumps(summary))
    sys.exit(1 if summary["failed"] else 0)


def _table(cases: list[Case]) -> Table:
    table = Table("kind", "case", "max abs error", "mismatched", "tolerance", "ok")
    for case in cases:
        style = None if case.ok else "bold red"
        verdict = "yes" if case.ok else "NO"
        table.add_row(
            case.kind,
            case.name,
            f"{case.error:.1e}",
            str(case.mismatched),
            f"{case.tolerance:.0e}",
            verdict,
            style=style,
        )
    return table


def _norm(mode: list[str]) -> Norm | None:
    return next((norm for norm in _NORMS if norm in mode), None)


def _projector_config(weights: dict[str, Tensor], head_dim: int) -> AdapterConfig:
    """The adapter configuration of these parameters; the recorded shallow projector ignores its local views."""
    return AdapterConfig(
        head_dim=head_dim,
        hidden_dim=len(weights["projector.0.bias"]),
        projector="shallow" if "projector2.0.bias" in weights else "highres",
        adaptive_scale="scale_value.value" in weights,
        shallow_fusion="code",
    )


def _features(inputs: list[Tensor]) -> VisionFeatures:
    """The recordings' order: shallow ones, deep, local."""
    *shallow, deep, local = inputs
    return VisionFeatures(deep, local, tuple(shallow))


def _record_all(text: Tensor) -> AttentionRecorder:
    """A recorder with every token as a separate word."""
    return AttentionRecorder(torch.eye(text.shape[1]).expand(len(text), -1, -1))


def _numbered(data: dict[str, Tensor], prefix: str) -> list[Tensor]:
    """``prefix.0``, ``prefix.1``, ... as far as they go."""
    count = 0
    while f"{prefix}.{count}" in data:
        count += 1
    return [data[f"{prefix}.{i}"] for i in range(count)]


def _stripped(data: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}


def _values(kind: str, name: str, ours: Tensor, recorded: Tensor, tolerance: float = TOLERANCE) -> Case:
    if ours.shape != recorded.shape:
        return Case(kind, name, mismatched=recorded.numel(), tolerance=tolerance)
    return Case(kind, name, float((ours.float() - recorded.float()).abs().max()), tolerance=tolerance)


def _entries(kind: str, name: str, ours: Tensor, recorded: Tensor) -> Case:
    if ours.shape != recorded.shape:
        return Case(kind, name, mismatched=recorded.numel())
    return Case(kind, name, mismatched=int((ours != recorded).sum()))


def _load(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file} is missing or damaged: {str(error).splitlines()[0]}") from None


if __name__ == "__main__":
    main()
