"""Encodes references beside the training: a Ray Data stage of encoder processes with resources of their own.

Processes on other CPUs, or on GPUs that do not train, make the features of the references that a step shows while the
steps before it are trained. The curriculum and its augmentation apply as in the step itself: random numbers are drawn
by the generator of step and lane in both places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import ray.data
from numpy.typing import NDArray

from components.config import Config
from components.progress import quiet_libraries
from components.training.partners import Columns
from components.training.window_reader import LANE, STEP

if TYPE_CHECKING:
    from components.model.vision import VisionFeatures
    from components.training.encoding import StepEncoder

_HALF_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class ReferenceEncoders:
    """The encoder processes of one worker.

    Args:
        feature_bytes: of a reference's features, as they come from these processes.
    """

    config: Config
    feature_bytes: int

    @classmethod
    def of(cls, config: Config, vision: VisionFeatures) -> ReferenceEncoders | None:
        """None if references are encoded in the steps.

        Args:
            vision: features of one reference.
        """
        if not config.training.encoders:
            return None
        halves = sum(each.numel() for each in (vision.deep, vision.local, *vision.shallow))
        return cls(config, 2 * halves + 4 * vision.deep.shape[1])  # the face group is in float32

    def append_to(self, dataset: ray.data.Dataset) -> ray.data.Dataset:
        """Append the stage to a dataset of micro-batches."""
        training = self.config.training
        return dataset.map_batches(
            EncodeReferences,
            batch_size=None,
            fn_constructor_args=(self.config,),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=training.encoders),
            num_cpus=training.encoder_cpus,
            num_gpus=training.encoder_gpus,
        )


class EncodeReferences:
    """Encodes blocks of micro-batches; the first one loads the vision encoders. Rows with features pass unchanged."""

    def __init__(self, config: Config) -> None:
        quiet_libraries()
        self._config = config

    def __call__(self, block: Columns) -> Iterator[Columns]:
        if "cutout" not in block:
            yield block
            return
        size = self._config.training.batch_size
        for first in range(0, len(block[STEP]), size):
            yield self._encode({name: values[first : first + size] for name, values in block.items()})

    def _encode(self, rows: Columns) -> Columns:
        # Imported here: the driver and the readers need none of the model libraries.
        import torch

        from components.checkpoint import step_generator
        from components.training.objective import choose_rows

        training = self._config.training
        step, lane = int(rows[STEP][0]), int(rows[LANE][0])
        progress = step / training.steps
        generator = step_generator(training.seed, step, lane)
        device = self._device
        tensors = {name: torch.from_numpy(np.array(values)).to(device) for name, values in rows.items()}
        chosen = choose_rows(len(rows[STEP]), training, progress, generator).to(device)
        encoded = self._encoder(tensors, chosen.other, progress, generator)
        return {name: _as_array(value) for name, value in encoded.items() if not name.startswith("other_")}

    @cached_property
    def _device(self) -> Any:
        import torch

        return torch.device("cuda" if self._config.training.encoder_gpus and torch.cuda.is_available() else "cpu")

    @cached_property
    def _encoder(self) -> StepEncoder:
        import torch

        from components.model.vision import VisionEncoder
        from components.precision import frozen_dtype
        from components.training.encoding import StepEncoder

        if self._device.type == "cpu":
            torch.set_num_threads(max(1, int(self._config.training.encoder_cpus)))
        dtype = frozen_dtype(self._config.model.dtype, self._device, self._config.training.bf16)
        vision = VisionEncoder.load(self._config.model, self._config.vision, dtype)
        return StepEncoder(self._config, vision, self._device)


def _as_array(value: Any) -> NDArray[Any]:
    """A tensor as an array; features and latents in half precision, as `prepare` stores them."""
    if value.dtype.is_floating_point and (value.dtype.itemsize == 2 or value.dim() >= 3):
        value = value.float().clamp(-_HALF_MAX, _HALF_MAX).half()
    array: NDArray[Any] = value.cpu().numpy()
    return array
