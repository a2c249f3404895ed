"""The SDXL family at full size with random weights, for rehearsals: real shapes, meaningless images.

Weights are written tensor by tensor, each from a seed of its own, so that memory stays that of the largest tensor and
an interrupted run goes on with the part that it had not finished.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import psutil  # type: ignore[import-untyped]
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    PreTrainedModel,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTModel,
)

from components.errors import ArtifactError
from components.files import replacing, replacing_file, write_whole
from components.model.adapter import RealCustomAdapter
from components.model.miniature import MiniatureLayout, build_tokenizer
from components.model.official import SDXL_UNET, meta_adapter, meta_unet
from components.tensor_files import write_tensors

logger = logging.getLogger(__name__)
#: Tokens of a prompt, and rows of the token embeddings of SDXL's text encoders.
_MAX_TOKENS, _VOCABULARY = 77, 49_408
#: SDXL's scheduler, as `scheduler/scheduler_config.json` of the released base gives it.
_SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "use_karras_sigmas": False,
    "interpolation_type": "linear",
}
#: Names the seed and dtype of what lies in a directory.
_ORIGIN = "random.json"
#: Free disk space that is left, and free memory that the largest tensor needs, in bytes.
_SPARE_DISK, _NEEDED_MEMORY = 2 * 2**30, 2 * 2**30


@dataclass(frozen=True)
class Part:
    """A model of the family: its directory below the root, its file of weights, and how it is built."""

    place: str
    weights: str
    build: Callable[[], Any]


def save_random_sdxl(
    root: Path,
    captions: Iterable[str],
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    parts: Callable[[CLIPTokenizer], tuple[Part, ...]] | None = None,
) -> MiniatureLayout:
    """Write SDXL base, SigLIP so400m and DINOv2 large with random weights below ``root``, 9.3 GB in 16 bit.

    Parts that ``root`` already holds are kept.

    Args:
        captions: texts whose words become tokens.
        parts: the models, `sdxl_parts` by default.

    Raises:
        ArtifactError: there is too little disk space or memory, or ``root`` holds parts of another seed or dtype.
    """
    root.mkdir(parents=True, exist_ok=True)
    _check_origin(root / _ORIGIN, {"seed": seed, "dtype": str(dtype).removeprefix("torch.")})
    layout = MiniatureLayout(root)
    tokenizer = build_tokenizer(captions, _MAX_TOKENS)
    missing = [part for part in (parts or sdxl_parts)(tokenizer) if not (root / part.place / part.weights).exists()]
    with torch.device("meta"):
        models = [part.build() for part in missing]
    layouts = [{name: tensor.to(dtype) for name, tensor in model.state_dict().items()} for model in models]
    _check_room(root, sum(map(_bytes, layouts)))
    for part, model, tensors in zip(missing, models, layouts, strict=True):
        logger.info("writing %s, %.1f GB", root / part.place, _bytes(tensors) / 1e9)
        with replacing(root / part.place) as staging:
            _save_config(model, staging)
            write_tensors(staging / part.weights, tensors, partial(_draw, tensors, f"{seed} {part.place}"))
    tokenizer.save_pretrained(layout.siglip)
    if (root / "clip").exists():
        tokenizer.save_pretrained(root / "clip")
        CLIPImageProcessorPil().save_pretrained(root / "clip")
    for name in ("tokenizer", "tokenizer_2"):
        tokenizer.save_pretrained(layout.base / name)
    EulerDiscreteScheduler(**_SCHEDULER).save_pretrained(layout.base / "scheduler")
    _write_index(layout.base)
    return layout


def sdxl_parts(tokenizer: CLIPTokenizer) -> tuple[Part, ...]:
    """The family at full size."""
    in_diffusers, in_transformers = "diffusion_pytorch_model.safetensors", "model.safetensors"
    return (
        Part("base/unet", in_diffusers, partial(UNet2DConditionModel, **SDXL_UNET)),
        Part("base/vae", in_diffusers, _autoencoder),
        Part("base/text_encoder", in_transformers, partial(_clip_vit_l, tokenizer)),
        Part("base/text_encoder_2", in_transformers, partial(_clip_vit_bigg, tokenizer)),
        Part("siglip", in_transformers, partial(_siglip_so400m, tokenizer)),
        Part("dinov2", in_transformers, _dinov2_large),
    )


def judge_parts(tokenizer: CLIPTokenizer) -> tuple[Part, ...]:
    """The encoders of DreamBench's metrics: DINO ViT-S/16 and CLIP ViT-B/32."""
    return (
        Part("dino", "model.safetensors", _dino_small),
        Part("clip", "model.safetensors", partial(_clip_base, tokenizer)),
    )


