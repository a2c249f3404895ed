"""The adapter on the SDXL family: nothing changes without a subject, and with one, what should."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from components.config import Config, GuidanceConfig
from components.errors import ArtifactError, WordError
from components.model.adapter import RealCustomAdapter
from components.model.attention import AttentionRecorder, SubjectContext, layer_size
from components.model.generation_request import GenerationRequest
from components.model.influence_mask import multiply_self_attention, normalize
from components.model.official import CONDITIONING, OfficialScheduler
from components.model.pipeline import RealCustomPipeline
from components.model.prompt_conditioning import PromptConditioning, RecordedMaps
from components.model.subjects import Subject, SubjectBatch
from components.model.text import TextFeatures, encode_prompts
from components.model.vision import merge_views, split_views
from tests.fixtures.random_adapters import random_adapter_pipeline
from tests.fixtures.tolerances import additions, attends_in_bf16, bound, distance, drawing_error, outputs

PROMPT, WORD = "a red cat on the beach", "cat"
STEPS = 3
SHORT = {"num_inference_steps": STEPS, "height": 64, "width": 64, "output_type": "latent"}


@pytest.fixture(scope="module")
def pipeline(miniature, tmp_path_factory) -> RealCustomPipeline:  # type: ignore[no-untyped-def]
    """An adapter with random (not zero) values, so that a subject makes a difference."""
    return random_adapter_pipeline(miniature)


@pytest.fixture(scope="module")
def tokens(pipeline: RealCustomPipeline) -> Tensor:
    return pipeline.encode_subject([Image.new("RGB", (128, 128), "red")])


def seed(value: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(value)


def rounding(pipeline: RealCustomPipeline, latents: Tensor, guidance_scale: float = 3.5) -> float:
    """How far another order of sums may move ``latents`` of `SHORT`: far less than what any subject changes."""
    allowed = drawing_error(pipeline.unet, latents, STEPS, guidance_scale)
    assert allowed < 2e-3
    return allowed


@pytest.fixture
def cat(tokens: Tensor) -> Subject:
    return Subject(tokens, WORD)


@pytest.mark.parametrize("scale", [1.0, 3.5])
def test_without_a_subject_it_is_stock_sdxl_bit_for_bit(
    pipeline: RealCustomPipeline, miniature, cat: Subject, scale: float
) -> None:  # type: ignore[no-untyped-def]
    stock = StableDiffusionXLPipeline.from_pretrained(miniature.base)
    expected = stock(PROMPT, negative_prompt="", guidance_scale=scale, generator=seed(), **SHORT).images
    face = torch.arange(len(cat.tokens)) < 8
    mute = (
        None,
        replace(cat, strength=0.0),
        replace(cat, face=face, face_strength=0.0, body_strength=0.0),
    )
    for subjects in mute:
        ours = pipeline(PROMPT, subjects, guidance_scale=scale, generator=seed(), **SHORT).images
        assert torch.equal(ours, expected)


def test_an_untrained_adapter_changes_nothing(config: Config) -> None:
    fresh = RealCustomPipeline.from_config(config)
    red = Subject(fresh.encode_subject([Image.new("RGB", (128, 128), "red")]), WORD)
    without = fresh(PROMPT, generator=seed(), **SHORT).images
    assert torch.equal(fresh(PROMPT, red, generator=seed(), **SHORT).images, without)


def test_a_subject_makes_a_difference_and_has_a_mask(pipeline: RealCustomPipeline, cat: Subject) -> None:
    without = pipeline(PROMPT, generator=seed(), **SHORT)
    output = pipeline(PROMPT, cat, generator=seed(), **SHORT)
    assert (output.images - without.images).abs().max() > 0.05
    assert output.masks is not None and output.mask_history is not None
    assert output.masks[0][0].size == (64, 64)
    assert output.mask_history.shape == (3, 1, 1, 8, 8)
    assert without.masks is None and without.mask_history is None


def test_an_empty_mask_leaves_the_picture_untouched(pipeline: RealCustomPipeline, cat: Subject) -> None:
    masked = pipeline(PROMPT, replace(cat, mask=torch.zeros(8, 8)), generator=seed(), **SHORT).images
    assert torch.equal(masked, pipeline(PROMPT, generator=seed(), **SHORT).images)


def test_only_the_queries_under_the_mask_are_computed_and_the_result_is_the_same(
    pipeline: RealCustomPipeline, cat: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    sparse = pipeline(PROMPT, cat, generator=seed(), **SHORT).images
    monkeypatch.setattr("components.model.attention._DENSE", 0.0)
    dense = pipeline(PROMPT, cat, generator=seed(), **SHORT).images
    assert (dense - sparse).abs().max() < rounding(pipeline, sparse)


def test_a_constant_stands_for_no_subject_as_well_as_many_equal_tokens(
    pipeline: RealCustomPipeline, cat: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    face = torch.arange(len(cat.tokens)) < 8
    subjects = [replace(cat, face=face, face_strength=0.5, strength=0.8), Subject(-cat.tokens.repeat(2, 1), "beach")]
    shades = pipeline.no_subject_tokens()
    monkeypatch.setattr(pipeline, "_no_subject", shades.mean(0).expand_as(shades))
    ways = [pipeline.guidance.model_copy(update={"absent": absent}) for absent in ("all", "mean")]
    one, other = (pipeline(PROMPT, subjects, guidance=way, generator=seed(), **SHORT).images for way in ways)
    assert (one - other).abs().max() < rounding(pipeline, one)
    monkeypatch.setattr(pipeline, "_no_subject", 3 * shades)
    assert not torch.allclose(pipeline(PROMPT, subjects, generator=seed(), **SHORT).images, one, atol=1e-2)


@pytest.mark.parametrize("layers", [(), ("down_blocks", "mid_block")])
def test_a_text_only_pass_that_ends_early_sees_the_same(
    pipeline: RealCustomPipeline, cat: Subject, layers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    guidance = pipeline.guidance.model_copy(update={"source": "separate", "layers": layers})
    calls = []
    hook = pipeline.unet.conv_out.register_forward_hook(lambda *_: calls.append(1))
    stopped = pipeline(PROMPT, cat, guidance=guidance, generator=seed(), **SHORT)
    assert len(calls) == 3
    monkeypatch.setattr(pipeline.unet, "forward", pipeline.unet.forward)  # as compilers and offloading do
    whole = pipeline(PROMPT, cat, guidance=guidance, generator=seed(), **SHORT)
    hook.remove()
    assert len(calls) == 3 + 6
    assert torch.equal(stopped.images, whole.images)
    assert torch.equal(stopped.mask_history, whole.mask_history)


def test_a_seed_means_the_same_alone_and_in_a_batch(pipeline: RealCustomPipeline, cat: Subject) -> None:
    blue = [Image.new("RGB", (128, 128), color) for color in ("blue", "white")]
    robot = Subject(pipeline.encode_subject(blue), "robot", strength=0.7)
    prompts, rows = [PROMPT, "a robot and a cat in the snow", PROMPT], [[cat], [robot, cat], []]
    batch = pipeline(prompts, rows, generator=[seed(i) for i in range(3)], **SHORT)
    assert batch.masks is not None and [len(own) for own in batch.masks] == [1, 2, 0]
    for i, own in enumerate(rows):
        alone = pipeline(prompts[i], own, generator=seed(i), **SHORT).images
        assert (batch.images[i] - alone[0]).abs().max() < rounding(pipeline, alone)


@pytest.mark.parametrize("size", [(64, 96), (72, 56), (40, 64)])
def test_any_multiple_of_eight_works(pipeline: RealCustomPipeline, cat: Subject, size: tuple[int, int]) -> None:
    height, width = size
    output = pipeline(PROMPT, cat, num_inference_steps=1, height=height, width=width, generator=seed())
    assert output.images[0].size == (width, height)
    assert output.masks is not None and output.masks[0][0].size == (width, height)


def test_several_references_join_their_tokens(pipeline: RealCustomPipeline, cat: Subject) -> None:
    joined = pipeline.encode_subject([Image.new("RGB", (128, 128), color) for color in ("red", "blue")])
    assert joined.shape == (2 * len(cat.tokens), cat.tokens.shape[1])
    encoded = additions(pipeline.vision_encoder, pipeline.adapter)
    allowed = bound(torch.float32, encoded, float(cat.tokens.abs().max()))
    assert (joined[: len(cat.tokens)] - cat.tokens).abs().max() < allowed
    twice = pipeline(PROMPT, Subject(cat.tokens.repeat(2, 1), WORD), generator=seed(), **SHORT).images
    once = pipeline(PROMPT, cat, generator=seed(), **SHORT).images
    assert (twice - once).abs().max() < rounding(pipeline, once)


def test_two_subjects_share_no_position(pipeline: RealCustomPipeline, cat: Subject) -> None:
    robot = Subject(pipeline.encode_subject([Image.new("RGB", (128, 128), "blue")]), "robot")
    history = pipeline("a robot and a cat", [robot, cat], generator=seed(), **SHORT).mask_history
    assert history is not None and history.shape[2] == 2
    assert ((history > 0).sum(2) <= 1).all()
    assert ((history > 0).sum((0, 1, 3, 4)) > 0).all()


class _Additions(TorchDispatchMode):
    """The indices of every `index_add`."""

    def __init__(self) -> None:
        super().__init__()
        self.indices: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket is torch.ops.aten.index_add:
            self.indices.append(args[2])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("scope", [0.3, 1.0])
def test_no_addition_of_subjects_names_a_position_twice(
    pipeline: RealCustomPipeline, cat: Subject, scope: float
) -> None:
    """A GPU makes such additions in any order, and rounds them differently from call to call."""
    robot = Subject(pipeline.encode_subject([Image.new("RGB", (128, 128), "blue")]), "robot")
    with _Additions() as additions:
        both = pipeline("a robot and a cat", [robot, cat], mask_scope=scope, generator=seed(), **SHORT).images
    assert additions.indices and all(len(index.unique()) == len(index) for index in additions.indices)
    with _Additions() as alone:
        one = pipeline("a robot and a cat", robot, mask_scope=scope, generator=seed(), **SHORT).images
    assert len(additions.indices) == 2 * len(alone.indices)
    assert (both - one).abs().max() > 0.01


def test_strengths_scale_each_group_by_itself(pipeline: RealCustomPipeline, cat: Subject) -> None:
    def draw(**strengths: float) -> Tensor:
        face = torch.arange(len(cat.tokens)) < 32
        return pipeline(PROMPT, replace(cat, face=face, **strengths), generator=seed(), **SHORT).images

    neutral = pipeline(PROMPT, cat, generator=seed(), **SHORT).images
    assert (draw() - neutral).abs().max() < rounding(pipeline, neutral)
    without_face, without_body = draw(face_strength=0.0), draw(body_strength=0.0)
    for changed in (without_face, without_body, draw(face_strength=2.0)):
        assert (changed - neutral).abs().max() > 0.01
    assert (without_face - without_body).abs().max() > 0.01
    unknown = pipeline(PROMPT, replace(cat, face_strength=0.0), generator=seed(), **SHORT).images
    assert torch.equal(unknown, neutral), "no face is known: its strength has no effect"


def test_a_face_box_marks_the_tokens_inside_it(pipeline: RealCustomPipeline, cat: Subject) -> None:
    face = pipeline.face_group([(0, 0, 128, 32)])
    assert face is not None and face.shape == (len(cat.tokens),)
    assert face.view(8, 8).all(1).tolist() == [True, True] + [False] * 6
    assert pipeline.face_group([None]) is None
    both = pipeline.face_group([None, (0, 0, 128, 32)])
    assert both is not None and torch.equal(both, torch.cat([torch.zeros_like(face), face]))


@pytest.mark.parametrize(
    "change", [{"source": "conditional"}, {"layers": ("up_blocks",)}, {"self_attention": True}, {"steps": 1}]
)
def test_every_way_to_find_masks_gives_masks_of_the_scope(
    pipeline: RealCustomPipeline, cat: Subject, change: dict[str, Any]
) -> None:
    plain = pipeline(PROMPT, cat, generator=seed(), **SHORT).mask_history
    history = pipeline(
        PROMPT, cat, guidance=pipeline.guidance.model_copy(update=change), generator=seed(), **SHORT
    ).mask_history
    assert plain is not None and history is not None
    assert ((history > 0).sum((-2, -1)) <= int(64 * pipeline.guidance.scope)).all()
    assert torch.equal(history[0], plain[0]) == (change in ({"source": "conditional"}, {"steps": 1}))
    assert torch.equal(history[0], history[2]) == (change == {"steps": 1})


def test_unknown_guidance_layers_are_refused(pipeline: RealCustomPipeline, cat: Subject) -> None:
    with pytest.raises(ValueError, match="no cross-attention below nowhere"):
        pipeline(
            PROMPT,
            cat,
            guidance=pipeline.guidance.model_copy(update={"layers": ("nowhere",)}),
            generator=seed(),
            **SHORT,
        )


def test_refining_equals_the_product_with_the_self_attention_maps() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 4, 12, 8), torch.randn(2, 4, 12, 8)
    quantity = torch.rand(2 * 3, 1, 3, 4)
    maps = (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1).mean(1)
    product = torch.einsum("bij,bwj->bwi", maps, quantity.view(2, 3, 12)).view(6, 1, 3, 4)
    stretched = (product - product.amin((-2, -1), True)) / (product.amax((-2, -1), True) - product.amin((-2, -1), True))
    # The attention sums 12 products, both means 4 heads; what is left is divided by its range before it is stretched.
    spread = product.amax((-2, -1)) - product.amin((-2, -1))
    allowed = bound(torch.float32, 12 * 4, float((product.amax() / spread).max())) + 1e-6 / float(spread.min())
    assert allowed < 1e-3
    assert (normalize(multiply_self_attention(quantity, [(q, k)]), "min_max_norm") - stretched).abs().max() < allowed


def test_masks_of_max_norm_are_shares_of_the_largest_product_with_the_self_attention() -> None:
    """The mean of the layers' maps is multiplied by the self-attention map, then divided by the largest value."""
    torch.manual_seed(0)
    guidance = GuidanceConfig(norm="max_norm", self_attention=True, scope=1.0, binary=False)
    text = TextFeatures(torch.zeros(2, 5, 8), torch.zeros(2, 4))
    subject = SubjectBatch([torch.zeros(3, 8)] * 2, torch.ones(2, 5), torch.ones(2), None, None)
    conditioning = PromptConditioning(text, torch.zeros(2, 6), (6, 8), 1.0, [subject], guidance=guidance)
    maps = [torch.rand(2, 1, 3, 4) for _ in range(2)]
    q, k = torch.randn(2, 4, 12, 8), torch.randn(2, 4, 12, 8)
    conditioning.recorded = RecordedMaps(maps, [(q, k)])
    conditioning.update_masks()
    shares = (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1).mean(1)
    product = torch.einsum("bij,bj->bi", shares, (sum(maps) / 2).flatten(1)).view(2, 1, 3, 4)
    expected = product / product.amax((-2, -1), True)
    assert conditioning.masks is not None
    torch.testing.assert_close(conditioning.masks, expected, rtol=0, atol=1e-4)
    assert float(expected.min()) > 0.1, "the smallest share is not stretched to 0"


