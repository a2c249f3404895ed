"""Quantised U-Nets: the configuration that diffusers quantises the linear layers with while it loads them.

torchao keeps 8-bit weights beside a scale for each output channel, and computes in the precision of the activations.
bitsandbytes computes in 8 bit (Dettmers et al. 2022, arXiv 2208.07339), or keeps 4-bit weights in NF4
(arXiv 2305.14314). The attention processors call the layers as modules, so both work below a character's adapter.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from diffusers import BitsAndBytesConfig, TorchAoConfig

from components.config import ModelConfig
from components.errors import ConfigError

_KEY = "model.quantization"
#: Value of the setting -> class of `torchao.quantization`.
_TORCHAO = {"int8_weight_only": "Int8WeightOnlyConfig", "float8_weight_only": "Float8WeightOnlyConfig"}


def quantization_config(config: ModelConfig) -> Any:
    """The ``quantization_config`` of diffusers' ``from_pretrained`` for ``config.quantization``, which is set.

    Raises:
        ConfigError: the package or the device that it needs is not there.
    """
    name = str(config.quantization)
    if name in _TORCHAO:
        _require("torchao", name)
        from torchao import quantization

        return TorchAoConfig(getattr(quantization, _TORCHAO[name])())
    if config.device == "cpu" or not torch.cuda.is_available():
        raise ConfigError(f"{_KEY}: {name} needs a CUDA device; on a CPU take int8_weight_only")
    _require("bitsandbytes", name)
    if name == "bnb_int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    compute = getattr(torch, config.dtype)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def _require(package: str, name: str) -> None:
    if find_spec(package) is None:
        raise ConfigError(f"{_KEY}: {name} needs the extra {package!r}: pip install -e '.[{package}]'")
