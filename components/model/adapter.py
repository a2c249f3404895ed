"""The RealCustom adapter: the projector and the vision keys and values, a diffusers model beside a stock U-Net.

On disk: ``config.json``, ``adapter.safetensors`` with the parameter names of the authors' release, ``sha256.json``, and
``no_subject.safetensors``, if the tokens of "no subject" were computed once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.utils.accelerate_utils import apply_forward_hook
from huggingface_hub import snapshot_download
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components.config import AdapterConfig, ConditioningConfig
from components.errors import ArtifactError
from components.files import adding_files
from components.model.attention import SelfAttnProcessor, SubjectAttnProcessor, VisionKeyValues
from components.model.projector import build_projector
from components.model.style_attention import StyleSubjectAttnProcessor
from components.model.vision import VisionEncoder, VisionFeatures

_PROJECTOR = "encoder_hidden_states_vision_projection."
_WEIGHTS, _CONFIG, _DIGESTS = "adapter.safetensors", "config.json", "sha256.json"
_NO_SUBJECT = "no_subject.safetensors"
#: Arguments of `ModelMixin.from_pretrained` that an adapter does not need: they say how large files are loaded.
_LOADING_OPTIONS = frozenset(
    {
        "disable_mmap",
        "low_cpu_mem_usage",
        "max_memory",
        "offload_folder",
        "offload_state_dict",
        "use_safetensors",
        "variant",
    }
)
#: Arguments of `huggingface_hub.snapshot_download`.
_HUB_OPTIONS = frozenset({"revision", "token", "cache_dir", "local_files_only", "force_download"})


class RealCustomAdapter(ModelMixin, ConfigMixin):
    """The trained parameters of RealCustom (paper section 3.2).

    It owns the vision keys and values of every cross-attention layer. The attention processors that `attach` sets on a
    U-Net call them through `key_values`, so a pipeline moves, offloads, saves and counts each parameter once.

    Args:
        layer_dims: path of each cross-attention layer -> (context_dim, inner_dim).
        vision_channels: channels of the vision features.
        projector_config: kind and widths of the projector, an `AdapterConfig` or its fields.
        encoder_identity: identity of the vision encoder that it was trained with; None if unknown (converted weights).
        conditioning: text pooling and scheduler that it was trained with, a `ConditioningConfig` or its fields.
    """

    @register_to_config
    def __init__(
        self,
        layer_dims: Mapping[str, Sequence[int]],
        vision_channels: int,
        projector_config: AdapterConfig | Mapping[str, Any],
        encoder_identity: str | None = None,
        conditioning: ConditioningConfig | Mapping[str, Any] = ConditioningConfig(),
    ) -> None:
        super().__init__()
        self.projector_config = AdapterConfig.model_validate(projector_config)
        self.conditioning = ConditioningConfig.model_validate(conditioning)
        self.layer_dims = {path: (int(dims[0]), int(dims[1])) for path, dims in layer_dims.items()}
        self.vision_channels = vision_channels
        self.register_to_config(  # as JSON
            layer_dims={path: list(dims) for path, dims in self.layer_dims.items()},
            projector_config=self.projector_config.model_dump(),
            conditioning=self.conditioning.model_dump(),
        )
        context_dim = next(iter(self.layer_dims.values()))[0]
        self.projector = build_projector(vision_channels, context_dim, self.projector_config)
        self.layers = nn.ModuleDict(
            {_module_name(path): VisionKeyValues(*dims) for path, dims in self.layer_dims.items()}
        )
        self.register_buffer("_no_subject", None, persistent=False)
        self._no_subject_encoder: str | None = None
        #: Each layer is a group of its own in block-level group offloading: the U-Net calls the layers one by one.
        self._group_offload_block_modules = ["layers", *self.layers.keys()]

    @classmethod
    def for_unet(
        cls,
        unet: UNet2DConditionModel,
        vision_channels: int,
        config: AdapterConfig,
        encoder_identity: str | None,
        conditioning: ConditioningConfig = ConditioningConfig(),
    ) -> RealCustomAdapter:
        """A new adapter for the cross-attention layers of ``unet``. Until it is trained it changes nothing."""
        layer_dims = {}
        for name in unet.attn_processors:
            if name.endswith("attn2.processor"):
                attention = unet.get_submodule(name.removesuffix(".processor"))
                layer_dims[name.removesuffix(".processor")] = (attention.to_k.in_features, attention.to_k.out_features)
        return cls(
            layer_dims=layer_dims,  # by name: `from_config` takes arguments given by position for defaults
            vision_channels=vision_channels,
            projector_config=config,
            encoder_identity=encoder_identity,
            conditioning=conditioning,
        )

    @classmethod
    def described(cls, directory: Path | str) -> RealCustomAdapter:
        """The adapter of a directory or a repository of the hub without its weights, on the device ``meta``.

        Raises:
            ArtifactError: it holds no adapter.
        """
        config = _read_json(_find_directory(directory, None, {}), _CONFIG)
        with torch.device("meta"):
            adapter: RealCustomAdapter = cls.from_config(_renamed(config))
        return adapter

    def attach(self, unet: UNet2DConditionModel) -> None:
        """Set attention processors with a vision branch; ``unet.set_attn_processor(AttnProcessor2_0())`` undoes it.

        Those of an IP-Adapter go on acting beside it.

        Raises:
            ArtifactError: the U-Net lacks a layer of the adapter.
        """
        processors: dict[str, object] = {}
        for name, old in unet.attn_processors.items():
            path = name.removesuffix(".processor")
            if path in self.layer_dims:
                vision = SubjectAttnProcessor(path, partial(self.key_values, path))
                styled = isinstance(old, IPAdapterAttnProcessor2_0)
                processors[name] = StyleSubjectAttnProcessor(old, vision) if styled else vision
            else:
                processors[name] = SelfAttnProcessor()
        missing = self.layer_dims.keys() - {n.removesuffix(".processor") for n in processors}
        if missing:
            raise ArtifactError(f"the adapter does not fit this U-Net: it has no {sorted(missing)[0]}")
        unet.set_attn_processor(processors)

    @property
    def encoder_identity(self) -> str | None:
        """Identity of the vision encoder that the adapter was trained with; None if unknown. Stored in its config."""
        return self.config["encoder_identity"]

    @property
    def token_sets(self) -> int:
        """Number of vision tokens for each patch of the reference."""
        return 2 if self.projector_config.projector == "shallow" else 1

    def check_encoder(self, vision: VisionEncoder) -> None:
        """Refuse features that the adapter was not trained with.

        Raises:
            ArtifactError: ``vision`` is another encoder or, where the encoder is unknown, has another width.
        """
        if self.encoder_identity not in (None, vision.identity):
            raise ArtifactError("model.adapter was trained with other vision encoders than model.siglip/model.dinov2")
        if self.vision_channels != vision.channels:
            raise ArtifactError(
                f"model.adapter reads {self.vision_channels} vision channels, "
                f"model.siglip and model.dinov2 give {vision.channels}"
            )

    def no_subject_tokens(self, encoder: str | None) -> Tensor | None:
        """The stored tokens [m, context_dim] of "no subject" if they were made with this ``encoder`` (an identity), or
        with any where it is None.

        Whoever changes the parameters calls `forget_no_subject`.
        """
        return self._no_subject if encoder in (None, self._no_subject_encoder) else None

    def store_no_subject(self, features: VisionFeatures, encoder: str) -> None:
        """Compute the tokens of "no subject" from the features of one black image; `save_pretrained` writes them."""
        with torch.inference_mode(False), torch.no_grad():
            self._no_subject = self(features)[0].clone()
        self._no_subject_encoder = encoder

    def forget_no_subject(self) -> None:
        """Drop the tokens of "no subject": they do not fit changed parameters."""
        self._no_subject = self._no_subject_encoder = None

    def forward(self, features: VisionFeatures) -> Tensor:
        """Vision tokens [b, n, context_dim] of ``features``: the projector's output."""
        tokens: Tensor = self.projector(features)
        return tokens

    @apply_forward_hook
    def key_values(self, layer: str, tokens: Tensor, gain: Tensor | None = None) -> tuple[Tensor | None, Tensor]:
        """Keys and values of the cross-attention ``layer``, see `VisionKeyValues`.

        The U-Net's processors call it, outside `forward`: the decorator makes model offloading load the adapter here.
        """
        projected: tuple[Tensor | None, Tensor] = self.layers[_module_name(layer)](tokens, gain)
        return projected

    def official_state_dict(self) -> dict[str, Tensor]:
        """All parameters under the names of the authors' release."""
        tensors = {_PROJECTOR + k: v for k, v in self.projector.state_dict().items()}
        for path in self.layer_dims:
            layer = self.layers[_module_name(path)]
            tensors |= {f"{path}.{k}": v for k, v in layer.state_dict().items()}
        return {k: v.detach() if v.is_meta else v.detach().cpu().contiguous() for k, v in tensors.items()}

    def load_official_state_dict(self, tensors: dict[str, Tensor], assign: bool = False) -> None:
        """Fill all parameters.

        Args:
            tensors: under the names of the authors' release.
            assign: use the given tensors as parameters instead of copying their values.

        Raises:
            ArtifactError: a parameter is missing, unknown or of another shape.
        """
        expected = self.official_state_dict()
        wrong = sorted(expected.keys() ^ tensors.keys())
        wrong += [k for k in expected.keys() & tensors.keys() if expected[k].shape != tensors[k].shape]
        if wrong:
            raise ArtifactError(f"the adapter's weights do not fit: {wrong[0]} and {len(wrong) - 1} more")
        self.projector.load_state_dict(
            {k.removeprefix(_PROJECTOR): v for k, v in tensors.items() if k.startswith(_PROJECTOR)}, assign=assign
        )
        for path in self.layer_dims:
            prefix = f"{path}."
            self.layers[_module_name(path)].load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}, assign=assign
            )

    def save_pretrained(
        self,
        save_directory: Path | str,
        is_main_process: bool = True,
        safe_serialization: bool = True,
        variant: str | None = None,
        push_to_hub: bool = False,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the adapter into a directory, in which other files stay; each file appears whole.

        Args:
            is_main_process: only this process writes.
            safe_serialization, variant: part of diffusers' interface, without effect: an adapter is always one
                safetensors file of the same name.
            push_to_hub: also upload it, with ``repo_id`` and the other arguments of `push_to_hub` in ``kwargs``.
            dtype: precision of the weights on disk; that of the parameters by default.
        """
        directory = Path(save_directory)
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", directory.name), **kwargs)
        elif kwargs:
            raise TypeError(f"save_pretrained: unexpected argument {next(iter(kwargs))}")
        if not is_main_process:
            return
        tensors = self.official_state_dict()
        with adding_files(directory, last=_DIGESTS) as staging:
            save_file({k: v.to(dtype or v.dtype) for k, v in tensors.items()}, staging / _WEIGHTS)
            self.save_config(staging)
            self._write_no_subject(staging, dtype)
            digests = {file.name: _sha256(file) for file in sorted(staging.iterdir())}
            (staging / _DIGESTS).write_text(json.dumps(digests, indent=1))

    def add_no_subject(self, directory: Path) -> None:
        """Add the stored tokens of "no subject" to a ``directory`` that holds this adapter."""
        digests = json.loads((directory / _DIGESTS).read_text())
        with adding_files(directory, last=_DIGESTS) as staging:
            self._write_no_subject(staging)
            digests |= {file.name: _sha256(file) for file in staging.iterdir()}
            (staging / _DIGESTS).write_text(json.dumps(digests, indent=1))

    def _write_no_subject(self, directory: Path, dtype: torch.dtype | None = None) -> None:
        if self._no_subject is not None and self._no_subject_encoder is not None:
            tokens = self._no_subject.detach().to("cpu", dtype or self._no_subject.dtype).contiguous()
            save_file({"tokens": tokens}, directory / _NO_SUBJECT, {"encoder": self._no_subject_encoder})

    def _read_no_subject(self, file: Path, device: Any, dtype: torch.dtype) -> None:
        with safe_open(file, framework="pt") as stored:
            self._no_subject = stored.get_tensor("tokens").to(device, dtype)
            self._no_subject_encoder = stored.metadata()["encoder"]

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Path | str,
        subfolder: str | None = None,
        torch_dtype: torch.dtype | None = None,
        dtype: torch.dtype | None = None,
        device_map: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> RealCustomAdapter:
        """Read what `save_pretrained` wrote, checking every file's digest.

        Args:
            pretrained_model_name_or_path: a directory, or a repository of the hub, ``owner/name``.
            subfolder: a folder of it.
            dtype, torch_dtype: precision of the parameters, float32 by default.
            device_map: ``{"": device}`` loads onto that device.
            kwargs: ``revision``, ``token``, ``cache_dir``, ... of the hub.

        Raises:
            ArtifactError: the adapter is missing, incomplete or altered.
        """
        if unknown := kwargs.keys() - _LOADING_OPTIONS - _HUB_OPTIONS - {"use_flashpack", "quantization_config"}:
            raise TypeError(f"from_pretrained: unexpected argument {sorted(unknown)[0]}")
        if kwargs.get("use_flashpack") or kwargs.get("quantization_config"):
            raise ValueError("an adapter has no flashpack files and is not quantized: leave these arguments out")
        hub = {key: value for key, value in kwargs.items() if key in _HUB_OPTIONS}
        directory = _find_directory(pretrained_model_name_or_path, subfolder, hub)
        digests, config = _read_json(directory, _DIGESTS), _read_json(directory, _CONFIG)
        for name, digest in digests.items():
            if _sha256(directory / name) != digest:
                raise ArtifactError(f"{directory / name} does not match its sha256: copy the adapter again")
        with torch.device("meta"):
            adapter: RealCustomAdapter = cls.from_config(_renamed(config))
        precision = dtype or torch_dtype or torch.float32
        device = "cpu" if device_map is None else device_map.get("", "cpu")
        tensors = {k: v.to(device, precision) for k, v in load_file(directory / _WEIGHTS).items()}
        adapter.load_official_state_dict(tensors, assign=True)
        if _NO_SUBJECT in digests:
            adapter._read_no_subject(directory / _NO_SUBJECT, device, precision)
        adapter.register_to_config(_name_or_path=str(pretrained_model_name_or_path))
        return adapter

    @property
    def digest(self) -> str:
        """A short hash of all parameters."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.official_state_dict().items()):
            digest.update(name.encode() + tensor.float().numpy().tobytes())
        return digest.hexdigest()[:16]


def _read_json(directory: Path, name: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((directory / name).read_text())
    except (OSError, json.JSONDecodeError):
        raise ArtifactError(f"{directory} is no adapter: {_DIGESTS} or {_CONFIG} is missing or damaged") from None
    return content


def _renamed(config: dict[str, Any]) -> dict[str, Any]:
    """``config.json`` with the names of today: before 0.2.0 two fields had other ones."""
    names = {"layers": "layer_dims", "adapter": "projector_config"}
    return {names.get(key, key): value for key, value in config.items()}


def _find_directory(name_or_path: Path | str, subfolder: str | None, hub: dict[str, Any]) -> Path:
    """The local directory, downloaded if ``name_or_path`` names a repository of the hub."""
    directory = Path(name_or_path)
    is_repository = isinstance(name_or_path, str) and len(directory.parts) == 2 and not name_or_path.startswith(".")
    if is_repository and not directory.exists():
        folder = f"{subfolder}/" if subfolder else ""
        files = [folder + name for name in (_WEIGHTS, _CONFIG, _DIGESTS, _NO_SUBJECT)]
        try:
            directory = Path(snapshot_download(os.fspath(name_or_path), allow_patterns=files, **hub))
        except (OSError, ValueError) as error:  # the hub's and httpx's errors
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ArtifactError(f"{name_or_path} is neither a directory nor an adapter on the hub: {first}") from None
    return directory / subfolder if subfolder else directory


def _module_name(path: str) -> str:
    return path.replace(".", "/")


def _sha256(file: Path) -> str:
    if not file.exists():
        return "missing"
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