def test_arguments_that_do_not_fit_are_refused(pipeline: RealCustomPipeline, cat: Subject) -> None:
    with pytest.raises(WordError):
        pipeline(PROMPT, replace(cat, word="dog"), generator=seed(), **SHORT)
    with pytest.raises(ValueError, match="2 lists for 1 prompts"):
        pipeline(PROMPT, [[cat], [cat]], generator=seed(), **SHORT)
    with pytest.raises(ValueError, match="face_strength"):
        replace(cat, face_strength=3.0)
    with pytest.raises(ValueError, match="face: expected"):
        replace(cat, face=torch.ones(3))


def test_recording_attention_does_not_change_the_prediction(pipeline: RealCustomPipeline) -> None:
    unet = pipeline.unet
    torch.manual_seed(1)
    latents, text = torch.randn(2, 4, 16, 16), torch.randn(2, 32, 128)
    added = {"text_embeds": torch.randn(2, 64), "time_ids": torch.zeros(2, 6)}
    words = torch.zeros(2, 32, 2)
    words[:, 3, 0] = 1
    words[:, :, 1] = 1  # all tokens together receive all attention
    stock = unet(latents, 10, text, added_cond_kwargs=added).sample
    for count in (2, 1):
        recorder = AttentionRecorder(words[-count:])
        context = SubjectContext((16, 16), recorder=recorder)
        recorded = unet(latents, 10, text, added_cond_kwargs=added, cross_attention_kwargs={"subject": context}).sample
        assert (recorded - stock).abs().max() < bound(torch.float32, additions(unet), float(stock.abs().max()))
        assert {tuple(m.shape) for m in recorder.maps} == {(count, 2, 16, 16), (count, 2, 8, 8)}
        shares = bound(torch.float32, 32 * 128)  # of 32 tokens, after sums of at most 128 products
        assert all((m[:, 1] - 1).abs().max() < shares for m in recorder.maps)
        assert all((m[:, 0] < 1).all() for m in recorder.maps)


