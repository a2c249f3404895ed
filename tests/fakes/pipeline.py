"""A pipeline that paints instead of denoising, and the registry it comes from (module ``tests.fakes.pipeline``)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from PIL import Image
from torch import Tensor

from components.config import Config
from components.errors import ArtifactError, RegistryError, WordError
from components.model.naming import Naming
from components.model.subjects import Subject

READ_WORDS = 20
ENDLESS = float("inf")
#: File in ``serving.store`` with what the registry's aliases point at, where it is not version 7.
ALIASES = "aliases.json"
#: A version that cannot be loaded.
BROKEN = "13"


class FakeDraft:
    """A picture that is painted at once and takes its steps for the sake of it."""

    def __init__(self, output: SimpleNamespace, total: int, step_s: float) -> None:
        self.output, self.total, self.step_s = output, total, step_s
        self.step, self.latents = 0, torch.zeros(1, 4, 8, 8)

    @property
    def done(self) -> bool:
        return self.step == self.total

    def turn(self) -> FakeDraft:
        return self

    def take(self, prediction: None) -> None:
        self.step += 1


class FakePipeline:
    """Fills the picture with a colour drawn from the seed, and its middle with the mean colour of the subject.

    A prompt with the word "slow" takes half a second, one with "sluggish" three, and one with "endless" never ends.
    """

    reference_size = 32

    def __init__(self, token_identity: str = "fake-1") -> None:
        self._token_identity = token_identity
        #: How many pictures each step advanced, how often a subject was encoded, and how often the encoders identified.
        self.calls: list[int] = []
        self.encoded = self.identified = 0
        self.compiled = False
        #: What requests brought of their own.
        self.schedulers: list[Any] = []
        self.scheduler = DDIMScheduler()

    @property
    def token_identity(self) -> str:
        self.identified += 1
        return self._token_identity

    def encode_subject(self, pictures: list[Image.Image]) -> Tensor:
        self.encoded += 1
        assert all(picture.size == (32, 32) for picture in pictures)
        return torch.stack([_subject_color(picture) for picture in pictures])

    def face_group(self, boxes: list[Any]) -> Tensor | None:
        face = torch.tensor([box is not None for box in boxes])
        return face if face.any() else None

    def begin(
        self,
        prompt: str,
        *,
        height: int,
        width: int,
        generator: torch.Generator,
        num_inference_steps: int,
        subjects: list[Subject] | None = None,
        scheduler: Any = None,
        **_: Any,
    ) -> FakeDraft:
        self.schedulers.append(scheduler)
        own = subjects or []
        if any(subject.word not in prompt.split()[:READ_WORDS] for subject in own):
            raise WordError(f"target_word: it stands beyond the {READ_WORDS} words the model reads; move it forward")
        image = np.empty((height, width, 3), np.uint8)
        image[:] = torch.randint(256, (3,), generator=generator).numpy()
        if own:
            middle = np.array_split(np.arange(width // 4, width - width // 4), len(own))
            for subject, columns in zip(own, middle, strict=True):
                image[height // 4 : -height // 4, columns] = (subject.tokens * subject.gain[:, None]).mean(0).numpy()
        masks = [[Image.new("L", (width, height), 255)] * len(own)] if own else None
        output = SimpleNamespace(images=[Image.fromarray(image)], masks=masks)
        seconds = 3.0 if "sluggish" in prompt else 0.5 if "slow" in prompt else 0.0
        return FakeDraft(output, num_inference_steps, ENDLESS if "endless" in prompt else seconds / num_inference_steps)

    def compile(self) -> None:
        self.compiled = True

    def crowd(self) -> Callable[[Sequence[FakeDraft]], list[None]]:
        def call(drafts: Sequence[FakeDraft]) -> list[None]:
            self.calls.append(len(drafts))
            if any(draft.step_s == ENDLESS for draft in drafts):
                threading.Event().wait()
            time.sleep(max(draft.step_s for draft in drafts))
            return [None] * len(drafts)

        return call

    def preview(self, latents: Tensor) -> Image.Image:
        return Image.new("RGB", (latents.shape[-1], latents.shape[-2]), "gray")

    def finish(self, draft: FakeDraft) -> SimpleNamespace:
        return draft.output


class FakeNamer:
    """Takes everything for a robot."""

    def name(self, prompt: str, pictures: Sequence[Image.Image]) -> Naming:
        assert pictures
        if "robot" in prompt:
            return Naming("robot", 0.9, "detected", prompt)
        return Naming("robot", 0.4, "generated", f"a robot {prompt}")


def _subject_color(cut_out: Image.Image) -> Tensor:
    """The colour in the middle."""
    return torch.from_numpy(np.array(cut_out)).float()[16, 16]


def resolve(config: Config, uri: str) -> SimpleNamespace:
    if uri != "models:/realcustom-tiny@champion":
        raise RegistryError("model URI: not in the registry")
    return SimpleNamespace(name="realcustom-tiny", version="7")


def point(config: Config, **aliases: str) -> None:
    """Let the registry's aliases point at these versions, and others nowhere."""
    config.serving.store.mkdir(parents=True, exist_ok=True)
    staging = config.serving.store / f".{ALIASES}"
    staging.write_text(json.dumps(aliases))
    staging.rename(config.serving.store / ALIASES)


def find_alias(config: Config, name: str, alias: str) -> str | None:
    file = config.serving.store / ALIASES
    aliases = json.loads(file.read_text()) if file.exists() else {"champion": "7"}
    found: str | None = aliases.get(alias)
    return found


def load_pipeline(config: Config, uri: str, beside: FakePipeline | None = None) -> FakePipeline:
    name, _, version = uri.rpartition("/")
    assert name == "models:/realcustom-tiny" and version.isdigit(), "the alias must be resolved before replicas load"
    if version == BROKEN:
        raise ArtifactError("model.adapter was trained with other vision encoders")
    return FakePipeline(f"fake-{version}")
