"""A pipeline that fills images with colours instead of denoising, and its registry, ``tests.fakes.pipeline``."""

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
from components.errors import ArtifactError, ConfigError, RegistryError, WordError
from components.model.control import Control
from components.model.generation_request import GenerationRequest
from components.model.naming import Naming
from components.model.redraw import EmptyMaskError

READ_WORDS = 20
ENDLESS = float("inf")
#: File in ``serving.store`` with what the registry's aliases point at, where it is not version 7.
ALIASES = "aliases.json"
#: A version that cannot be loaded.
BROKEN = "13"


class FakeState:
    """A finished image that counts steps."""

    def __init__(self, output: SimpleNamespace, total: int, step_s: float) -> None:
        self.output, self.total, self.step_s = output, total, step_s
        self.step, self.latents, self.mask_history = 0, torch.zeros(1, 4, 8, 8), list[Tensor]()

    @property
    def done(self) -> bool:
        return self.step == self.total

    def step_input(self) -> FakeState:
        return self

    def advance(self, prediction: None) -> None:
        self.step += 1


class FakePromptReader:
    """Reads `READ_WORDS` at a time."""

    def notes(self, prompt: str, negative_prompt: str, prompt_weighting: bool) -> list[str]:
        chunks = -(-len(prompt.split()) // READ_WORDS)
        how = f"it was read in {chunks} chunks" if prompt_weighting else "its end was not read"
        return [f"prompt: {how}"] if chunks > 1 else []


class FakePipeline:
    """Fills the image with a random colour of the seed, and its middle with the mean colour of the subject.

    A prompt with the word "slow" takes half a second, one with "sluggish" three, and one with "endless" never ends.
    """

    reference_size = 32
    lora_names = ("flat", "ink")
    control_names = ("depth", "pose")
    control_shares: dict[str, float] = {"depth": 0.0, "pose": 0.5}

    def __init__(self, token_identity: str = "fake-1") -> None:
        self._token_identity = token_identity
        #: How many pictures each step advanced, how often a subject was encoded, and how often the encoders identified.
        self.calls: list[int] = []
        self.encoded = self.identified = 0
        self.compiled = False
        #: The scheduler of each request.
        self.schedulers: list[Any] = []
        self.requests: list[GenerationRequest] = []
        self.scheduler = DDIMScheduler()
        #: The LoRAs of each request.
        self.loras: list[Any] = []
        #: The control of each request that has one; its picture is seen in the image's first 8x8 pixels.
        self.controls: list[Control] = []
        #: The strength of each redrawing.
        self.strengths: list[float] = []

    @property
    def token_identity(self) -> str:
        self.identified += 1
        return self._token_identity

    def encode_subject(self, pictures: list[Image.Image]) -> Tensor:
        self.encoded += 1
        assert all(picture.size == (32, 32) for picture in pictures)
        return torch.stack([_subject_color(picture) for picture in pictures])

    def no_subject_tokens(self) -> Tensor:
        return torch.zeros(1, 3)

    def face_group(self, boxes: list[Any]) -> Tensor | None:
        face = torch.tensor([box is not None for box in boxes])
        return face if face.any() else None

    def prompt_reader(self) -> FakePromptReader:
        return FakePromptReader()

    def begin(self, request: GenerationRequest) -> FakeState:
        self.schedulers.append(request.scheduler)
        self.requests.append(request)
        if (request.clip_skip or 0) > 11:
            raise ConfigError("clip_skip: this model's text encoders can skip 0 to 11 layers")
        self.loras.append(request.loras)
        (prompt,), height, width, steps = request.prompts, request.height, request.width, request.num_inference_steps
        own: list[Any] = list(request.subjects or ())  # type: ignore[arg-type]
        if any(subject.word not in prompt.split()[:READ_WORDS] for subject in own):
            raise WordError(f"target_word: it stands beyond the {READ_WORDS} words the model reads; move it forward")
        assert height is not None and width is not None and isinstance(request.generator, torch.Generator)
        image = np.empty((height, width, 3), np.uint8)
        image[:] = torch.randint(256, (3,), generator=request.generator).numpy()
        if own:
            middle = np.array_split(np.arange(width // 4, width - width // 4), len(own))
            for subject, columns in zip(own, middle, strict=True):
                image[height // 4 : -height // 4, columns] = (subject.tokens * subject.gain[:, None]).mean(0).numpy()
        if request.control is not None:
            self.controls.append(request.control)
            assert request.control.image.size == (width, height)
            image[:8, :8] = np.array(request.control.image)[:8, :8]
        if isinstance(request.image, Image.Image):
            self.strengths.append(request.strength)
            assert request.image.size == (width, height)
            inside = np.array(request.mask_image or Image.new("L", (width, height), 255)) > 127
            if not inside[::8, ::8].any():
                raise EmptyMaskError("mask_image: it covers no latent; mark a larger part of the picture")
            image = np.where(inside[..., None], image, np.array(request.image))
        masks = [[Image.new("L", (width, height), 255)] * len(own)] if own else None
        output = SimpleNamespace(images=[Image.fromarray(image)], masks=masks)
        seconds = 3.0 if "sluggish" in prompt else 0.5 if "slow" in prompt else 0.0
        return FakeState(output, steps, ENDLESS if "endless" in prompt else seconds / steps)

    def compile(self) -> None:
        self.compiled = True

    def denoiser(self) -> Callable[[Sequence[FakeState]], list[None]]:
        def call(states: Sequence[FakeState]) -> list[None]:
            self.calls.append(len(states))
            if any(state.step_s == ENDLESS for state in states):
                threading.Event().wait()
            time.sleep(max(state.step_s for state in states))
            return [None] * len(states)

        return call

    def preview(self, latents: Tensor) -> Image.Image:
        return Image.new("RGB", (latents.shape[-1], latents.shape[-2]), "gray")

    def finish(self, state: FakeState) -> SimpleNamespace:
        return state.output


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
