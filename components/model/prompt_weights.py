"""Weighted and long prompts: ``(robot:1.3)`` scales the influence of words, and longer prompts are encoded in chunks.

The text is split into chunks of as many tokens as the text encoders read, between words. Each chunk is encoded by
itself, and the embeddings are concatenated. A weight moves the embedding of a token away from that of an empty prompt
at the same position: ``empty + weight * (token - empty)``. A prompt of one chunk without weights is encoded
as in diffusers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor
from transformers import CLIPTokenizer

from components.errors import ArtifactError, WordError
from components.model.text import TextFeatures, TextPooling, check_clip_skip, stack_texts
from components.model.words import Span, find_word, overlaps, require_word

T = TypeVar("T", int, float)
#: ``(text:weight)``; a backslash before a parenthesis makes it part of the text.
_WEIGHTED = re.compile(r"(?<!\\)\(((?:[^()\\]|\\.)*):\s*(\d+(?:\.\d+)?)\s*(?<!\\)\)")
_ESCAPED = re.compile(r"\\([()])")
#: Largest weight; larger ones destroy images.
MAX_WEIGHT = 4.0
#: CLIP's mark of a word's last token.
_WORD_END = "</w>"


@dataclass(frozen=True)
class _Token:
    """A token of a prompt: its id, weight, and span in the plain text; ``starts`` if it begins a word."""

    id: int
    weight: float
    span: Span
    starts: bool


def parse_weights(prompt: str) -> list[tuple[str, float]]:
    """The texts of ``prompt`` in order, with their weights.

    >>> parse_weights("a (red robot:1.3) at night (indoors)")
    [('a ', 1.0), ('red robot', 1.3), (' at night (indoors)', 1.0)]
    """
    parts: list[tuple[str, float]] = []
    end = 0
    for match in _WEIGHTED.finditer(prompt):
        parts += [(prompt[end : match.start()], 1.0), (match[1], min(float(match[2]), MAX_WEIGHT))]
        end = match.end()
    parts.append((prompt[end:], 1.0))
    return [(_ESCAPED.sub(r"\1", text), weight) for text, weight in parts if text]


def find_weights(prompt: str) -> list[tuple[str, float]]:
    """The texts of ``prompt`` that have weights, and these as written.

    >>> find_weights("a (red robot:9) at night")
    [('red robot', 9.0)]
    """
    return [(_ESCAPED.sub(r"\1", match[1]), float(match[2])) for match in _WEIGHTED.finditer(prompt)]


def split_chunks(
    pipeline: StableDiffusionXLPipeline, tokenizer: CLIPTokenizer, prompt: str, prompt_weighting: bool
) -> list[str]:
    """The texts of the chunks of ``prompt``; without ``prompt_weighting``, what is read and what is beyond it."""
    if prompt_weighting:
        fragments = _converted(pipeline, prompt, tokenizer)
        text, chunks = "".join(part for part, _ in fragments), _chunks(fragments, tokenizer)
        return [text[chunk[0].span[0] : chunk[-1].span[1]] if chunk else "" for chunk in chunks]
    text = pipeline.maybe_convert_prompt(prompt, tokenizer)
    limit = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    tokens = _tokens([(text, 1.0)], tokenizer)
    return [text] if len(tokens) <= limit else [text[: tokens[limit].span[0]], text[tokens[limit].span[0] :]]


def plain_text(prompt: str) -> str:
    """``prompt`` without its weights.

    >>> plain_text(r"a (red robot:1.3) \\(indoors\\)")
    'a red robot (indoors)'
    """
    return "".join(text for text, _ in parse_weights(prompt))


def holds_word(prompt: str, word: str) -> bool:
    """Whether ``prompt`` contains ``word``, whether it is read with weights or without."""
    return bool(find_word(prompt, word) or find_word(plain_text(prompt), word))


@torch.no_grad()
def encode_weighted(
    pipeline: StableDiffusionXLPipeline,
    prompts: Sequence[str],
    pooling: TextPooling = "projected",
    clip_skip: int | None = None,
) -> TextFeatures:
    """Encode weighted prompts of any length; the pooled vector is that of the first chunk, without weights.

    Raises:
        ConfigError: the encoders have fewer layers than ``clip_skip``.
    """
    check_clip_skip(pipeline, clip_skip)
    return stack_texts([_encode(pipeline, prompt, pooling, clip_skip) for prompt in prompts])


def weighted_token_mask(pipeline: StableDiffusionXLPipeline, prompt: str, word: str) -> Tensor:
    """Float [tokens]: 1 at every token of ``word`` in the chunks of ``prompt``, else 0.

    Raises:
        WordError: the word is not in the prompt.
        ArtifactError: the tokenizers split the prompt differently.
    """
    masks = []
    for tokenizer in (pipeline.tokenizer, pipeline.tokenizer_2):
        fragments = _converted(pipeline, prompt, tokenizer)
        spans = require_word("".join(text for text, _ in fragments), word)
        mask: list[float] = []
        for chunk in _chunks(fragments, tokenizer):
            marks = [float(overlaps(token.span, spans)) for token in chunk]
            mask += [0.0, *marks, *[0.0] * (tokenizer.model_max_length - len(marks) - 1)]
        masks.append(torch.tensor(mask))
    if any(not mask.equal(masks[0]) for mask in masks):
        raise ArtifactError("model.base: its tokenizers split the prompt differently; both must share one vocabulary")
    if not masks[0].any():
        raise WordError("target_word: the tokenizer reads none of it; use another word")
    return masks[0]


def _converted(pipeline: StableDiffusionXLPipeline, prompt: str, tokenizer: CLIPTokenizer) -> list[tuple[str, float]]:
    """The fragments with the tokens of textual inversions, as diffusers' `maybe_convert_prompt` writes them."""
    return [(pipeline.maybe_convert_prompt(text, tokenizer), weight) for text, weight in parse_weights(prompt)]


