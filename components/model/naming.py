"""One-step mode: the target word of a prompt that comes with a reference but without a word.

    namer = WordNamer.from_config(config.model, config.naming)
    naming = namer.name("sitting on the beach", [cutout])   # 'robot', generated: "a robot sitting on the beach"

SigLIP says how likely a picture shows what a text says. The phrase of the prompt that fits the reference best is
*detected*; if none fits, the best class noun of a vocabulary is *generated* and put into the prompt.
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
from components.model.words import singulars, split_words

#: A pair of words must fit this much better (in logits) than a single one: "sofa", not "comfortable sofa".
_PAIR_MARGIN = 1.0
#: Texts embedded at a time.
_BATCH = 256


@dataclass(frozen=True)
class Naming:
    """Which word stands for a reference.

    Args:
        word: the target word as ``prompt`` spells it.
        score: SigLIP's probability, in [0, 1], that the reference shows it.
        how: ``detected`` in the prompt, or ``generated`` and put into it.
        prompt: the prompt to draw, which holds ``word``.
    """

    word: str
    score: float
    how: Literal["detected", "generated"]
    prompt: str

    def __str__(self) -> str:
        return f"{self.word!r} ({self.how}, score {self.score:.2f})"


class WordNamer:
    """Finds or makes the target word of a prompt with both towers of SigLIP."""

    def __init__(
        self, siglip: SiglipModel, tokenizer: PreTrainedTokenizerBase, config: NamingConfig, nouns: Sequence[str]
    ) -> None:
        self.siglip, self.tokenizer, self.config = siglip.requires_grad_(False).eval(), tokenizer, config
        #: What a reference may be called when the prompt does not say it: singular nouns.
        self.nouns = list(nouns)

    @classmethod
    def from_config(cls, model: ModelConfig, naming: NamingConfig) -> WordNamer:
        """Load SigLIP with its text tower and tokenizer from a hub name or directory.

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
        """The word of ``prompt`` that stands for the subject of ``pictures``, or a new one.

        Args:
            prompt: what is to be drawn; may be empty.
            pictures: at least one RGB cut-out on white, all of one subject.

        Raises:
            ValueError: no picture.
        """
        seen = self._see(pictures)
        phrases = candidate_phrases(prompt)
        logits = [self._fit(phrase, seen) for phrase in phrases]
        if phrases:
            margins = [_PAIR_MARGIN * (len(split_words(phrase)) - 1) for phrase in phrases]
            best = max(range(len(phrases)), key=lambda i: logits[i] - margins[i])
            score = _probability(logits[best])
            if score >= self.config.threshold:
                return Naming(phrases[best], score, "detected", prompt)
        fits = self._logits(self._vocabulary, seen)
        noun, score = self.nouns[int(fits.argmax())], _probability(float(fits.max()))
        spelled = spelled_in(prompt, noun)
        if spelled:  # a poor fit, but nothing else fits better
            return Naming(spelled, score, "detected", prompt)
        return Naming(noun, score, "generated", insert_noun(noun, prompt))

    def scores(self, nouns: Sequence[str], pictures: Sequence[Image.Image]) -> list[float]:
        """The probability, in [0, 1], of each of ``nouns`` for what ``pictures`` show."""
        fits = self._logits(self._read(nouns), self._see(pictures))
        return [_probability(fit) for fit in fits.tolist()]

    def _fit(self, phrase: str, seen: Tensor) -> float:
        """How well ``phrase``, or a singular of it, fits (logit)."""
        *before, head = (word.text for word in split_words(phrase))
        forms = [" ".join([*before, form]) for form in [head, *sorted(singulars(head))]]
        return float(self._logits(self._read(forms), seen).max())

    def _logits(self, said: Tensor, seen: Tensor) -> Tensor:
        """[n] of texts [n, templates, d] and pictures [p, d]: the mean over templates and pictures."""
        similar = torch.einsum("ntd,pd->n", said, seen) / (said.shape[1] * len(seen))
        return similar * self.siglip.logit_scale.exp() + self.siglip.logit_bias

    @cached_property
    def _vocabulary(self) -> Tensor:
        return self._read(self.nouns)

    @torch.no_grad()
    def _read(self, nouns: Sequence[str]) -> Tensor:
        """Unit vectors [n, templates, d] of every template about every noun."""
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
    def _see(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Unit vectors [p, d]."""
        if not pictures:
            raise ValueError("a word is named after at least one picture")
        side = self.siglip.config.vision_config.image_size
        sized = [p.convert("RGB").resize((side, side), Image.Resampling.BICUBIC) for p in pictures]
        pixels = torch.from_numpy(np.stack([np.asarray(p) for p in sized])).permute(0, 3, 1, 2)
        pixels = pixels.to(self.siglip.device).to(self.siglip.dtype) / 127.5 - 1
        return F.normalize(self.siglip.get_image_features(pixels).pooler_output, dim=-1)


def read_nouns(path: Path) -> list[str]:
    """The lines of a text file, one noun each; empty lines and lines that begin with # are skipped.

    Raises:
        ConfigError: the file cannot be read, or holds no noun.
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
