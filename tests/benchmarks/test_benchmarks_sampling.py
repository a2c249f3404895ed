"""The implementations of the sampling benchmark compute what they say, and its figures compare the right ones."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import sampling
from benchmarks.masks import our_masks, overlap, plain_masks
from benchmarks.memory import PeakMemory
from benchmarks.peers.denoiser import Denoiser
from benchmarks.peers.inputs import DenoisingInputs, denoise, random_inputs, share_weights, toy_inputs
from benchmarks.peers.ip_adapter import ip_adapter
from benchmarks.peers.ours import Ours, exact
from benchmarks.peers.plain import plain
from benchmarks.peers.stock import stock
from benchmarks.sizes import MEDIUM, SDXL, Size
from components.config import AdapterConfig, Config, GuidanceConfig
from components.evaluation.toybench import cases
from tests.fixtures.tolerances import drawing_error

STEPS = 4


@pytest.fixture
def inputs(config: Config) -> DenoisingInputs:
    drawn = toy_inputs(config, cases(2, 0, config))
    return replace(drawn, guidance=GuidanceConfig(scope=0.25, steps=2, source="separate", absent="all"))


def rounding(inputs: DenoisingInputs, latents: torch.Tensor, steps: int) -> float:
    """How far another order of sums may move ``latents``: far less than a subject does."""
    allowed = drawing_error(inputs.unet, latents, steps, inputs.guidance_scale)
    assert allowed < 1e-3 * max(1.0, float(latents.abs().max()))
    return allowed


def test_exact_mode_equals_the_plain_schedule(inputs: DenoisingInputs) -> None:
    ours = Ours(inputs, exact(inputs.guidance)).run(STEPS)
    assert (ours - plain(inputs).run(STEPS)).abs().max() < rounding(inputs, ours, STEPS)
    assert not torch.allclose(ours, stock(inputs).run(STEPS), atol=1e-2), "the subject changes nothing"


def test_exact_masks_are_the_plain_masks_and_are_kept_after_their_steps(inputs: DenoisingInputs) -> None:
    reference = plain_masks(inputs, STEPS)
    assert overlap(our_masks(inputs, exact(inputs.guidance), STEPS), reference).min() > 0.95
    assert reference.shape == (STEPS, 2, 8, 8)
    assert not torch.equal(reference[0], reference[1])
    assert torch.equal(reference[1], reference[-1])


def test_all_peers_walk_the_same_way_as_stock_diffusers(inputs: DenoisingInputs) -> None:
    denoiser = Denoiser(
        share_weights(inputs.unet),
        inputs.negative + inputs.prompt,
        inputs.time_ids.repeat(2, 1),
        inputs.size,
        inputs.guidance_scale,
    )
    latents = denoise(inputs, denoiser, STEPS)
    assert (latents - stock(inputs).run(STEPS)).abs().max() < rounding(inputs, latents, STEPS)


def test_the_ip_adapter_acts_and_leaves_the_other_peers_alone(inputs: DenoisingInputs) -> None:
    before = stock(inputs).run(2)
    with_image = ip_adapter(inputs, 32).run(2)
    assert with_image.isfinite().all()
    assert not torch.allclose(with_image, before, atol=1e-2)
    assert torch.equal(stock(inputs).run(2), before)


def test_a_twin_shares_weights_but_no_processors(inputs: DenoisingInputs) -> None:
    other = share_weights(inputs.unet)
    inputs.adapter.attach(other)
    assert {p.data_ptr() for p in other.parameters()} == {p.data_ptr() for p in inputs.unet.parameters()}
    assert not any("Subject" in type(p).__name__ for p in inputs.unet.attn_processors.values())


def test_medium_has_sdxl_structure_and_34_cross_attention_layers() -> None:
    def layers(size: Size) -> list[str]:
        from diffusers import UNet2DConditionModel

        with torch.device("meta"):
            return [n for n in UNet2DConditionModel(**size.unet()).attn_processors if "attn2" in n]

    assert len(layers(MEDIUM)) == 34
    assert len(layers(SDXL)) == 70


def test_a_random_input_runs_through_every_peer() -> None:
    small = replace(
        MEDIUM,
        channels=(64, 64, 64),
        transformer_layers=(1, 1, 1),
        context_width=64,
        latent=16,
        vision_tokens=16,
        vision_channels=64,
        adapter=AdapterConfig(head_dim=32, hidden_dim=64),
    )
    drawn = random_inputs(small, GuidanceConfig(steps=1), 3.5, "cpu", seed=0)
    ours = Ours(drawn, exact(drawn.guidance)).run(2)
    assert (ours - plain(drawn).run(2)).abs().max() < rounding(drawn, ours, 2)
    assert ours.shape == stock(drawn).run(2).shape == ip_adapter(drawn, small.clip_width).run(2).shape == (1, 4, 16, 16)


def test_overlap_counts_positions_not_values() -> None:
    a, b = torch.tensor([[0.1, 0.9], [0.0, 0.0]]), torch.tensor([[0.5, 0.0], [0.2, 0.0]])
    assert overlap(a, b) == pytest.approx(1 / 3)
    assert overlap(a, 2 * a) == 1


def test_figures_are_ratios_of_medians_with_the_rounds_spread() -> None:
    seconds = {
        "stock": [1.0, 2.0, 9.0],
        "ip_adapter": [4.0, 4.0, 4.0],
        "plain": [5.0, 5.0, 5.0],
        "exact": [3.0, 3.0, 3.0],
        "default": [2.0, 2.2, 2.4],
    }
    memory = {name: {"weights_mib": 10.0, "working_mib": 10.0 if name == "stock" else 12.0} for name in seconds}
    whole = {"stock": {"weights_mib": 90.0, "working_mib": 10.0}, "default": {"weights_mib": 99.0, "working_mib": 11.0}}
    report = sampling.figures(seconds, memory, whole)
    assert report["ours_over_stock"] == pytest.approx(1.1)
    assert report["exact_over_plain"] == pytest.approx(0.6)
    assert report["ours_over_plain"] == pytest.approx(0.44)
    assert report["ours_over_ip_adapter"] == pytest.approx(0.55)
    assert report["memory_over_stock"] == pytest.approx(1.1)
    assert report["denoising_memory_over_stock"] == pytest.approx(1.1)
    assert report["spread"]["ours_over_stock"] == pytest.approx({"low": 2.4 / 9, "high": 2.0})


def test_figures_say_so_where_memory_cannot_be_measured() -> None:
    memory = {name: {"weights_mib": 10.0, "working_mib": None} for name in ("stock", "ip_adapter", "plain", "exact")}
    memory["default"] = memory["stock"]
    report = sampling.figures({name: [1.0] for name in memory}, memory, memory)
    assert report["memory_over_stock"] is None


def test_peers_take_turns() -> None:
    order: list[str] = []

    def recorder(name: str) -> sampling.Implementation:
        def run(steps: int) -> torch.Tensor:
            order.append(name)
            return torch.zeros(steps)

        return sampling.Implementation(name, run)

    sampling.time_rounds([recorder("a"), recorder("b"), recorder("c")], 1, 2)
    assert "".join(order) == "abcbca"


def test_peak_memory_sees_what_was_held_and_freed() -> None:
    with PeakMemory("cpu") as peak:
        torch.ones(64 * 2**18)  # 64 MiB
    if peak.mib is None:
        pytest.skip("this system keeps no resettable peak")
    assert 60 < peak.mib < 90


@pytest.mark.slow
def test_json_is_the_last_line_and_has_the_named_figures(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [f"model.{name}={getattr(config.model, name)}" for name in ("base", "siglip", "dinov2")]
    options = [option for part in (*parts, "model.adapter=null") for option in ("--set", part)]
    command = ["sampling", "--json", "--size", "tiny", "--steps", "2", "--repeats", "1", "--prompts", "2", *options]
    monkeypatch.setattr(sys, "argv", command)
    sampling.main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {*sampling.RATIOS, "mask_iou", "memory_over_stock", "seed", "machine"} <= report.keys()
    assert report["peers"].keys() == {"stock", "ip_adapter", "plain", "exact", "default"}
    assert report["mask_agreement"]["exact"]["value"] > 0.95


def test_sdxl_without_a_gpu_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["sampling", "--size", "sdxl"])
    with pytest.raises(SystemExit) as stopped:
        sampling.main()
    assert stopped.value.code == 2
    assert "medium" in capsys.readouterr().err
