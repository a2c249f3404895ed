"""`RealCustomPipeline`: Stable Diffusion XL with subjects from reference images at words of the prompt.

    pipeline = RealCustomPipeline.from_config(config)
    robot = Subject(pipeline.encode_subject([cutout]), word="robot")
    output = pipeline("a robot on the beach", subjects=robot)

Without a subject its U-Net calls equal those of `StableDiffusionXLPipeline` bit for bit. The steps with subjects are in
`components.model.batched_denoiser`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.schedulers import KarrasDiffusionSchedulers
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from components.config import Config, GuidanceConfig
from components.content import ContentCheck, blacken_refused
from components.errors import ArtifactError
from components.files import adding_files
from components.model.adapter import RealCustomAdapter
from components.model.base_model import load_base
from components.model.batched_denoiser import BatchedDenoiser
from components.model.control import ControlModel, control_shares, load_controls, prepare_control
from components.model.denoising_state import DenoisingState
from components.model.face_tokens import face_tokens
from components.model.generation_request import CallOptions, GenerationRequest
from components.model.loras import LoraSwitch, load_loras, lora_set
from components.model.memory import apply_memory_settings, unscaled_latents, upcast_autoencoder
from components.model.official import official_scheduler
from components.model.preview import shrink
from components.model.prompt_conditioning import PromptConditioning, mask_size
from components.model.prompt_notes import PromptReader
from components.model.redraw import LatentBlend, Pictures, Redraw, first_step, prepare_redraw, start_latents
from components.model.request_text import encode_text, find_words, time_ids
from components.model.schedulers import new_scheduler
from components.model.shared_weights import share_weights
from components.model.style_images import encode_style
from components.model.subjects import Subjects, stack_subjects, subjects_by_prompt, to_device
from components.model.vision import VisionEncoder

#: Written by `save_pretrained` before 0.2.0, with the guidance; the adapter was no registered component then.
_RELEASE_0_1 = "realcustom.json"


@dataclass
class RealCustomOutput(BaseOutput):
    """The generated images.

    Args:
        images: b PIL images, or arrays or tensors, by ``output_type``.
        masks: for each image, the last influence mask of each of its subjects, as greyscale images; None without any
            subject.
        mask_history: influence masks of every step [steps, b, s, H, W]; None without any subject.
        refused: which of the images the content check refuses: they are black; None without a check.
    """

    images: list[Image.Image] | Any
    masks: list[list[Image.Image]] | None
    mask_history: Tensor | None
    refused: list[bool] | None = None


class RealCustomPipeline(StableDiffusionXLPipeline):
    """SDXL with a RealCustom adapter and the vision encoder that the adapter was trained with.

    Args:
        adapter, vision_encoder: components of diffusers like all others; without them it is SDXL until `set_adapter`.
        guidance: how influence masks are computed by default, a `GuidanceConfig` or its fields.
        The other arguments are those of `StableDiffusionXLPipeline`.
    """

    # The adapter follows the vision encoder, whose features it projects. The U-Net's attention processors call it again
    # (`RealCustomAdapter.key_values`), so that it shares the device with the U-Net.
    model_cpu_offload_seq = "vision_encoder->adapter->text_encoder->text_encoder_2->image_encoder->unet->vae"
    _optional_components = [*StableDiffusionXLPipeline._optional_components, "adapter", "vision_encoder"]

    vision_encoder: VisionEncoder
    adapter: RealCustomAdapter
    #: A diffusers scheduler.
    scheduler: Any
    #: Tokens of a black image, the same for every request.
    _no_subject: Tensor | None = None
    #: Checks generated images, as diffusers' ``safety_checker``: those that it refuses are black. It is not saved.
    content_check: ContentCheck | None = None
    #: The base model's scheduler, where an adapter set another one.
    _base_scheduler: Any = None

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        text_encoder_2: CLIPTextModelWithProjection,
        tokenizer: CLIPTokenizer,
        tokenizer_2: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        adapter: RealCustomAdapter | None = None,
        vision_encoder: VisionEncoder | None = None,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        force_zeros_for_empty_prompt: bool = True,
        add_watermarker: bool | None = None,
        guidance: GuidanceConfig | dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            vae=vae,
            text_encoder=text_encoder,
            text_encoder_2=text_encoder_2,
            tokenizer=tokenizer,
            tokenizer_2=tokenizer_2,
            unet=unet,
            scheduler=scheduler,
            image_encoder=image_encoder,
            feature_extractor=feature_extractor,
            force_zeros_for_empty_prompt=force_zeros_for_empty_prompt,
            add_watermarker=add_watermarker,
        )
        self.register_modules(adapter=adapter, vision_encoder=vision_encoder)
        self.guidance = GuidanceConfig.model_validate(guidance or {})
        self._loras = LoraSwitch(self, ())
        self._controls: dict[str, ControlModel] = {}
        if adapter is not None:
            self._attach(adapter, vision_encoder)

    @property
    def guidance(self) -> GuidanceConfig:
        """How influence masks are computed unless a call says otherwise; saved in ``model_index.json``."""
        return GuidanceConfig.model_validate(self.config["guidance"])

    @guidance.setter
    def guidance(self, guidance: GuidanceConfig) -> None:
        self.register_to_config(guidance=guidance.model_dump(mode="json"))

    @classmethod
    def from_config(cls, config: Config, adapter: str | None = None) -> RealCustomPipeline:
        """Load base model, vision encoder and adapter by ``config.model``.

        Args:
            adapter: an adapter directory to use in place of ``config.model.adapter``; with neither, the adapter is
                untrained and changes nothing.

        Raises:
            ArtifactError: a part cannot be loaded, or the adapter was trained with another vision encoder.
        """
        # In the precision that is computed in, files of the same precision stay memory-mapped.
        dtype = getattr(torch, config.model.dtype)
        vision_encoder = VisionEncoder.load(config.model, config.vision, dtype)
        pipeline = load_base(cls, config.model, dtype, quantize=True)
        path = adapter or config.model.adapter
        if path:
            loaded = RealCustomAdapter.from_pretrained(path, dtype=dtype)
        else:
            loaded = RealCustomAdapter.for_unet(
                pipeline.unet, vision_encoder.channels, config.adapter, vision_encoder.identity
            )
        pipeline.set_adapter(loaded, vision_encoder, config.sampling.guidance)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        device = device if config.model.device == "auto" else config.model.device
        for part in (loaded, vision_encoder):  # those of the base have it; a quantised U-Net refuses another one
            part.to(dtype=dtype)
        pipeline.to(device)
        apply_memory_settings(pipeline, config.model)
        pipeline.load_loras(config.model.loras)
        pipeline.load_controls(config.model.controls)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        adapter: str | Path | RealCustomAdapter | None = None,
        vision_encoder: VisionEncoder | None = None,
        **kwargs: Any,
    ) -> RealCustomPipeline:
        """Load what `save_pretrained` wrote, or any SDXL model with an ``adapter``.

        Args:
            adapter: an adapter, its directory or its repository on the hub; by default the saved one, if there is any.
            vision_encoder: the adapter's vision encoder; by default the saved one, or that of the authors' release.
            kwargs: those of diffusers.

        Raises:
            ArtifactError: the adapter is damaged, or was trained with another vision encoder.
        """
        saved = Path(pretrained_model_name_or_path)
        release_0_1 = _was_saved_by_0_1(saved)
        if release_0_1 and adapter is None:
            kwargs.setdefault("guidance", _guidance_of_0_1(saved))
            adapter = saved / "adapter"
            vision_encoder = vision_encoder or VisionEncoder.from_release_0_1(saved)
        given = {} if vision_encoder is None else {"vision_encoder": vision_encoder}
        pipeline: RealCustomPipeline = super().from_pretrained(pretrained_model_name_or_path, **given, **kwargs)
        if adapter is None:
            return pipeline
        loaded = adapter if isinstance(adapter, RealCustomAdapter) else RealCustomAdapter.from_pretrained(adapter)
        encoder = pipeline.vision_encoder or VisionEncoder.of_release(loaded.projector_config)
        pipeline.set_adapter(loaded, encoder)
        if pipeline.hf_device_map is None:
            for part in (loaded, encoder):
                part.to(pipeline.unet.device, dtype=pipeline.unet.dtype)
        return pipeline

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write all components into a directory, which stock `StableDiffusionXLPipeline` can load too.

        Other files in the directory stay. Each file appears whole, ``model_index.json`` after all others.

        Args:
            push_to_hub: also upload them, to the repository ``repo_id`` or that of the directory's name.
            kwargs: those of diffusers.
        """
        directory = Path(save_directory)
        if push_to_hub:
            kwargs.setdefault("repo_id", directory.name)
        with adding_files(directory, last=self.config_name) as staging:
            super().save_pretrained(str(staging), push_to_hub=push_to_hub, **kwargs)
            weights = [file.relative_to(staging) for file in staging.rglob("*.safetensors")]
        for file in weights:
            _remove_shards(directory / file)

    def set_adapter(
        self, adapter: RealCustomAdapter, vision_encoder: VisionEncoder | None, guidance: GuidanceConfig | None = None
    ) -> None:
        """Use ``adapter`` and its vision encoder, with the scheduler and text pooling that it was trained with.

        Without a vision encoder, for subjects whose tokens exist already, the adapter must hold those of "no subject".

        Call it before offloading is enabled, which places hooks on the components that are there.

        Raises:
            ArtifactError: the adapter was trained with another vision encoder, or for another U-Net.
        """
        self._attach(adapter, vision_encoder)
        self.register_modules(adapter=adapter, vision_encoder=vision_encoder)
        if guidance is not None:
            self.guidance = guidance
        self._no_subject = None
        if adapter.conditioning.scheduler == "realcustom":
            self._base_scheduler = self._base_scheduler or self.scheduler
            self.scheduler = official_scheduler()

    def _attach(self, adapter: RealCustomAdapter, vision_encoder: VisionEncoder | None) -> None:
        if vision_encoder is not None:
            adapter.check_encoder(vision_encoder)
        adapter.requires_grad_(False).eval()
        adapter.attach(self.unet)

    def with_adapter(self, adapter: RealCustomAdapter) -> RealCustomPipeline:
        """A pipeline with ``adapter`` and the same frozen weights. Both may be used at the same time.

        It needs the memory of the adapter alone, and has the same guidance.

        Raises:
            ArtifactError: the adapter was trained with another vision encoder.
        """
        frozen = self.components | {"scheduler": self._base_scheduler or self.scheduler}
        vision_encoder = frozen.pop("vision_encoder")
        del frozen["adapter"]
        copies: dict[str, Any] = {
            name: share_weights(part, self.adapter) if isinstance(part, nn.Module) else copy.deepcopy(part)
            for name, part in frozen.items()
        }
        other = type(self)(**copies, force_zeros_for_empty_prompt=self.config.force_zeros_for_empty_prompt)
        other.set_adapter(adapter.to(self.device, self.unet.dtype), share_weights(vision_encoder), self.guidance)
        other.content_check = self.content_check
        other._controls = self._controls
        other._loras = LoraSwitch(other, self.lora_names)
        other.set_progress_bar_config(**getattr(self, "_progress_bar_config", {}))
        return other

    def load_loras(self, paths: Mapping[str, str]) -> None:
        """Load LoRAs that requests may name, by name; none acts by itself. Call it once.

        Raises:
            ArtifactError: one cannot be loaded, or does not fit the base model.
        """
        load_loras(self, paths)
        self._loras = LoraSwitch(self, tuple(paths))

    def load_controls(self, paths: Mapping[str, str]) -> None:
        """Load ControlNets and T2I-Adapters that requests may name, by name, onto the U-Net's device.

        Raises:
            ArtifactError: one cannot be loaded.
        """
        self._controls |= load_controls(paths, self.unet.device, self.unet.dtype)

    def load_ip_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Load IP-Adapters as diffusers does; they act in calls with ``ip_adapter_image``, beside subjects too."""
        super().load_ip_adapter(*args, **kwargs)
        self._attach_again()

    def unload_ip_adapter(self) -> None:
        """Remove the IP-Adapters; the adapter stays."""
        super().unload_ip_adapter()
        self._attach_again()

    def _attach_again(self) -> None:
        """Restore the vision branch in attention processors that diffusers has replaced."""
        if self.adapter is not None:
            self.adapter.attach(self.unet)

    @property
    def lora_names(self) -> tuple[str, ...]:
        """The LoRAs that requests may name."""
        return self._loras.names

    @property
    def control_names(self) -> tuple[str, ...]:
        """The ControlNets and T2I-Adapters that requests may name."""
        return tuple(self._controls)

    @property
    def control_shares(self) -> dict[str, float]:
        """See `components.model.control.control_shares`."""
        return control_shares(self._controls, self.unet)

    def compile(self) -> None:
        """Compile the U-Net: the next call of each new size or number of rows is slow, later ones are faster."""
        self.unet.compile()

    @property
    def token_identity(self) -> str:
        """Identity of vision encoder and adapter; tokens of another identity must not be used."""
        return f"{self.vision_encoder.identity}-{self.adapter.digest}"

    @property
    def reference_size(self) -> int:
        """Side in pixels of the square cut-outs for `encode_subject`."""
        return self.vision_encoder.reference_size

    @torch.no_grad()
    def encode_subject(self, images: list[Image.Image]) -> Tensor:
        """Vision tokens [n, d] of RGB cut-outs of one subject (on white), those of all images concatenated.

        They depend on no prompt and no timestep: compute them once for each character.
        """
        tokens = self.adapter(self.vision_encoder.encode_images(images, self._execution_device))
        return tokens.flatten(0, 1)

    def face_group(self, boxes: Sequence[tuple[float, float, float, float] | None]) -> Tensor | None:
        """Which of `encode_subject`'s tokens show the face: bool [n], or None where no reference has a face.

        Args:
            boxes: the face of each reference, x0, y0, x1, y1 in pixels of a `reference_size` square, or None.
        """
        grid = self.vision_encoder.grid
        groups = [face_tokens(box, self.reference_size, grid) for box in boxes]
        face = torch.cat([group.repeat(self.adapter.token_sets) for group in groups])
        return face if face.any() else None

    @torch.no_grad()
    def __call__(  # type: ignore[override]
        self,
        prompt: str | list[str] | None = None,
        subjects: Subjects | None = None,
        negative_prompt: str | list[str] = "",
        num_inference_steps: int = 25,
        guidance_scale: float = 3.5,
        height: int | None = None,
        width: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        mask_scope: float | None = None,
        guidance: GuidanceConfig | None = None,
        eta: float = 0.0,
        sampler: str | None = None,
        image: Pictures | None = None,
        mask_image: Pictures | None = None,
        strength: float = 0.8,
        output_type: Literal["pil", "np", "pt", "latent"] = "pil",
        callback_on_step_end: Callable[[RealCustomPipeline, int, int, dict[str, Any]], dict[str, Any]] | None = None,
        **options: Unpack[CallOptions],
    ) -> RealCustomOutput:
        """Generate one image a prompt, or `num_images_per_prompt`.

        Args:
            sampler: a name in `components.model.schedulers`, in place of the pipeline's scheduler.
            output_type: ``pil``, ``np`` [b, h, w, 3], ``pt`` [b, 3, h, w] (both in [0, 1]) or ``latent``.
            callback_on_step_end: called with (pipeline, step, timestep, {"latents", "masks"}); returns replacements.
            The other arguments are the fields of `GenerationRequest`.

        Raises:
            WordError: a prompt does not hold a subject's word.
            ConfigError: ``sampler`` is unknown, or does not fit the noise schedule.
            ValueError: arguments that do not fit together.
        """
        request = GenerationRequest(
            prompt=prompt,
            subjects=subjects,
            negative_prompt=negative_prompt,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            height=height,
            width=width,
            generator=generator,
            latents=latents,
            mask_scope=mask_scope,
            guidance=guidance,
            eta=eta,
            scheduler=self.scheduler if sampler is None else new_scheduler(sampler, self.scheduler),
            image=image,
            mask_image=mask_image,
            strength=strength,
            **options,
        )
        state, denoiser = self.begin(request), self.denoiser()
        self._guidance_scale, self._interrupt = guidance_scale, False
        with self.progress_bar(total=state.total) as bar:
            while not state.done and not self.interrupt:
                step, timestep = state.step, state.timestep
                state.advance(denoiser([state.step_input()])[0])
                if callback_on_step_end is not None:
                    tensors = {"latents": state.latents, "masks": state.conditioning.masks}
                    changed = callback_on_step_end(self, step, int(timestep), tensors)
                    state.latents = changed.get("latents", state.latents)
                bar.update()
        del denoiser  # frees its keys and values before the autoencoder runs
        output = self.finish(state, output_type)
        self.maybe_free_model_hooks()
        return output

    @torch.no_grad()
    def prompt_reader(self) -> PromptReader:
        """Tells users how their prompts are read."""
        return PromptReader(self)

    def begin(self, request: GenerationRequest) -> DenoisingState:
        """Encode a request and sample its noise; the steps of a `denoiser` and `finish` do the rest.

        Raises:
            WordError: a prompt does not hold a subject's word.
            ValueError: arguments that do not fit together.
        """
        size, count, loras = self._size(request), request.count, lora_set(request.loras)
        self._loras.check(loras)
        self._loras.activate(loras)
        device, dtype = self._execution_device, self.unet.dtype
        redraw = None
        if request.image is not None:
            redraw = prepare_redraw(self, request.image, request.mask_image, size, count, request.generator)
        conditioning = self._encode(request, size, redraw)
        conditioning.loras = loras
        if request.control is not None:
            like = conditioning.text.tokens
            made = request.num_inference_steps
            conditioning.control = prepare_control(request.control, self._controls, size, count, made, like)
        scheduler = request.scheduler or copy.deepcopy(self.scheduler)
        scheduler.set_timesteps(request.num_inference_steps, device=device)
        if request.latents is None:
            shape = (count, self.unet.config.in_channels, *conditioning.size)
            noise = randn_tensor(shape, request.generator, device, dtype)
        else:
            noise = request.latents.to(device)
        if redraw is None:
            latents = noise * scheduler.init_noise_sigma
            return DenoisingState(conditioning, scheduler, latents, request.generator, request.eta)
        first = first_step(request.num_inference_steps, request.strength) * scheduler.order
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        latents = start_latents(redraw, noise, scheduler, first, request.strength)
        blend = None if redraw.mask is None else LatentBlend(redraw, noise)
        return DenoisingState(conditioning, scheduler, latents, request.generator, request.eta, first, redraw, blend)

    def denoiser(self) -> BatchedDenoiser:
        """Predicts the noise of several states of one size together, one U-Net call a step."""
        return BatchedDenoiser(self.unet, self._loras if self._loras.names else None)

    @torch.no_grad()
    def finish(
        self, state: DenoisingState, output_type: Literal["pil", "np", "pt", "latent"] = "pil"
    ) -> RealCustomOutput:
        """Decode the images of a state whose steps are done."""
        images = state.latents if output_type == "latent" else self.decode(state.latents, output_type, state.redraw)
        refused = None
        if self.content_check is not None and output_type != "latent":
            images, refused = blacken_refused(images, self.content_check)
        if not state.mask_history:
            return RealCustomOutput(images, None, None, refused)
        height, width = (side * self.vae_scale_factor for side in state.conditioning.size)
        masks = _mask_images(state.mask_history[-1], state.conditioning.subject_counts, (height, width))
        return RealCustomOutput(images, masks, torch.stack(state.mask_history), refused)

    def _size(self, request: GenerationRequest) -> tuple[int, int]:
        """(height, width) in pixels."""
        height = width = self.default_sample_size * self.vae_scale_factor
        if request.image is not None:
            one = request.image if isinstance(request.image, Image.Image | Tensor) else request.image[0]
            height, width = self.image_processor.get_default_height_width(one)
        return request.height or height, request.width or width

    def _encode(
        self, request: GenerationRequest, size: tuple[int, int], redraw: Redraw | None = None
    ) -> PromptConditioning:
        """The conditioning of a request for images of ``size`` (height, width) in pixels."""
        device, dtype = self._execution_device, self.unet.dtype
        timestep_cond = self._timestep_cond(request.guidance_scale)
        guided = request.guidance_scale > 1 and timestep_cond is None
        pooling = self.adapter.conditioning.text_pooling if self.adapter is not None else "projected"
        text = encode_text(self, request, guided, pooling)
        latent_size = (size[0] // self.vae_scale_factor, size[1] // self.vae_scale_factor)
        by_prompt = subjects_by_prompt(request.subjects, len(request.prompts))
        rows = [row for row in by_prompt for _ in range(request.num_images_per_prompt)]
        subjects = [
            to_device(batch, device, dtype)
            for batch in stack_subjects(rows, partial(find_words, self, request), mask_size(latent_size))
        ]
        no_subject = self.no_subject_tokens() if subjects and guided else None
        guidance, scale = request.guidance_or(self.guidance), request.guidance_scale
        region = None if redraw is None or redraw.mask is None else redraw.region(mask_size(latent_size))
        settings = (scale, subjects, no_subject, guidance, region, timestep_cond, request.guidance_rescale)
        sizes = time_ids(request, size, guided).to(device, dtype)
        conditioning = PromptConditioning(text, sizes, latent_size, *settings)
        conditioning.style = encode_style(self, request, guided)
        return conditioning

    def _timestep_cond(self, guidance_scale: float) -> Tensor | None:
        """The embedding [1, d] of the guidance scale, for a U-Net that was distilled to take it as an input."""
        width = self.unet.config.time_cond_proj_dim
        if width is None:
            return None
        embedded = self.get_guidance_scale_embedding(torch.tensor([guidance_scale - 1.0]), embedding_dim=width)
        return embedded.to(self._execution_device, self.unet.dtype)

    def decode(self, latents: Tensor, output_type: str = "pil", redraw: Redraw | None = None) -> Any:
        """Images of scaled latents [b, 4, h, w]; those of ``redraw`` keep its pixels outside its mask."""
        upcast_autoencoder(self.vae)
        pixels = self.vae.decode(unscaled_latents(self.vae, latents), return_dict=False)[0]
        if redraw is not None:
            pixels = redraw.compose(pixels)
        return self.image_processor.postprocess(pixels, output_type=output_type)

    @torch.no_grad()
    def preview(self, latents: Tensor, side: int = 32) -> Image.Image:
        """A small image of latents [1, 4, h, w] at any step, decoded from at most ``side`` latents each way."""
        image: Image.Image = self.decode(shrink(latents, side))[0]
        return image

    def no_subject_tokens(self) -> Tensor:
        """Tokens [m, d] of a black image, which stand for "no subject" (image condition dropout of the paper).

        An adapter that was trained or registered brings them along; otherwise they are encoded on the first call.
        """
        if self._no_subject is None:
            encoder = None if self.vision_encoder is None else self.vision_encoder.identity
            self._no_subject = self.adapter.no_subject_tokens(encoder)
        if self._no_subject is None:
            side = self.reference_size
            self._no_subject = self.encode_subject([Image.new("RGB", (side, side))])
        return self._no_subject.to(self._execution_device, self.unet.dtype)


def _mask_images(masks: Tensor, counts: list[int], size: tuple[int, int]) -> list[list[Image.Image]]:
    """Greyscale images of ``size`` (height, width) from masks [b, s, H, W] in [0, 1], ``counts`` of each image."""
    values = (masks.float().clamp(0, 1) * 255).round().byte().cpu().numpy()
    shape = (size[1], size[0])
    return [
        [Image.fromarray(mask).resize(shape, Image.Resampling.BILINEAR) for mask in row[:count]]
        for row, count in zip(values, counts, strict=True)
    ]


def _was_saved_by_0_1(directory: Path) -> bool:
    """Whether a release before 0.2.0 saved this pipeline, and no later one."""
    if not (directory / _RELEASE_0_1).is_file():
        return False
    index = json.loads((directory / StableDiffusionXLPipeline.config_name).read_text())
    return "adapter" not in index


def _guidance_of_0_1(directory: Path) -> GuidanceConfig:
    """The guidance in ``realcustom.json``, which also had modes for comparisons with the authors' code."""
    fields = json.loads((directory / _RELEASE_0_1).read_text())["guidance"]
    if fields.pop("threshold", False) or fields["norm"] == "none":
        raise ArtifactError(
            f"{directory / _RELEASE_0_1}: guidance by threshold or without norm is not supported any more"
        )
    return GuidanceConfig(**fields)


def _remove_shards(weights: Path) -> None:
    """Remove the shards that an earlier save wrote in place of the file ``weights``, and their index."""
    index = weights.with_name(f"{weights.name}.index.json")
    if not index.is_file():
        return
    shards = set(json.loads(index.read_text())["weight_map"].values())
    index.unlink()  # diffusers would load the shards that it lists
    for shard in shards:
        (weights.parent / shard).unlink(missing_ok=True)
