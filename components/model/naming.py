"""Finds the target word for a prompt and a reference without one.

    namer = WordNamer.from_config(config.model, config.naming)
    naming = namer.name("sitting on the beach", [cutout])   # 'robot', generated: "a robot sitting on the beach"

SigLIP scores how well the phrases of the prompt match the reference. The best phrase is *detected*; if its score is
below the threshold, the best noun of a vocabulary is *generated* and inserted into the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, SiglipModel

from components.config import ModelConfig, NamingConfig
from components.errors import ArtifactError, ConfigError
from components.model.phrases import candidate_phrases, insert_noun, spelled_in, with_article
from components.model.vision import square
from components.model.words import singulars, split_words

#: Logits by which a phrase of two words must exceed one of a single word: "sofa", not "comfortable sofa".
_PAIR_MARGIN = 1.0
#: Texts per forward pass.
_BATCH = 256


@dataclass(frozen=True)
class Naming:
    """The target word of a reference.

    Args:
        word: as spelled in ``prompt``.
        score: SigLIP's probability, in [0, 1], that the reference shows it.
        how: ``detected`` in the prompt, or ``generated`` and inserted into it.
        prompt: the prompt that contains ``word``.
    """

    word: str
    score: float
    how: Literal["detected", "generated"]
    prompt: str

    def __str__(self) -> str:
        return f"{self.word!r} ({self.how}, score {self.score:.2f})"


class WordNamer:
    """Detects or generates the target word of a prompt with SigLIP's image and text towers."""

    def __init__(
        self, siglip: SiglipModel, tokenizer: PreTrainedTokenizerBase, config: NamingConfig, nouns: Sequence[str]
    ) -> None:
        self.siglip, self.tokenizer, self.config = siglip.requires_grad_(False).eval(), tokenizer, config
        #: Singular nouns to choose from if no phrase of the prompt matches.
        self.nouns = list(nouns)

    @classmethod
    def from_config(cls, model: ModelConfig, naming: NamingConfig) -> WordNamer:
        """Load SigLIP with its text tower and tokenizer.

        Raises:
            ArtifactError: SigLIP or its tokenizer cannot be loaded.
            ConfigError: the list of nouns cannot be read, or is empty.
        """
        nouns = read_nouns(naming.nouns) if isinstance(naming.nouns, Path) else list(naming.nouns)
        try:
            siglip = SiglipModel.from_pretrained(model.siglip, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(model.siglip)
        except (OSError, ValueError, ImportError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ArtifactError(f"model.siglip cannot be loaded with its text tower and tokenizer: {reason}") from None
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(siglip.to(device if model.device == "auto" else model.device), tokenizer, naming, nouns)

    def name(self, prompt: str, pictures: Sequence[Image.Image]) -> Naming:
        """Detect the word for the subject of ``pictures`` in ``prompt``, or generate one.

        Args:
            prompt: may be empty.
            pictures: at least one RGB cut-out on white, all of one subject.

        Raises:
            ValueError: ``pictures`` is empty.
        """
        images = self._encode_images(pictures)
        phrases = candidate_phrases(prompt)
        logits = [self._phrase_logit(phrase, images) for phrase in phrases]
        if phrases:
            margins = [_PAIR_MARGIN * (len(split_words(phrase)) - 1) for phrase in phrases]
            best = max(range(len(phrases)), key=lambda i: logits[i] - margins[i])
            score = _probability(logits[best])
            if score >= self.config.threshold:
                return Naming(phrases[best], score, "detected", prompt)
        noun_logits = self._logits(self._vocabulary, images)
        noun, score = self.nouns[int(noun_logits.argmax())], _probability(float(noun_logits.max()))
        spelled = spelled_in(prompt, noun)
        if spelled:  # below the threshold, but no other noun scores higher
            return Naming(spelled, score, "detected", prompt)
        return Naming(noun, score, "generated", insert_noun(noun, prompt))

    def scores(self, nouns: Sequence[str], pictures: Sequence[Image.Image]) -> list[float]:
        """The probability, in [0, 1], that ``pictures`` show each of ``nouns``."""
        logits = self._logits(self._encode_nouns(nouns), self._encode_images(pictures))
        return [_probability(logit) for logit in logits.tolist()]

    def _phrase_logit(self, phrase: str, images: Tensor) -> float:
        """The best logit of ``phrase`` and its possible singulars."""
        *before, head = (word.text for word in split_words(phrase))
        forms = [" ".join([*before, form]) for form in [head, *sorted(singulars(head))]]
        return float(self._logits(self._encode_nouns(forms), images).max())

    def _logits(self, texts: Tensor, images: Tensor) -> Tensor:
        """Logits [n] of texts [n, templates, d] and images [p, d]: from the mean cosine over templates and images."""
        similarity = torch.einsum("ntd,pd->n", texts, images) / (texts.shape[1] * len(images))
        return similarity * self.siglip.logit_scale.exp() + self.siglip.logit_bias

    @cached_property
    def _vocabulary(self) -> Tensor:
        return self._encode_nouns(self.nouns)

    @torch.no_grad()
    def _encode_nouns(self, nouns: Sequence[str]) -> Tensor:
        """Unit embeddings [n, templates, d] of every noun in every template."""
        texts = [template.replace("{noun}", with_article(noun)) for noun in nouns for template in self.config.templates]
        length = self.config.text_tokens
        ids = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).input_ids
        vectors = [
            self.siglip.get_text_features(part.to(self.siglip.device)).pooler_output for part in ids.split(_BATCH)
        ]
        return F.normalize(torch.cat(vectors), dim=-1).unflatten(0, (len(nouns), -1))

    @torch.no_grad()
    def _encode_images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Unit embeddings [p, d]."""
        if not pictures:
            raise ValueError("pictures: give at least one")
        side = self.siglip.config.vision_config.image_size
        sized = [square(p.convert("RGB"), side) for p in pictures]
        pixels = torch.from_numpy(np.stack([np.asarray(p) for p in sized])).permute(0, 3, 1, 2)
        pixels = pixels.to(self.siglip.device).to(self.siglip.dtype) / 127.5 - 1
        return F.normalize(self.siglip.get_image_features(pixels).pooler_output, dim=-1)


def read_nouns(path: Path) -> list[str]:
    """Read a text file with one noun per line; empty lines and lines that start with # are skipped.

    Raises:
        ConfigError: the file cannot be read, or contains no noun.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"naming.nouns: {path} cannot be read: give a text file with one noun a line") from None
    nouns = [line for line in lines if line and not line.startswith("#")]
    if not nouns:
        raise ConfigError(f"naming.nouns: {path} holds no noun: write one a line")
    return nouns


def _probability(logit: float) -> float:
    return float(torch.sigmoid(torch.tensor(logit)))