def test_pictures_come_in_diffusers_types(pipeline: RealCustomPipeline, cat: Subject) -> None:
    shapes = {"np": (1, 64, 64, 3), "pt": (1, 3, 64, 64), "latent": (1, 4, 16, 16)}
    for output_type, shape in shapes.items():
        drawn = pipeline(PROMPT, cat, generator=seed(), **SHORT | {"output_type": output_type}).images
        assert tuple(drawn.shape) == shape


def test_a_callback_sees_every_step_and_may_interrupt(pipeline: RealCustomPipeline, cat: Subject) -> None:
    seen = []

    def look(pipe: RealCustomPipeline, step: int, timestep: int, state: dict[str, Any]) -> dict[str, Any]:
        seen.append((step, timestep, tuple(state["masks"].shape)))
        pipe._interrupt = step == 1
        return {"latents": torch.zeros_like(state["latents"])}

    drawn = pipeline(PROMPT, cat, generator=seed(), callback_on_step_end=look, **SHORT).images
    assert [s[0] for s in seen] == [0, 1] and seen[0][1] > seen[1][1]
    assert not drawn.any()


@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerDiscreteScheduler, EulerAncestralDiscreteScheduler])
def test_any_scheduler_of_diffusers_works(pipeline: RealCustomPipeline, cat: Subject, scheduler) -> None:  # type: ignore[no-untyped-def]
    usual = pipeline.scheduler
    pipeline.scheduler = scheduler.from_config(usual.config)
    try:
        drawn = pipeline(PROMPT, cat, generator=[seed()], **SHORT).images
        again = pipeline(PROMPT, cat, generator=[seed()], **SHORT).images
    finally:
        pipeline.scheduler = usual
    assert drawn.isfinite().all() and torch.equal(drawn, again)