def _chunks(fragments: Sequence[tuple[str, float]], tokenizer: CLIPTokenizer) -> list[list[_Token]]:
    """The tokens of each chunk; one empty chunk for an empty prompt."""
    tokens = _tokens(fragments, tokenizer)
    limit = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    chunks = []
    while len(tokens) > limit:
        cut = next((index for index in range(limit, 0, -1) if tokens[index].starts), limit)
        chunks.append(tokens[:cut])
        tokens = tokens[cut:]
    return [*chunks, tokens] if tokens or not chunks else chunks


def _tokens(fragments: Sequence[tuple[str, float]], tokenizer: CLIPTokenizer) -> list[_Token]:
    tokens: list[_Token] = []
    start = 0
    for text, weight in fragments:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        names = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
        starts = True
        for token, name, (first, last) in zip(encoded["input_ids"], names, encoded["offset_mapping"], strict=True):
            tokens.append(_Token(token, weight, (start + first, start + last), starts))
            starts = name.endswith(_WORD_END)
        start += len(text)
    return tokens


def _encode(
    pipeline: StableDiffusionXLPipeline, prompt: str, pooling: TextPooling, clip_skip: int | None
) -> TextFeatures:
    embeddings, pooled = [], None
    for tokenizer, encoder in (
        (pipeline.tokenizer, pipeline.text_encoder),
        (pipeline.tokenizer_2, pipeline.text_encoder_2),
    ):
        chunks = _chunks(_converted(pipeline, prompt, tokenizer), tokenizer)
        weights = torch.tensor(
            [_padded([token.weight for token in chunk], 1.0, 1.0, 1.0, tokenizer) for chunk in chunks]
        )
        weighted = bool((weights != 1).any())
        rows = [*chunks, []] if weighted else chunks  # the last one is the empty prompt
        special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        ids = [_padded([token.id for token in row], *special, tokenizer) for row in rows]
        output = encoder(torch.tensor(ids, device=pipeline._execution_device), output_hidden_states=True)
        if hasattr(encoder, "text_projection"):
            pooled = output[0][:1]
            if pooling == "unprojected":
                pooled = _before_projection(output.last_hidden_state[:1], ids[0], special[1])
        hidden = output.hidden_states[-2 if clip_skip is None else -(clip_skip + 2)]
        if weighted:
            tokens, empty = hidden[:-1], hidden[-1:]
            scale = weights.to(hidden)[..., None]
            hidden = torch.where(scale == 1, tokens, empty + scale * (tokens - empty))
        embeddings.append(hidden.flatten(0, 1)[None])
    assert pooled is not None
    dtype = pipeline.text_encoder_2.dtype
    return TextFeatures(torch.cat(embeddings, -1).to(dtype), pooled.to(dtype))


def _before_projection(hidden: Tensor, ids: list[int], end: int) -> Tensor:
    """The pooler output [1, p] of the second encoder: the normalised last state at the end of the text."""
    return hidden[:, ids.index(end)]


def _padded(values: list[T], begin: T, end: T, pad: T, tokenizer: CLIPTokenizer) -> list[T]:
    """A chunk's values between those of the special tokens, padded."""
    row = [pad] * int(tokenizer.model_max_length)
    row[0], row[len(values) + 1] = begin, end
    row[1 : len(values) + 1] = values
    return row
