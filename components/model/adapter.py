"""The RealCustom adapter: projector and vision keys/values, attached to a stock U-Net and saved by themselves.

On disk: ``config.json``, ``adapter.safetensors`` with the authors' parameter names, ``sha256.json``.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components.config import AdapterConfig, ConditioningConfig
from components.errors import ArtifactError
from components.files import replacing
from components.model.attention import SelfAttnProcessor, SubjectAttnProcessor, VisionAttention
from components.model.projector import build_projector
from components.model.vision import VisionEncoder, VisionFeatures

_PROJECTOR = "encoder_hidden_states_vision_projection."
_WEIGHTS, _CONFIG, _DIGESTS = "adapter.safetensors", "config.json", "sha256.json"


class RealCustomAdapter(nn.Module):
    """Everything that is trained.

    Args:
        layers: cross-attention path -> (context_dim, inner_dim).
        vision_channels: channels of the vision features.
        config: the projector's sizes.
        encoder_identity: of the vision encoder it was made for; None, for converted weights, where nobody knows.
        conditioning: what else it was trained with.
    """

    def __init__(
        self,
        layers: dict[str, tuple[int, int]],
        vision_channels: int,
        config: AdapterConfig,
        encoder_identity: str | None,
        conditioning: ConditioningConfig = ConditioningConfig(),
    ) -> None:
        super().__init__()
        self.shapes, self.vision_channels, self.config = layers, vision_channels, config
        self.encoder_identity, self.conditioning = encoder_identity, conditioning
        context_dim = next(iter(layers.values()))[0]
        self.projector = build_projector(vision_channels, context_dim, config)
        self.layers = nn.ModuleDict({_module_name(n): VisionAttention(*shape) for n, shape in layers.items()})

    @classmethod
    def for_unet(
        cls,
        unet: UNet2DConditionModel,
        vision_channels: int,
        config: AdapterConfig,
        encoder_identity: str | None,
        conditioning: ConditioningConfig = ConditioningConfig(),
    ) -> RealCustomAdapter:
        """A new adapter that fits ``unet`` and, until it is trained, changes nothing."""
        shapes = {}
        for name in unet.attn_processors:
            if name.endswith("attn2.processor"):
                attention = unet.get_submodule(name.removesuffix(".processor"))
                shapes[name.removesuffix(".processor")] = (attention.to_k.in_features, attention.to_k.out_features)
        return cls(shapes, vision_channels, config, encoder_identity, conditioning)

    def attach(self, unet: UNet2DConditionModel) -> None:
        """Give ``unet`` the vision branch; ``unet.set_attn_processor(AttnProcessor2_0())`` takes it away again."""
        processors: dict[str, object] = {}
        for name in unet.attn_processors:
            path = name.removesuffix(".processor")
            if path in self.shapes:
                layer = self.layers[_module_name(path)]
                assert isinstance(layer, VisionAttention)
                processors[name] = SubjectAttnProcessor(path, layer)
            else:
                processors[name] = SelfAttnProcessor()
        missing = self.shapes.keys() - {n.removesuffix(".processor") for n in processors}
        if missing:
            raise ArtifactError(f"the adapter does not fit this U-Net: it has no {sorted(missing)[0]}")
        unet.set_attn_processor(processors)

    @property
    def token_sets(self) -> int:
        """How many vision tokens a patch of the reference becomes."""
        return 2 if self.config.projector == "shallow" else 1

    def check_encoder(self, vision: VisionEncoder) -> None:
        """Refuse features that the adapter was not made for.

        Raises:
            ArtifactError: ``vision`` is another encoder, or (where the encoder is not known) is of another width.
        """
        if self.encoder_identity not in (None, vision.identity):
            raise ArtifactError("model.adapter was trained with other vision encoders than model.siglip/model.dinov2")
        if self.vision_channels != vision.channels:
            raise ArtifactError(
                f"model.adapter reads {self.vision_channels} vision channels, "
                f"model.siglip and model.dinov2 give {vision.channels}"
            )

    def forward(self, features: VisionFeatures) -> Tensor:
        """Vision tokens [b, n, context_dim] of ``features``."""
        tokens: Tensor = self.projector(features)
        return tokens

    def official_state_dict(self) -> dict[str, Tensor]:
        """All parameters under the names of the authors' release."""
        tensors = {_PROJECTOR + k: v for k, v in self.projector.state_dict().items()}
        for path in self.shapes:
            layer = self.layers[_module_name(path)]
            tensors |= {f"{path}.{k}": v for k, v in layer.state_dict().items()}
        return {k: v.detach() if v.is_meta else v.detach().cpu().contiguous() for k, v in tensors.items()}

    def load_official_state_dict(self, tensors: dict[str, Tensor], assign: bool = False) -> None:
        """Fill all parameters.

        Args:
            tensors: under the names of the authors' release.
            assign: take the tensors themselves rather than copy their values.

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
        for path in self.shapes:
            prefix = f"{path}."
            self.layers[_module_name(path)].load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}, assign=assign
            )

    def save_pretrained(self, directory: Path | str, dtype: torch.dtype | None = None) -> None:
        """Write the adapter; a reader never sees it half-written."""
        tensors = self.official_state_dict()
        config = {
            "layers": self.shapes,
            "vision_channels": self.vision_channels,
            "adapter": self.config.model_dump(),
            "encoder_identity": self.encoder_identity,
            "conditioning": self.conditioning.model_dump(),
        }
        with replacing(Path(directory)) as staging:
            save_file({k: v.to(dtype or v.dtype) for k, v in tensors.items()}, staging / _WEIGHTS)
            (staging / _CONFIG).write_text(json.dumps(config, indent=1))
            digests = {name: _sha256(staging / name) for name in (_WEIGHTS, _CONFIG)}
            (staging / _DIGESTS).write_text(json.dumps(digests, indent=1))

    @classmethod
    def from_pretrained(cls, directory: Path | str) -> RealCustomAdapter:
        """Read what `save_pretrained` wrote, checking every file's digest.

        Raises:
            ArtifactError: the directory is missing, incomplete or altered.
        """
        directory = Path(directory)
        try:
            digests = json.loads((directory / _DIGESTS).read_text())
            config = json.loads((directory / _CONFIG).read_text())
        except (OSError, json.JSONDecodeError):
            raise ArtifactError(f"{directory} is no adapter: {_DIGESTS} or {_CONFIG} is missing or damaged") from None
        for name, digest in digests.items():
            if _sha256(directory / name) != digest:
                raise ArtifactError(f"{directory / name} does not match its sha256: copy the adapter again")
        adapter = cls(
            {k: (v[0], v[1]) for k, v in config["layers"].items()},
            config["vision_channels"],
            AdapterConfig(**config["adapter"]),
            config["encoder_identity"],
            ConditioningConfig(**config.get("conditioning", {})),
        )
        adapter.load_official_state_dict({k: v.float() for k, v in load_file(directory / _WEIGHTS).items()})
        return adapter

    @property
    def digest(self) -> str:
        """A short hash of all parameters."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.official_state_dict().items()):
            digest.update(name.encode() + tensor.float().numpy().tobytes())
        return digest.hexdigest()[:16]


def _module_name(path: str) -> str:
    return path.replace(".", "/")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else "missing"