def test_an_adapter_survives_the_disk(pipeline: RealCustomPipeline, tmp_path) -> None:  # type: ignore[no-untyped-def]
    pipeline.adapter.save_pretrained(tmp_path / "adapter")
    again = RealCustomAdapter.from_pretrained(tmp_path / "adapter")
    assert again.digest == pipeline.adapter.digest
    weights = tmp_path / "adapter" / "adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match="sha256"):
        RealCustomAdapter.from_pretrained(tmp_path / "adapter")
    with pytest.raises(ArtifactError, match="no adapter"):
        RealCustomAdapter.from_pretrained(tmp_path)


def test_a_whole_pipeline_survives_the_disk(pipeline: RealCustomPipeline, cat: Subject, miniature, tmp_path) -> None:  # type: ignore[no-untyped-def]
    pipeline.save_pretrained(tmp_path / "whole")
    pipeline.adapter.save_pretrained(tmp_path / "adapter")
    expected = pipeline(PROMPT, cat, generator=seed(), **SHORT).images
    whole = RealCustomPipeline.from_pretrained(tmp_path / "whole")
    parts = RealCustomPipeline.from_pretrained(
        miniature.base, adapter=tmp_path / "adapter", vision_encoder=pipeline.vision_encoder
    )
    assert whole.guidance == pipeline.guidance != parts.guidance
    for again in (whole, parts):
        again.guidance = pipeline.guidance
        tokens = again.encode_subject([Image.new("RGB", (128, 128), "red")])
        drawn = again(PROMPT, Subject(tokens, WORD), generator=seed(), **SHORT).images
        assert torch.equal(drawn, expected)
    assert StableDiffusionXLPipeline.from_pretrained(tmp_path / "whole")(PROMPT, **SHORT).images.isfinite().all()


