"""The text conditioning of a request: embeddings of its prompts, sizes, and the tokens of its subjects' words."""

from __future__ import annotations

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from components.errors import WordError
from components.model.generation_request import GenerationRequest
from components.model.prompt_weights import encode_weighted, weighted_token_mask
from components.model.text import TextFeatures, TextPooling, encode_prompts, size_conditioning
from components.model.words import token_mask


def encode_text(
    pipeline: StableDiffusionXLPipeline, request: GenerationRequest, guided: bool, pooling: TextPooling
) -> TextFeatures:
    """The embeddings of a request's images: of their negative prompts first, if ``guided``, then of their prompts.

    Raises:
        ConfigError: ``clip_skip`` is beyond the layers of the text encoders.
    """

    def encode(
        prompts: list[str], tokens: Tensor | None, pooled: Tensor | None, clip_skip: int | None = None
    ) -> TextFeatures:
        if tokens is not None and pooled is not None:
            device, dtype = pipeline._execution_device, pipeline.unet.dtype
            text = TextFeatures(tokens.to(device, dtype), pooled.to(device, dtype))
        elif request.prompt_weighting:
            text = encode_weighted(pipeline, prompts, pooling, clip_skip)
        else:
            text = encode_prompts(pipeline, prompts, pooling, clip_skip)
        return text.repeated(request.num_images_per_prompt)

    text = encode(request.prompts, request.prompt_embeds, request.pooled_prompt_embeds, request.clip_skip)
    if not guided:
        return text
    negative = (request.negative_prompt_embeds, request.negative_pooled_prompt_embeds)
    return encode(request.negative_prompts, *negative) + text


def time_ids(request: GenerationRequest, size: tuple[int, int], guided: bool) -> Tensor:
    """SDXL's time ids [rows, 6] of a request's images of ``size`` (height, width), in the order of `encode_text`."""
    original, target = request.original_size or size, request.target_size or size
    ids = size_conditioning(original, request.crops_coords_top_left, target, request.count)
    if not guided:
        return ids
    negative = ids
    if request.negative_original_size is not None and request.negative_target_size is not None:  # as in diffusers
        crop = request.negative_crops_coords_top_left
        negative = size_conditioning(request.negative_original_size, crop, request.negative_target_size, request.count)
    return torch.cat([negative, ids])


def find_words(pipeline: StableDiffusionXLPipeline, request: GenerationRequest, image: int, word: str) -> Tensor:
    """Weights [t] of the tokens of ``word`` in the prompt of an image.

    Raises:
        WordError: the prompt does not hold it, or is not given.
    """
    if request.prompt is None:
        raise WordError("target_word: give the prompt of prompt_embeds too, to find the subjects' words")
    prompt = request.prompts[image // request.num_images_per_prompt]
    width = None if request.prompt_embeds is None else request.prompt_embeds.shape[1]
    tokenizers = [pipeline.tokenizer, pipeline.tokenizer_2]
    limit = tokenizers[0].model_max_length
    if request.prompt_weighting or width not in (None, limit):
        words = weighted_token_mask(pipeline, prompt, word)
    else:
        # A textual inversion of several vectors is several tokens, which diffusers writes out.
        words = token_mask(tokenizers, pipeline.maybe_convert_prompt(prompt, pipeline.tokenizer), word)
    if width is not None and len(words) != width:
        raise WordError(f"target_word: prompt_embeds has {width} tokens and its prompt {len(words)}; give one prompt")
    return words
