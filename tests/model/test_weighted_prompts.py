"""How prompts are read: embeddings, sizes, weights, chunks and textual inversions, and where the words are in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from components.engine.request import Request
from components.errors import ConfigError, WordError
from components.model.generation_request import GenerationRequest
from components.model.pipeline import RealCustomPipeline
from components.model.prompt_weights import encode_weighted, parse_weights, plain_text, weighted_token_mask
from components.model.text import encode_prompts
from components.model.words import token_mask
from tests.engine.test_engine_model import Subjects, assert_same, drawn, pipeline, subjects

__all__ = ["pipeline", "subjects"]

SHORT: dict[str, Any] = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "latent"}


def seed(value: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(value)


@pytest.fixture(scope="module")
def stock(miniature: Any) -> StableDiffusionXLPipeline:
    made = StableDiffusionXLPipeline.from_pretrained(miniature.base)
    made.set_progress_bar_config(disable=True)
    return made


def embeds(pipeline: RealCustomPipeline) -> dict[str, Tensor]:
    """Of two chunks, longer than any prompt that diffusers encodes."""
    text = encode_weighted(pipeline, ["a red cat " + "on the beach " * 17])
    negative = encode_weighted(pipeline, ["at night " * 25])
    assert text.tokens.shape[1] == negative.tokens.shape[1] > pipeline.tokenizer.model_max_length
    return {
        "prompt_embeds": text.tokens,
        "pooled_prompt_embeds": text.pooled,
        "negative_prompt_embeds": negative.tokens,
        "negative_pooled_prompt_embeds": negative.pooled,
    }


@pytest.mark.parametrize(
    "options",
    [
        {"num_images_per_prompt": 2},
        {"clip_skip": 1},
        {"guidance_rescale": 0.7},
        {"original_size": (32, 48), "crops_coords_top_left": (4, 8), "target_size": (72, 80)},
        {
            "negative_original_size": (32, 32),
            "negative_target_size": (72, 72),
            "negative_crops_coords_top_left": (3, 3),
        },
        {"negative_original_size": (32, 32)},
        {"guidance_scale": 1.0, "clip_skip": 0},
    ],
    ids=lambda options: "-".join(options),
)
def test_an_option_equals_diffusers_own(
    pipeline: RealCustomPipeline, stock: StableDiffusionXLPipeline, options: dict[str, Any]
) -> None:
    asked = {"guidance_scale": 3.5, **SHORT, **options}
    prompts: dict[str, Any] = {"prompt": ["a cat", "a robot"], "negative_prompt": ["", "night"]}
    if "negative_target_size" in options:  # of several prompts, diffusers gives them to other rows than the negative
        prompts = {"prompt": "a cat", "negative_prompt": "night"}
    expected = stock(**prompts, generator=seed(), **asked).images
    ours = pipeline(**prompts, generator=seed(), **asked).images
    assert torch.equal(ours, expected)
    usual = pipeline(**prompts, generator=seed(), **SHORT).images
    same = options in ({"negative_original_size": (32, 32)},)
    assert (usual.shape == ours.shape and torch.equal(usual, ours)) == same, "the option has an effect"


def test_embeddings_equal_diffusers_own(pipeline: RealCustomPipeline, stock: StableDiffusionXLPipeline) -> None:
    given = embeds(pipeline)
    expected = stock(guidance_scale=3.5, generator=seed(), **SHORT, **given).images
    assert torch.equal(pipeline(generator=seed(), **SHORT, **given).images, expected)


def test_incomplete_options_are_refused(pipeline: RealCustomPipeline, subjects: Subjects) -> None:
    given = embeds(pipeline)
    with pytest.raises(ValueError, match="give pooled_prompt_embeds"):
        GenerationRequest(None, prompt_embeds=given["prompt_embeds"])
    with pytest.raises(ValueError, match="prompt: give it"):
        GenerationRequest(None)
    with pytest.raises(ValueError, match="for 2 prompts"):
        GenerationRequest(["a", "b"], **given)
    with pytest.raises(ValueError, match="guidance_rescale"):
        GenerationRequest("a", guidance_rescale=2.0)
    with pytest.raises(ConfigError, match=r"clip_skip: .* 0 to \d+ "):
        pipeline("a cat", clip_skip=99, **SHORT)
    with pytest.raises(WordError, match=r"give the prompt of prompt_embeds"):
        pipeline(subjects=subjects.cat, **SHORT, **given)
    with pytest.raises(WordError, match="give one prompt"):
        pipeline("a cat", subjects=subjects.cat, **SHORT, **given)


def test_the_word_of_given_embeddings_is_found_in_their_prompt(
    pipeline: RealCustomPipeline, subjects: Subjects
) -> None:
    prompt = "a red cat " + "on the beach " * 17
    given = embeds(pipeline) | {"prompt_embeds": encode_weighted(pipeline, [prompt]).tokens}
    found = pipeline(prompt, subjects.cat, generator=seed(), **SHORT, **given).images
    del given["negative_prompt_embeds"], given["negative_pooled_prompt_embeds"]
    again = pipeline(prompt, subjects.cat, "at night " * 25, generator=seed(), prompt_weighting=True, **SHORT).images
    assert torch.equal(found, again)


# --- weights and chunks


def test_weights_are_read_and_other_parentheses_are_text() -> None:
    assert parse_weights("a (red robot:1.3) at night (indoors)") == [
        ("a ", 1.0),
        ("red robot", 1.3),
        (" at night (indoors)", 1.0),
    ]
    assert parse_weights(r"a \(cat:1.2\)") == [("a (cat:1.2)", 1.0)]
    assert parse_weights("(cat:99)") == [("cat", 4.0)] and parse_weights("") == []
    assert plain_text("a (red:0.5) (cat:1.2)") == "a red cat"


@pytest.mark.parametrize("pooling", ["projected", "unprojected"])
@pytest.mark.parametrize("clip_skip", [None, 1])
def test_a_short_prompt_without_weights_is_encoded_as_in_diffusers(
    pipeline: RealCustomPipeline, pooling: Any, clip_skip: int | None
) -> None:
    for prompt in ("a red cat on the beach", "", "a (cat) at night"):
        plain = encode_prompts(pipeline, [prompt], pooling, clip_skip)
        ours = encode_weighted(pipeline, [prompt], pooling, clip_skip)
        assert torch.equal(ours.tokens, plain.tokens) and ours.mask is None
        torch.testing.assert_close(ours.pooled, plain.pooled)


def test_a_weight_moves_its_words_alone(pipeline: RealCustomPipeline) -> None:
    plain, empty = (encode_prompts(pipeline, [prompt]).tokens for prompt in ("a red cat on the beach", ""))
    for weight in (0.5, 1.3):
        ours = encode_weighted(pipeline, [f"a (red cat:{weight}) on the beach"]).tokens
        mask = token_mask(pipeline.tokenizer, "a red cat on the beach", "red cat").bool()
        assert torch.equal(ours[:, ~mask], plain[:, ~mask])
        torch.testing.assert_close(ours[:, mask], (empty + weight * (plain - empty))[:, mask])
        words = weighted_token_mask(pipeline, f"a (red cat:{weight}) on the beach", "cat")
        assert torch.equal(words, token_mask(pipeline.tokenizer, "a red cat on the beach", "cat"))


@pytest.mark.parametrize("before", [0, 30, 73, 74, 75, 76, 120, 200])
def test_a_word_is_found_in_any_chunk_and_none_is_cut(pipeline: RealCustomPipeline, before: int) -> None:
    tokenizer = pipeline.tokenizer
    prompt = "the " * before + "watercolour-robot" + " the" * 20
    words = weighted_token_mask(pipeline, prompt, "watercolour robot")
    encoded = encode_weighted(pipeline, [prompt]).tokens
    assert len(words) == encoded.shape[1] and len(words) % tokenizer.model_max_length == 0
    expected = tokenizer("watercolour-robot", add_special_tokens=False)["input_ids"]
    assert words.sum() >= len(expected) - 1, "the hyphen is a token between its words"
    for chunk in words.view(-1, tokenizer.model_max_length):
        assert chunk[0] == chunk[-1] == 0, "tokens of begin and end belong to no word"


def test_a_subject_at_a_word_of_the_second_chunk(pipeline: RealCustomPipeline, subjects: Subjects) -> None:
    prompt = "the beach " * 45 + "and a red cat"
    with pytest.raises(WordError, match="beyond"):
        pipeline(prompt, subjects.cat, **SHORT)
    with_cat = pipeline(prompt, subjects.cat, generator=seed(), prompt_weighting=True, **SHORT)
    without = pipeline(prompt, generator=seed(), prompt_weighting=True, **SHORT)
    assert with_cat.mask_history is not None and float(with_cat.mask_history.amax()) > 0
    assert (with_cat.images - without.images).abs().max() > 0.05


def test_prompts_of_any_length_share_a_batch(pipeline: RealCustomPipeline, subjects: Subjects) -> None:
    def asked(prompt: str, seed: int, subject: Any = None, **more: Any) -> Request:
        own = () if subject is None else (subject,)
        return Request(prompt, seed, 64, 64, 4, 3.5, subjects=own, options={"prompt_weighting": True}, **more)

    long = "the beach " * 45
    requests = [
        asked("a red cat", 1, subjects.cat),
        asked(f"{long} and a (cat:1.2)", 2, subjects.cat),
        asked(f"{long * 2} and a robot", 3, subjects.robot, negative_prompt="night"),
        replace(asked("a bird", 4), options={"guidance_rescale": 0.5, "clip_skip": 1}),
        asked("a cat", 5, subjects.cat, negative_prompt=long),
    ]
    alone = [drawn(pipeline, [request], [0])[0] for request in requests]
    for joins in ([0] * 5, [0, 1, 2, 1, 0], [2, 1, 0, 0, 1]):
        for request, one, other in zip(requests, alone, drawn(pipeline, requests, joins), strict=True):
            assert_same(pipeline, request, one, other)


# --- textual inversions


def test_a_textual_inversion_of_several_vectors_does_not_shift_the_word(
    pipeline: RealCustomPipeline, miniature: Any, subjects: Subjects
) -> None:
    fresh = RealCustomPipeline.from_pretrained(miniature.base)
    for tokenizer, encoder in (
        (fresh.tokenizer, fresh.text_encoder),
        (fresh.tokenizer_2, fresh.text_encoder_2),
    ):
        width = encoder.get_input_embeddings().weight.shape[1]
        vectors = torch.randn(3, width, generator=seed())
        fresh.load_textual_inversion({"<style>": vectors}, token="<style>", tokenizer=tokenizer, text_encoder=encoder)
    fresh.set_adapter(pipeline.adapter, pipeline.vision_encoder)
    prompt = "in <style> a red cat"
    written = fresh.maybe_convert_prompt(prompt, fresh.tokenizer)
    assert written != prompt
    expected = token_mask(fresh.tokenizer, written, "cat")
    for options in ({}, {"prompt_weighting": True}):
        request = GenerationRequest(prompt, [[subjects.cat]], height=64, width=64, **options)
        conditioning = fresh.begin(request).conditioning
        assert conditioning.words is not None
        assert torch.equal(conditioning.words[0, :, 0], expected)
    ids = fresh.tokenizer(written, padding="max_length", truncation=True)["input_ids"]
    assert fresh.tokenizer.decode([ids[int(i)] for i in expected.nonzero()]) == "cat"
    pipeline.adapter.attach(pipeline.unet)