def test_converted_weights_bring_their_conditioning(pipeline: RealCustomPipeline, miniature, cat: Subject) -> None:  # type: ignore[no-untyped-def]
    adapter = RealCustomAdapter.for_unet(
        pipeline.unet, pipeline.vision_encoder.channels, pipeline.adapter.projector_config, None, CONDITIONING
    )
    released = RealCustomPipeline.from_pretrained(miniature.base)
    released.set_adapter(adapter, pipeline.vision_encoder, GuidanceConfig())
    assert isinstance(released.scheduler, OfficialScheduler)
    pooled = [encode_prompts(pipeline, [PROMPT], kind).pooled for kind in ("projected", "unprojected")]
    conditioning = released.begin(GenerationRequest(PROMPT, guidance_scale=1.0, height=64, width=64)).conditioning
    assert torch.equal(conditioning.text.pooled, pooled[1])
    assert not torch.equal(*pooled)


def test_a_foreign_adapter_is_refused(pipeline: RealCustomPipeline) -> None:
    tensors = pipeline.adapter.official_state_dict()
    tensors["surprise"] = torch.zeros(1)
    with pytest.raises(ArtifactError, match="surprise"):
        pipeline.adapter.load_official_state_dict(tensors)


def test_views_are_polyphase_and_come_back_in_place() -> None:
    pixels = torch.arange(16.0).view(1, 1, 4, 4)
    assert split_views(pixels)[1].flatten().tolist() == [1, 3, 9, 11]
    features = torch.arange(8.0).view(4, 2, 1)  # four views of two patches
    assert merge_views(features, 1).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_layer_size_follows_the_unets_rounding() -> None:
    assert layer_size((9, 13), 117) == (9, 13)
    assert layer_size((9, 13), 35) == (5, 7)
    with pytest.raises(ValueError):
        layer_size((16, 16), 60)


