"""LoRAs by name: loaded once, and switched on for the calls of the requests that name them.

PEFT mixes LoRAs in one batch only where each row has a single one of weight 1, in layers that see all rows; requests
have sets with weights, and cached keys and values are computed of some rows. Calls therefore have one set each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline

from components.errors import ArtifactError

#: The names and weights of a call's LoRAs, by name. Equal sets may share a U-Net call.
LoraSet = tuple[tuple[str, float], ...]


def lora_set(loras: Mapping[str, float] | LoraSet) -> LoraSet:
    """The set of ``loras``: sorted, without those of weight 0."""
    pairs = loras.items() if isinstance(loras, Mapping) else loras
    return tuple(sorted((name, float(weight)) for name, weight in pairs if weight))


def load_loras(pipeline: StableDiffusionXLPipeline, paths: Mapping[str, str]) -> None:
    """Load LoRAs (files, directories or hub names) into U-Net and text encoders, all switched off.

    Raises:
        ArtifactError: one cannot be loaded, or does not fit the base model.
    """
    for name, path in paths.items():
        place = Path(path)
        folder, file = (str(place.parent), place.name) if place.is_file() else (path, None)
        try:
            pipeline.load_lora_weights(folder, weight_name=file, adapter_name=name)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ArtifactError(f"model.loras.{name} cannot be loaded: {first}") from None
    if paths:
        pipeline.disable_lora()


class LoraSwitch:
    """Switches a pipeline's LoRAs; not thread-safe.

    Args:
        names: of the LoRAs that `load_loras` has loaded.
    """

    def __init__(self, pipeline: StableDiffusionXLPipeline, names: Sequence[str]) -> None:
        self._pipeline, self.names = pipeline, tuple(names)
        self._active: LoraSet | None = None

    def check(self, loras: LoraSet) -> None:
        """Raise ValueError for a name that is not loaded."""
        unknown = [name for name, _ in loras if name not in self.names]
        if unknown:
            known = ", ".join(self.names) or "none (model.loras names them)"
            raise ValueError(f"loras: {unknown[0]!r} is not loaded; choose from: {known}")

    def activate(self, loras: LoraSet) -> None:
        """Let exactly ``loras`` act in the calls that follow."""
        if loras == self._active or not self.names:
            return
        self._active = None  # if this fails half way
        with torch.inference_mode(False):
            if loras:
                self._pipeline.enable_lora()
                self._pipeline.set_adapters([name for name, _ in loras], [weight for _, weight in loras])
            else:
                self._pipeline.disable_lora()
        self._active = loras
