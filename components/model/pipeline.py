"""`RealCustomPipeline`: Stable Diffusion XL that puts referenced subjects where words of the prompt are drawn.

    pipeline = RealCustomPipeline.from_config(config)
    robot = Subject(pipeline.encode_subject([cutout]), word="robot")
    output = pipeline("a robot on the beach", subjects=robot)

Without a subject it is `StableDiffusionXLPipeline` in its U-Net calls, bit for bit. `components.model.batched_denoiser`
holds what a step does with subjects.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor, nn

from components.config import Config
from components.errors import ArtifactError
from components.files import replacing
from components.model.adapter import RealCustomAdapter
from components.model.batched_denoiser import BatchedDenoiser
from components.model.denoising_state import DenoisingState
from components.model.face_tokens import face_tokens
from components.model.guidance import MaskGuidance
from components.model.official import official_scheduler
from components.model.preview import shrink
from components.model.prompt_conditioning import PromptConditioning, mask_size
from components.model.shared_weights import share_weights
from components.model.subjects import Subjects, by_prompt, stack_subjects, to_device
from components.model.text import TextFeatures, encode_prompts, size_conditioning
from components.model.vision import VisionEncoder
from components.model.words import token_mask

#: What `save_pretrained` writes beside the parts of SDXL.
_PARTS = "realcustom.json"


@dataclass
class RealCustomOutput(BaseOutput):
    """What was drawn.

    Args:
        images: b PIL pictures, or arrays or tensors, as ``output_type`` says.
        masks: for each picture, the last influence mask of each of its subjects, as grey pictures; None without any.
        mask_history: influence masks of every step [steps, b, s, H, W]; None without any subject.
    """

    images: list[Image.Image] | Any
    masks: list[list[Image.Image]] | None
    mask_history: Tensor | None


class RealCustomPipeline(StableDiffusionXLPipeline):
    """SDXL with a RealCustom adapter and the vision encoders it was trained for."""

    vision: VisionEncoder
    adapter: RealCustomAdapter
    #: Of diffusers.
    scheduler: Any
    #: How influence masks are found where a call does not say.
    guidance: MaskGuidance
    _no_subject: Tensor | None = None
    #: The base model's own, where an adapter brought another.
    _base_scheduler: Any = None

    @classmethod
    def from_config(cls, config: Config, adapter: str | None = None) -> RealCustomPipeline:
        """Load base, encoders and adapter as ``config.model`` names them.

        Args:
            adapter: an adapter directory to use in place of ``config.model.adapter``; with neither, the adapter is
                untrained and changes nothing.

        Raises:
            ArtifactError: a part cannot be loaded, or the adapter was made for other encoders.
        """
        vision = VisionEncoder.from_config(config.model, config.vision)
        dtype = getattr(torch, config.model.dtype)
        try:
            pipeline = cls.from_pretrained(config.model.base, dtype=dtype)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"model.base cannot be loaded: {str(error).splitlines()[0]}") from None
        path = adapter or config.model.adapter
        if path:
            loaded = RealCustomAdapter.from_pretrained(path)
        else:
            loaded = RealCustomAdapter.for_unet(pipeline.unet, vision.channels, config.adapter, vision.identity)
        pipeline.set_adapter(loaded, vision, MaskGuidance.of(config.sampling.guidance))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        device = device if config.model.device == "auto" else config.model.device
        pipeline.to(device, dtype=dtype)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        adapter: str | Path | None = None,
        vision: VisionEncoder | None = None,
        **kwargs: Any,
    ) -> RealCustomPipeline:
        """Load what `save_pretrained` wrote, or any SDXL model with an ``adapter`` directory.

        Args:
            adapter: an adapter directory; without one, a plain SDXL model waits for `set_adapter`.
            vision: the adapter's encoders; by default those of the authors' release.
            kwargs: as diffusers takes them.

        Raises:
            ArtifactError: the adapter is damaged, or was made for other encoders.
        """
        pipeline: RealCustomPipeline = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        saved = Path(pretrained_model_name_or_path)
        if adapter is None and not (saved / _PARTS).exists():
            return pipeline
        guidance = MaskGuidance()
        if adapter is None:
            parts = json.loads((saved / _PARTS).read_text())
            guidance = MaskGuidance(**parts["guidance"] | {"layers": tuple(parts["guidance"]["layers"])})
            vision = vision or VisionEncoder.from_pretrained(saved)
        loaded = RealCustomAdapter.from_pretrained(adapter or saved / "adapter")
        pipeline.set_adapter(loaded, vision or VisionEncoder.of_release(loaded.config), guidance)
        return pipeline.to(pipeline.device, dtype=pipeline.unet.dtype)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write everything into one directory, which stock `StableDiffusionXLPipeline` can read too."""
        with replacing(Path(save_directory)) as staging:
            super().save_pretrained(staging, **kwargs)
            self.vision.save_pretrained(staging)
            self.adapter.save_pretrained(staging / "adapter")
            (staging / _PARTS).write_text(json.dumps({"guidance": asdict(self.guidance)}, indent=1))

    def set_adapter(self, adapter: RealCustomAdapter, vision: VisionEncoder, guidance: MaskGuidance) -> None:
        """Attach ``adapter``, whose features come from ``vision``, and switch on what it was trained with.

        Raises:
            ArtifactError: the adapter was made for other encoders.
        """
        adapter.check_encoder(vision)
        adapter.requires_grad_(False).eval()
        adapter.attach(self.unet)
        self.adapter, self.vision, self.guidance = adapter, vision, guidance
        self._no_subject = None
        if adapter.conditioning.scheduler == "realcustom":
            self._base_scheduler = self._base_scheduler or self.scheduler
            self.scheduler = official_scheduler()

    def with_adapter(self, adapter: RealCustomAdapter) -> RealCustomPipeline:
        """A pipeline for ``adapter`` over the same frozen weights. Both may be used at the same time.

        It costs the memory of the adapter. The masks are guided as they are here.

        Raises:
            ArtifactError: the adapter was made for other encoders.
        """
        own = list(self.adapter.parameters())
        parts = self.components | {"scheduler": self._base_scheduler or self.scheduler}
        copies = {n: share_weights(p, own) if isinstance(p, nn.Module) else copy.deepcopy(p) for n, p in parts.items()}
        other = type(self)(**copies, force_zeros_for_empty_prompt=self.config.force_zeros_for_empty_prompt)
        other.set_adapter(adapter.to(self.device, self.unet.dtype), share_weights(self.vision), self.guidance)
        other.set_progress_bar_config(**getattr(self, "_progress_bar_config", {}))
        return other

    def compile(self) -> None:
        """Compile the U-Net: its next call at every new size or number of rows takes long, and others are quicker."""
        self.unet.compile()

    def to(self, *args: Any, **kwargs: Any) -> RealCustomPipeline:
        super().to(*args, **kwargs)
        for module in (getattr(self, "vision", None), getattr(self, "adapter", None)):
            if module is not None:
                module.to(*args, **kwargs)
        return self

    @property
    def token_identity(self) -> str:
        """Names the encoders and adapter that made a subject's tokens; tokens of another identity are of no use."""
        return f"{self.vision.identity}-{self.adapter.digest}"

    @property
    def reference_size(self) -> int:
        """Side in pixels of the square cut-outs that `encode_subject` works on."""
        return self.vision.reference_size

    @torch.no_grad()
    def encode_subject(self, pictures: list[Image.Image]) -> Tensor:
        """Vision tokens [n, d] of square RGB cut-outs of one subject; several pictures' tokens are joined.

        They depend on no prompt and no timestep: compute them once a character.
        """
        tokens = self.adapter(self.vision.encode_pictures(pictures))
        return tokens.flatten(0, 1)

    def face_group(self, boxes: Sequence[tuple[float, float, float, float] | None]) -> Tensor | None:
        """Which of `encode_subject`'s tokens show the face: bool [n], or None where no reference has a face.

        Args:
            boxes: for each reference its face, x0, y0, x1, y1 in pixels of a `reference_size` square, or None.
        """
        grid = self.vision.grid
        groups = [face_tokens(box, self.reference_size, grid) for box in boxes]
        face = torch.cat([group.repeat(self.adapter.token_sets) for group in groups])
        return face if face.any() else None

    @torch.no_grad()
    def __call__(  # type: ignore[override]
        self,
        prompt: str | list[str],
        subjects: Subjects | None = None,
        negative_prompt: str | list[str] = "",
        num_inference_steps: int = 25,
        guidance_scale: float = 3.5,
        height: int | None = None,
        width: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        mask_scope: float | None = None,
        guidance: MaskGuidance | None = None,
        eta: float = 0.0,
        output_type: Literal["pil", "np", "pt", "latent"] = "pil",
        callback_on_step_end: Callable[[RealCustomPipeline, int, int, dict[str, Any]], dict[str, Any]] | None = None,
    ) -> RealCustomOutput:
        """Draw one picture a prompt.

        Args:
            prompt: one prompt, or b of them.
            subjects: one `Subject` or several for all prompts, or a list of subjects a prompt; none is stock SDXL.
            negative_prompt: encoded, never zeroed, even if empty.
            guidance_scale: 1 turns classifier-free guidance off.
            height, width: pixels, multiples of the autoencoder's factor; the U-Net's size by default.
            generator: one a prompt, so that a seed means the same picture alone or in a batch.
            mask_scope: share of the picture a subject may act on; that of ``guidance`` otherwise.
            guidance: how influence masks are found; the adapter's default otherwise.
            eta: of schedulers that take one.
            output_type: ``pil``, ``np`` [b, h, w, 3], ``pt`` [b, 3, h, w] (both in [0, 1]) or ``latent``.
            callback_on_step_end: called with (pipeline, step, timestep, {"latents", "masks"}); returns replacements.

        Raises:
            WordError: a prompt does not hold a subject's word.
            ValueError: arguments that do not fit together.
        """
        draft = self.begin(
            prompt,
            subjects,
            negative_prompt,
            num_inference_steps,
            guidance_scale,
            height,
            width,
            generator,
            latents,
            mask_scope,
            guidance,
            eta,
            self.scheduler,
        )
        crowd = self.crowd()
        self._guidance_scale, self._interrupt = guidance_scale, False
        with self.progress_bar(total=draft.total) as bar:
            while not draft.done and not self.interrupt:
                step, timestep = draft.step, draft.timestep
                draft.take(crowd([draft.turn()])[0])
                if callback_on_step_end is not None:
                    state = {"latents": draft.latents, "masks": draft.sketch.masks}
                    draft.latents = callback_on_step_end(self, step, int(timestep), state).get("latents", draft.latents)
                bar.update()
        del crowd  # its keys and values need not be there while the autoencoder works
        output = self.finish(draft, output_type)
        self.maybe_free_model_hooks()
        return output

    @torch.no_grad()
    def begin(
        self,
        prompt: str | list[str],
        subjects: Subjects | None = None,
        negative_prompt: str | list[str] = "",
        num_inference_steps: int = 25,
        guidance_scale: float = 3.5,
        height: int | None = None,
        width: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        mask_scope: float | None = None,
        guidance: MaskGuidance | None = None,
        eta: float = 0.0,
        scheduler: Any = None,
    ) -> DenoisingState:
        """Encode what a call is asked for and draw the noise; steps of a `crowd` and `finish` do the rest.

        Args:
            scheduler: stepped by this draft alone; by default a copy of the pipeline's. All else is as in a call.

        Raises:
            WordError: a prompt does not hold a subject's word.
            ValueError: arguments that do not fit together.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        negatives = [negative_prompt] * len(prompts) if isinstance(negative_prompt, str) else list(negative_prompt)
        if len(negatives) != len(prompts):
            raise ValueError(f"negative_prompt: {len(negatives)} for {len(prompts)} prompts")
        if isinstance(generator, list) and len(generator) != len(prompts):
            raise ValueError(f"generator: {len(generator)} for {len(prompts)} prompts")
        height = height or self.default_sample_size * self.vae_scale_factor
        width = width or self.default_sample_size * self.vae_scale_factor
        guidance = guidance or self.guidance
        if mask_scope is not None:
            guidance = replace(guidance, scope=mask_scope)
        sketch = self._sketch(prompts, negatives, subjects, (height, width), guidance_scale, guidance)
        device, dtype = self._execution_device, self.unet.dtype
        scheduler = scheduler or copy.deepcopy(self.scheduler)
        scheduler.set_timesteps(num_inference_steps, device=device)
        shape = (len(prompts), self.unet.config.in_channels, *sketch.size)
        noise = randn_tensor(shape, generator, device, dtype) if latents is None else latents.to(device)
        return DenoisingState(sketch, scheduler, noise * scheduler.init_noise_sigma, generator, eta)

    def crowd(self) -> BatchedDenoiser:
        """What predicts the noise of drafts of one size together, one U-Net call a step."""
        return BatchedDenoiser(self.unet)

    @torch.no_grad()
    def finish(
        self, draft: DenoisingState, output_type: Literal["pil", "np", "pt", "latent"] = "pil"
    ) -> RealCustomOutput:
        """The pictures that a draft has become."""
        images = draft.latents if output_type == "latent" else self.decode(draft.latents, output_type)
        if not draft.history:
            return RealCustomOutput(images, None, None)
        height, width = (side * self.vae_scale_factor for side in draft.sketch.size)
        masks = _mask_pictures(draft.history[-1], draft.sketch.present, (height, width))
        return RealCustomOutput(images, masks, torch.stack(draft.history))

    def _sketch(
        self,
        prompts: list[str],
        negatives: list[str],
        subjects: Subjects | None,
        size: tuple[int, int],
        guidance_scale: float,
        guidance: MaskGuidance,
    ) -> PromptConditioning:
        """What one picture a prompt, of ``size`` (height, width) in pixels, is drawn from."""
        device, dtype = self._execution_device, self.unet.dtype
        text = self._encode_text(prompts)
        if guidance_scale > 1:
            text = self._encode_text(negatives) + text
        time_ids = size_conditioning(size, (0, 0), size, len(text.tokens)).to(device, dtype)
        latent_size = (size[0] // self.vae_scale_factor, size[1] // self.vae_scale_factor)
        rows = by_prompt(subjects, len(prompts))
        slots = [
            to_device(slot, device, dtype)
            for slot in stack_subjects(rows, partial(self._find_words, prompts), mask_size(latent_size))
        ]
        absent = self._absent() if slots and guidance_scale > 1 else None
        return PromptConditioning(text, time_ids, latent_size, guidance_scale, slots, absent, guidance)

    def decode(self, latents: Tensor, output_type: str = "pil") -> Any:
        """Pictures of scaled latents [b, 4, h, w]."""
        pixels = self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor, return_dict=False)[0]
        return self.image_processor.postprocess(pixels, output_type=output_type)

    @torch.no_grad()
    def preview(self, latents: Tensor, side: int = 32) -> Image.Image:
        """A small picture of latents [1, 4, h, w] in the making, decoded from at most ``side`` of them each way."""
        picture: Image.Image = self.decode(shrink(latents, side))[0]
        return picture

    def _encode_text(self, prompts: list[str]) -> TextFeatures:
        adapter = getattr(self, "adapter", None)
        return encode_prompts(self, prompts, adapter.conditioning.text_pooling if adapter else "projected")

    def _find_words(self, prompts: list[str], place: int, word: str) -> Tensor:
        return token_mask([self.tokenizer, self.tokenizer_2], prompts[place], word)

    def _absent(self) -> Tensor:
        """Tokens [m, d] of a black picture, which stand for "no subject" (paper: image-condition dropout)."""
        if self._no_subject is None:  # the same for every picture
            side = self.reference_size
            self._no_subject = self.encode_subject([Image.new("RGB", (side, side))])
        return self._no_subject


def _mask_pictures(masks: Tensor, present: list[int], size: tuple[int, int]) -> list[list[Image.Image]]:
    """[b, s, H, W] in [0, 1] -> grey pictures of ``size`` (height, width), of each picture's own subjects."""
    values = (masks.float().clamp(0, 1) * 255).round().byte().cpu().numpy()
    shape = (size[1], size[0])
    return [
        [Image.fromarray(mask).resize(shape, Image.Resampling.BILINEAR) for mask in row[:count]]
        for row, count in zip(values, present, strict=True)
    ]
