"""Textual inversion: the embedding of a new word is fitted, and nothing else."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from components.evaluation import inversion
from components.evaluation.inversion import PSEUDO_WORD, Inversion, pseudo_word
from components.model.miniature import MiniatureLayout


def test_a_pseudo_word_is_fitted_to_its_picture_and_gone_afterwards(
    miniature: MiniatureLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(miniature.base)
    pipeline.set_progress_bar_config(disable=True)
    encoders = [(pipeline.tokenizer, pipeline.text_encoder), (pipeline.tokenizer_2, pipeline.text_encoder_2)]
    before = [encoder.get_input_embeddings().weight.detach().clone() for _, encoder in encoders]
    unet = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    losses, measured = [], inversion._loss

    def loss(pipeline: StableDiffusionXLPipeline, noise: object, *inputs: object) -> torch.Tensor:
        found = measured(pipeline, noise, *inputs[:-1], torch.Generator().manual_seed(0))  # type: ignore[arg-type]
        losses.append(float(found.detach()))
        return found

    monkeypatch.setattr(inversion, "_loss", loss)  # of the same noise in every step
    settings = Inversion(steps=8, batch=2, learning_rate=0.05)
    with pseudo_word(pipeline, Image.new("RGB", (64, 64), "red"), "cat", settings) as word:
        assert word == PSEUDO_WORD and losses[-1] < losses[0] and len(losses) == 8
        for (tokenizer, encoder), table in zip(encoders, before, strict=True):
            (noun,) = tokenizer("cat", add_special_tokens=False)["input_ids"]
            fitted = encoder.get_input_embeddings().weight
            assert not fitted.requires_grad
            assert torch.equal(fitted[: len(table)], table), "the other words are what they were"
            moved = fitted[tokenizer.convert_tokens_to_ids(word)] - table[noun]
            assert 0 < moved.abs().max() <= 1.01 * 8 * 0.05, "it began at its noun"
        prompts = [f"a {word}", "a cat"]
        with torch.no_grad():
            fitted, noun = (pipeline.encode_prompt(p, do_classifier_free_guidance=False)[0] for p in prompts)
        assert not torch.allclose(fitted, noun)
    assert all(torch.equal(value, unet[name]) for name, value in pipeline.unet.state_dict().items())
    for (tokenizer, encoder), table in zip(encoders, before, strict=True):
        assert torch.equal(encoder.get_input_embeddings().weight[: len(table)], table)
        assert PSEUDO_WORD not in tokenizer.get_vocab()
