"""Loads the base model: a directory in the layout of diffusers, a hub name, or a single-file checkpoint.

A single file (``sd_xl_base_1.0.safetensors``) holds weights under the names of Stability AI's code. diffusers converts
them by the configurations of the parts, which are read from a directory, so that nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.loaders.single_file_utils import SingleFileComponentError
from safetensors import SafetensorError

from components.config import ModelConfig
from components.errors import ArtifactError

PipelineT = TypeVar("PipelineT", bound=StableDiffusionXLPipeline)

_INDEX = "model_index.json"
_SUFFIX = ".safetensors"
#: Suffixes of single files that are not read: unpickling runs code of the file.
_PICKLED = (".ckpt", ".pt", ".pth", ".bin")


def load_base(kind: type[PipelineT], config: ModelConfig, dtype: torch.dtype, **options: Any) -> PipelineT:
    """The pipeline of class ``kind`` with the parts of ``config.base``.

    Args:
        options: those of diffusers' ``from_pretrained`` and ``from_single_file``.

    Raises:
        ArtifactError: the base cannot be loaded.
    """
    try:
        if not is_single_file(config.base):
            return kind.from_pretrained(config.base, dtype=dtype, **options)
        return _load_single_file(kind, config, dtype, **options)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"model.base cannot be loaded: {_first_line(error)}") from None


def is_single_file(base: str) -> bool:
    """Whether ``base`` names a single-file checkpoint rather than a directory or a hub name.

    Raises:
        ArtifactError: it names a pickled checkpoint.
    """
    path = Path(base)
    if path.suffix in _PICKLED and not path.is_dir():
        raise ArtifactError(f"model.base: {base} is a pickled checkpoint, which is not read; give a {_SUFFIX} file")
    return path.suffix == _SUFFIX and not path.is_dir()


def base_layout(config: ModelConfig) -> str:
    """The directory or hub name with the configurations of the base model's parts.

    Raises:
        ArtifactError: there is none for a single-file checkpoint.
    """
    if not is_single_file(config.base):
        return config.base
    if config.base_config is not None:
        return config.base_config
    file = Path(config.base)
    for directory in (file.with_suffix(""), file.parent):
        if (directory / _INDEX).is_file():
            return str(directory)
    raise ArtifactError(
        f"model.base: {file} is a single file without configurations beside it: set model.base_config to a directory "
        f"with {_INDEX}, the parts' configurations and the tokenizers (weights are not needed)"
    )


def _load_single_file(kind: type[PipelineT], config: ModelConfig, dtype: torch.dtype, **options: Any) -> PipelineT:
    file, layout = Path(config.base), base_layout(config)
    if not file.is_file():
        raise ArtifactError(f"model.base: there is no file {file}")
    try:
        return kind.from_single_file(str(file), config=layout, dtype=dtype, **options)
    except NotImplementedError:  # torch: what the file does not hold has no memory
        raise ArtifactError(f"model.base: {file} lacks weights of a part that {layout} describes") from None
    except (SingleFileComponentError, SafetensorError, KeyError, RuntimeError) as error:
        raise ArtifactError(
            f"model.base: {file} is no single-file checkpoint of Stable Diffusion XL that fits the configurations in "
            f"{layout}: {type(error).__name__}: {_first_line(error)}"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
