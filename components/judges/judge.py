"""The judge of toy-world images: evaluation encoders of another seed, width or family than those of the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from components.cut_outs import Frame, cut_out, frame_of
from components.errors import ArtifactError
from components.judges.identity_model import load_identity
from components.judges.recognizer import LABELS, load_recognizer
from components.world.scenes import write_caption


@dataclass(frozen=True)
class PromptSpec:
    """What a prompt describes; ``position`` None: it describes no position."""

    kind: str
    place: str
    position: str | None

    @property
    def prompt(self) -> str:
        return write_caption(self.kind, self.place, self.position)


@dataclass(frozen=True)
class PromptAgreement:
    """Whether each image agrees with its prompt, bool [b]; ``position`` is true where the prompt has none."""

    kind: np.ndarray
    place: np.ndarray
    position: np.ndarray

    @property
    def text_control(self) -> np.ndarray:
        """Mean of kind, place and position for each picture, [b]."""
        return (self.kind.astype(float) + self.place + self.position) / 3


class Judge:
    """Scores text control by recognition, and subject similarity masked to the subject."""

    def __init__(self, encoders: str | Path, size: int) -> None:
        """Load the evaluation encoders; images are resized to ``size`` x ``size`` pixels."""
        root = Path(encoders)
        try:
            self.recognizer = load_recognizer(root / "recognizer")
            self.identity = load_identity(root / "identity")
        except OSError as error:
            raise ArtifactError(f"evaluation.encoders cannot be loaded: {str(error).splitlines()[0]}") from None
        self.size = size

    @torch.no_grad()
    def check(self, pictures: list[Image.Image], wanted: list[PromptSpec]) -> PromptAgreement:
        """Compare the recogniser's answers with each prompt."""
        logits = self.recognizer(self._pixels(pictures))
        right = {
            name: np.array(
                [answers[int(i)] == getattr(w, name) for i, w in zip(logits[name].argmax(1), wanted, strict=True)]
            )
            for name, answers in LABELS.items()
        }
        asked = np.array([w.position is not None for w in wanted])
        return PromptAgreement(right["kind"], right["place"], right["position"] | ~asked)

    @torch.no_grad()
    def probabilities(self, pictures: list[Image.Image]) -> dict[str, Tensor]:
        """The recogniser's probabilities of each answer of `LABELS`, [b, answers] for each question."""
        return {name: logits.softmax(1) for name, logits in self.recognizer(self._pixels(pictures)).items()}

    @torch.no_grad()
    def embed(self, pictures: list[Image.Image]) -> Tensor:
        """Unit vectors [b, d] of pictures as they are."""
        vectors: Tensor = self.identity(self._pixels(pictures))[0]
        return vectors

    def identities(self, pictures: list[Image.Image]) -> Tensor:
        """Unit vectors [b, d] of the subjects: each is segmented, cut out onto white and embedded."""
        masks = self.subject_masks(pictures)
        return self.embed_under(pictures, masks, [frame_of(mask) for mask in masks])

    def embed_under(self, pictures: list[Image.Image], masks: list[Image.Image], frames: list[Frame]) -> Tensor:
        """Unit vectors [b, d] of the areas of ``masks``, on white and cropped to ``frames`` (in the masks' pixels)."""
        cut = [
            cut_out(p.resize(m.size), m, self.size, frame) for p, m, frame in zip(pictures, masks, frames, strict=True)
        ]
        return self.embed(cut)

    @torch.no_grad()
    def subject_masks(self, pictures: list[Image.Image]) -> list[Image.Image]:
        """Masks of the subjects, as L images of ``size``."""
        logits = self.identity(self._pixels(pictures))[1]
        return [Image.fromarray(m) for m in ((logits > 0).byte() * 255).numpy()]

    def _pixels(self, pictures: list[Image.Image]) -> Tensor:
        sized = [p.convert("RGB").resize((self.size, self.size), Image.Resampling.BOX) for p in pictures]
        return torch.from_numpy(np.stack([np.asarray(p) for p in sized])).permute(0, 3, 1, 2).float() / 127.5 - 1