def save_random_release(file: Path, seed: int = 0, adapter: RealCustomAdapter | None = None) -> None:
    """Write a random adapter under the names of the authors' release, 1.6 GB in float32, tensor by tensor.

    Args:
        adapter: on the device ``meta``; that of SDXL by default.
    """
    layout = (adapter or meta_adapter(meta_unet())).official_state_dict()
    with replacing_file(file) as partial_file:
        write_tensors(partial_file, layout, partial(_draw, layout, f"{seed} release"))


def _autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        sample_size=1024,
        scaling_factor=0.13025,
        force_upcast=True,
    )


def _text_config(tokenizer: CLIPTokenizer, **sizes: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=_VOCABULARY,
        max_position_embeddings=_MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **sizes,
    )


def _clip_vit_l(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    return CLIPTextModel(_text_config(tokenizer, **sizes, projection_dim=768, hidden_act="quick_gelu"))


def _clip_vit_bigg(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    sizes = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
    return CLIPTextModelWithProjection(_text_config(tokenizer, **sizes, projection_dim=1280, hidden_act="gelu"))


def _siglip_so400m(tokenizer: CLIPTokenizer) -> SiglipModel:
    sizes = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
    text = {"vocab_size": 32_000, "max_position_embeddings": 64, "projection_size": 1152}
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return SiglipModel(
        SiglipConfig(text_config=sizes | text | ids, vision_config=sizes | {"image_size": 384, "patch_size": 14})
    )


def _dinov2_large() -> Dinov2WithRegistersModel:
    return Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=518,
            patch_size=14,
            num_register_tokens=4,
        )
    )


def _dino_small() -> ViTModel:
    sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6}
    return ViTModel(ViTConfig(**sizes), add_pooling_layer=False)


def _clip_base(tokenizer: CLIPTokenizer) -> CLIPModel:
    text = _text_config(tokenizer, hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=8)
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config={"patch_size": 32}))


def _draw(layout: dict[str, Tensor], seed: str, name: str) -> Tensor:
    """The tensor ``name``: matrices and kernels as PyTorch initialises them, norms and scales 1, biases 0."""
    like: Tensor = layout[name]
    if like.ndim < 2:
        return (
            torch.zeros(like.shape, dtype=like.dtype) if name.endswith("bias") else torch.ones_like(like, device="cpu")
        )
    number = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big", signed=True)
    limit = 1 / math.sqrt(like[0].numel())
    drawn = torch.empty(like.shape).uniform_(-limit, limit, generator=torch.Generator().manual_seed(number))
    return drawn.to(like.dtype)


def _save_config(model: nn.Module, directory: Path) -> None:
    if isinstance(model, PreTrainedModel):
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(directory)
    else:
        model.save_config(directory)  # type: ignore[operator]


def _write_index(base: Path) -> None:
    """``model_index.json`` of a `StableDiffusionXLPipeline` whose parts lie in ``base``."""
    parts = {
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
        "tokenizer": CLIPTokenizer,
        "tokenizer_2": CLIPTokenizer,
        "unet": UNet2DConditionModel,
        "scheduler": EulerDiscreteScheduler,
    }
    index: dict[str, Any] = {"_class_name": "StableDiffusionXLPipeline", "_diffusers_version": diffusers.__version__}
    index["force_zeros_for_empty_prompt"] = True
    index |= {name: [part.__module__.partition(".")[0], part.__name__] for name, part in parts.items()}
    write_whole(base / "model_index.json", json.dumps(index, indent=2))


def _check_origin(file: Path, origin: dict[str, Any]) -> None:
    if file.exists():
        found = json.loads(file.read_text())
        if found != origin:
            raise ArtifactError(
                f"{file.parent} holds random weights of {found}, not {origin}: choose another directory"
            )
        return
    if any(file.parent.iterdir()):
        raise ArtifactError(f"{file.parent} holds other files: choose an empty directory")
    write_whole(file, json.dumps(origin))


def _check_room(root: Path, needed: int) -> None:
    free, memory = shutil.disk_usage(root).free, psutil.virtual_memory().available
    if needed and free < needed + _SPARE_DISK:
        raise ArtifactError(
            f"random weights take {needed / 1e9:.1f} GB, with {_SPARE_DISK / 1e9:.1f} GB to spare, but the disk of "
            f"{root} has {free / 1e9:.1f} GB left: choose a directory on another one"
        )
    if needed and memory < _NEEDED_MEMORY:
        raise ArtifactError(f"{_NEEDED_MEMORY / 1e9:.1f} GB of memory are needed, {memory / 1e9:.1f} GB are available")


def _bytes(layout: dict[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in layout.values())
