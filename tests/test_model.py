"""The adapter on the SDXL family: nothing changes without a subject, and with one, what should."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor, nn

from components.config import Config
from components.errors import ArtifactError, WordError
from components.model.adapter import RealCustomAdapter
from components.model.attention import SubjectContext, layer_size
from components.model.pipeline import RealCustomPipeline
from components.model.vision import merge_views, split_views

PROMPT, WORD = "a red cat on the beach", "cat"
SHORT = {"num_inference_steps": 3, "height": 64, "width": 64, "output_type": "latent"}


@pytest.fixture(scope="module")
def pipeline(miniature, tmp_path_factory) -> RealCustomPipeline:  # type: ignore[no-untyped-def]
    """An adapter with random (not zero) values, so that a subject makes a difference."""
    from components.config import load_config

    parts = [f"model.{n}={getattr(miniature, n)}" for n in ("base", "siglip", "dinov2")]
    made = RealCustomPipeline.from_config(load_config("tiny", [*parts, "model.adapter=null"]))
    torch.manual_seed(0)
    for name, parameter in made.adapter.named_parameters():
        if "to_v_vision" in name:
            nn.init.normal_(parameter, std=0.2)
    return made


@pytest.fixture(scope="module")
def tokens(pipeline: RealCustomPipeline) -> Tensor:
    return pipeline.encode_subject([Image.new("RGB", (128, 128), "red")])


def seed(value: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(value)


@pytest.mark.parametrize("scale", [1.0, 3.5])
def test_without_a_subject_it_is_stock_sdxl_bit_for_bit(
    pipeline: RealCustomPipeline, miniature, tokens: Tensor, scale: float
) -> None:  # type: ignore[no-untyped-def]
    stock = StableDiffusionXLPipeline.from_pretrained(miniature.base)
    expected = stock(PROMPT, negative_prompt="", guidance_scale=scale, generator=seed(), **SHORT).images
    ours = pipeline(PROMPT, guidance_scale=scale, generator=seed(), **SHORT).images
    silent = pipeline(PROMPT, tokens, WORD, strength=0.0, guidance_scale=scale, generator=seed(), **SHORT).images
    assert torch.equal(ours, expected)
    assert torch.equal(silent, expected)


def test_an_untrained_adapter_changes_nothing(config: Config) -> None:
    fresh = RealCustomPipeline.from_config(config)
    vision = fresh.encode_subject([Image.new("RGB", (128, 128), "red")])
    without = fresh(PROMPT, generator=seed(), **SHORT).images
    assert torch.allclose(fresh(PROMPT, vision, WORD, generator=seed(), **SHORT).images, without, atol=1e-4)


def test_a_subject_makes_a_difference_and_has_a_mask(pipeline: RealCustomPipeline, tokens: Tensor) -> None:
    without = pipeline(PROMPT, generator=seed(), **SHORT).images
    output = pipeline(PROMPT, tokens, WORD, generator=seed(), **SHORT)
    assert (output.images - without).abs().max() > 0.05
    assert output.masks is not None
    assert output.masks[0].size == (64, 64)
    assert pipeline(PROMPT, generator=seed(), **SHORT).masks is None


def test_an_empty_mask_leaves_one_step_untouched(pipeline: RealCustomPipeline, tokens: Tensor) -> None:
    one = SHORT | {"num_inference_steps": 1}
    nothing = torch.zeros(1, 1, 8, 8)
    masked = pipeline(PROMPT, tokens, WORD, mask=nothing, generator=seed(), **one).images
    assert torch.allclose(masked, pipeline(PROMPT, generator=seed(), **one).images, atol=1e-5)


def test_a_seed_means_the_same_alone_and_in_a_batch(pipeline: RealCustomPipeline, tokens: Tensor) -> None:
    other = pipeline.encode_subject([Image.new("RGB", (128, 128), "blue")])
    prompts, words = [PROMPT, "a robot in the snow"], ["cat", "robot"]
    batch = pipeline(prompts, torch.stack([tokens, other]), words, generator=[seed(1), seed(2)], **SHORT).images
    for i, subject in enumerate((tokens, other)):
        alone = pipeline(prompts[i], subject, words[i], generator=seed(i + 1), **SHORT).images
        assert torch.allclose(batch[i], alone[0], atol=1e-4)


@pytest.mark.parametrize("size", [(64, 96), (72, 56), (40, 64)])
def test_any_multiple_of_eight_works(pipeline: RealCustomPipeline, tokens: Tensor, size: tuple[int, int]) -> None:
    height, width = size
    output = pipeline(
        PROMPT, tokens, WORD, num_inference_steps=1, height=height, width=width, generator=seed(), output_type="pil"
    )
    assert output.images[0].size == (width, height)
    assert output.masks is not None and output.masks[0].size == (width, height)


def test_several_references_join_their_tokens(pipeline: RealCustomPipeline, tokens: Tensor) -> None:
    pictures = [Image.new("RGB", (128, 128), color) for color in ("red", "blue")]
    joined = pipeline.encode_subject(pictures)
    assert joined.shape == (2 * len(tokens), tokens.shape[1])
    assert torch.allclose(joined[: len(tokens)], tokens, atol=1e-5)
    assert pipeline(PROMPT, joined, WORD, generator=seed(), **SHORT).images.isfinite().all()


def test_arguments_that_do_not_fit_are_refused(pipeline: RealCustomPipeline, tokens: Tensor) -> None:
    with pytest.raises(WordError):
        pipeline(PROMPT, tokens, "dog", generator=seed(), **SHORT)
    with pytest.raises(ValueError, match="target_word"):
        pipeline(PROMPT, tokens, generator=seed(), **SHORT)
    with pytest.raises(ValueError, match="2 words"):
        pipeline(PROMPT, tokens, ["cat", "cat"], generator=seed(), **SHORT)


def test_watching_a_word_does_not_change_the_prediction(pipeline: RealCustomPipeline) -> None:
    unet = pipeline.unet
    torch.manual_seed(1)
    latents, text = torch.randn(2, 4, 16, 16), torch.randn(2, 32, 128)
    added = {"text_embeds": torch.randn(2, 64), "time_ids": torch.zeros(2, 6)}
    word = torch.zeros(2, 32)
    word[:, 3] = 1
    every = torch.ones(2, 32)
    stock = unet(latents, 10, text, added_cond_kwargs=added).sample
    for weights, total in ((word, None), (every, 1.0)):
        context = SubjectContext((16, 16), word=weights)
        watched = unet(latents, 10, text, added_cond_kwargs=added, cross_attention_kwargs={"subject": context}).sample
        assert torch.allclose(watched, stock, atol=1e-5)
        assert {tuple(m.shape[1:]) for m in context.maps} == {(16, 16), (8, 8)}
        if total is not None:  # all words together receive all attention
            assert all(torch.allclose(m, torch.full_like(m, total), atol=1e-4) for m in context.maps)


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