@pytest.mark.skipif(not attends_in_bf16(), reason="PyTorch is told to use less than its processor has")
def test_half_precision_works(pipeline: RealCustomPipeline, cat: Subject, miniature) -> None:  # type: ignore[no-untyped-def]
    half = RealCustomPipeline.from_pretrained(miniature.base, dtype=torch.bfloat16)
    half.set_adapter(copy.deepcopy(pipeline.adapter), copy.deepcopy(pipeline.vision_encoder), pipeline.guidance)
    half.to(dtype=torch.bfloat16)
    tokens = half.encode_subject([Image.new("RGB", (128, 128), "red")])
    assert tokens.dtype == torch.bfloat16
    output = half(PROMPT, Subject(tokens, WORD), generator=seed(), **SHORT)
    assert output.images.isfinite().all()
    assert ((output.mask_history > 0).sum((-2, -1)) == int(64 * half.guidance.scope)).all()

    mask = torch.zeros(16, 16)
    mask[4:12, 4:12] = 1
    given = {"generator": seed(), "guidance_scale": 1.0} | SHORT
    drawn = half(PROMPT, Subject(tokens, WORD, mask=mask), **given).images
    full = pipeline(PROMPT, replace(cat, mask=mask), **given | {"generator": seed()}).images
    without = pipeline(PROMPT, **given | {"generator": seed()}).images
    encoders = outputs(half.text_encoder, half.text_encoder_2, half.vision_encoder, half.adapter)
    allowed = bound(torch.bfloat16, encoders + STEPS * outputs(half.unet))
    assert distance(drawn, full) < allowed < 0.5 * distance(without, full)


def test_a_lora_changes_the_base_under_the_subject(
    pipeline: RealCustomPipeline, cat: Subject, miniature, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    peft = pytest.importorskip("peft", reason="the extra 'lora' is not installed")
    donor = StableDiffusionXLPipeline.from_pretrained(miniature.base)
    torch.manual_seed(0)
    donor.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    StableDiffusionXLPipeline.save_lora_weights(tmp_path, peft.get_peft_model_state_dict(donor.unet))
    other = RealCustomPipeline.from_pretrained(miniature.base)
    other.set_adapter(copy.deepcopy(pipeline.adapter), pipeline.vision_encoder, pipeline.guidance)
    before = other(PROMPT, cat, generator=seed(), **SHORT).images
    other.load_lora_weights(tmp_path)
    with_lora = other(PROMPT, cat, generator=seed(), **SHORT).images
    assert (with_lora - before).abs().max() > 0.01
    other.unload_lora_weights()
    assert torch.equal(other(PROMPT, cat, generator=seed(), **SHORT).images, before)


@pytest.mark.slow
def test_the_unet_compiles_with_a_subject(pipeline: RealCustomPipeline, cat: Subject, miniature) -> None:  # type: ignore[no-untyped-def]
    compiled = RealCustomPipeline.from_pretrained(miniature.base)
    compiled.set_adapter(copy.deepcopy(pipeline.adapter), pipeline.vision_encoder, pipeline.guidance)
    compiled.unet.forward = torch.compile(compiled.unet.forward)
    expected = pipeline(PROMPT, cat, generator=seed(), **SHORT).images
    drawn = compiled(PROMPT, cat, generator=seed(), **SHORT).images
    assert (drawn - expected).abs().max() < rounding(pipeline, expected)
