"""`RealCustomPipeline`: Stable Diffusion XL that puts a referenced subject where a word of the prompt is drawn.

    pipeline = RealCustomPipeline.from_config(config)
    tokens = pipeline.encode_subject([cutout])
    output = pipeline("a robot on the beach", subject_tokens=tokens, target_word="robot")

Without a subject it is `StableDiffusionXLPipeline` in its U-Net calls, bit for bit. A step with a subject makes a
text-only pass that finds the influence mask (paper section 3.3; only in the first `guidance.mask_steps` steps), then
one guided pass in which the subject acts inside the mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from components.config import Config, GuidanceConfig
from components.errors import ArtifactError
from components.model.adapter import RealCustomAdapter
from components.model.attention import SubjectContext
from components.model.guidance import MaskGuidance
from components.model.text import encode_prompts, size_conditioning
from components.model.vision import VisionEncoder
from components.model.words import token_mask


@dataclass
class RealCustomOutput(BaseOutput):
    """``images``: PIL pictures (or latents); ``masks``: the last influence masks, None without a subject."""

    images: list[Image.Image] | Tensor
    masks: list[Image.Image] | None


@dataclass(frozen=True)
class Subject:
    """A subject as the denoising loop needs it: vision tokens [2 b, n, d] (unconditional rows first), word [b, t]."""

    tokens: Tensor
    word: Tensor


class RealCustomPipeline(StableDiffusionXLPipeline):
    """SDXL with a RealCustom adapter and the vision encoders it was trained for."""

    vision: VisionEncoder
    adapter: RealCustomAdapter
    guidance_defaults: GuidanceConfig

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
        try:
            pipeline = cls.from_pretrained(config.model.base, dtype=getattr(torch, config.model.dtype))
        except (OSError, ValueError) as error:
            raise ArtifactError(f"model.base cannot be loaded: {str(error).splitlines()[0]}") from None
        path = adapter or config.model.adapter
        if path:
            loaded = RealCustomAdapter.from_pretrained(path)
        else:
            loaded = RealCustomAdapter.for_unet(pipeline.unet, vision.channels, config.adapter, vision.identity)
        pipeline.set_adapter(loaded, vision, config.sampling.guidance)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        device = device if config.model.device == "auto" else config.model.device
        pipeline.to(device, dtype=getattr(torch, config.model.dtype))
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def set_adapter(self, adapter: RealCustomAdapter, vision: VisionEncoder, guidance: GuidanceConfig) -> None:
        """Attach ``adapter``, whose features come from ``vision``.

        Raises:
            ArtifactError: the adapter was made for other encoders.
        """
        if adapter.encoder_identity != vision.identity:
            raise ArtifactError("model.adapter was trained with other vision encoders than model.siglip/model.dinov2")
        adapter.requires_grad_(False).eval()
        adapter.attach(self.unet)
        self.adapter, self.vision, self.guidance_defaults = adapter, vision, guidance

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

    @torch.no_grad()
    def __call__(  # type: ignore[override]
        self,
        prompt: str | list[str],
        subject_tokens: Tensor | None = None,
        target_word: str | list[str] | None = None,
        negative_prompt: str | list[str] = "",
        num_inference_steps: int = 25,
        guidance_scale: float = 3.5,
        height: int | None = None,
        width: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        mask_scope: float | None = None,
        mask: Tensor | None = None,
        strength: float = 1.0,
        output_type: str = "pil",
        callback_on_step_end: Callable[[RealCustomPipeline, int, int, dict[str, Any]], dict[str, Any]] | None = None,
    ) -> RealCustomOutput:
        """Draw one picture a prompt.

        Args:
            prompt: one prompt, or b of them.
            subject_tokens: what `encode_subject` returned, [n, d] for all prompts or [b, n, d]; none is stock SDXL.
            target_word: the word of each prompt that stands for the subject; required with ``subject_tokens``.
            negative_prompt: encoded, never zeroed, even if empty.
            guidance_scale: 1 turns classifier-free guidance off.
            height, width: pixels, multiples of 8 latents' factor; the U-Net's size by default.
            generator: one a prompt, so that a seed means the same picture alone or in a batch.
            mask_scope: share of the picture the subject may act on; the adapter's default otherwise.
            mask: a given influence mask [b, 1, H, W] in place of the found one.
            strength: scales the subject's influence; 0 is stock SDXL.
            output_type: ``pil`` or ``latent``.

        Raises:
            WordError: a prompt does not hold its target word.
            ValueError: arguments that do not fit together.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        negatives = [negative_prompt] * len(prompts) if isinstance(negative_prompt, str) else list(negative_prompt)
        height = height or self.default_sample_size * self.vae_scale_factor
        width = width or self.default_sample_size * self.vae_scale_factor
        device, dtype = self._execution_device, self.unet.dtype
        guided = guidance_scale > 1

        text = encode_prompts(self, prompts)
        if guided:
            text = encode_prompts(self, negatives) + text
        time_ids = size_conditioning((height, width), (0, 0), (height, width), len(text.tokens)).to(device, dtype)
        subject = None
        if subject_tokens is not None and strength > 0:
            subject = self._subject(subject_tokens, target_word, prompts, guided)

        self.scheduler.set_timesteps(num_inference_steps, device=device)
        latents = self.prepare_latents(
            len(prompts), self.unet.config.in_channels, height, width, dtype, device, generator, latents
        )
        extra = self.prepare_extra_step_kwargs(generator, 0.0)
        size = (latents.shape[-2], latents.shape[-1])
        mask_size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        guidance = MaskGuidance(self.guidance_defaults.norm, mask_scope or self.guidance_defaults.scope)
        cache: dict[str, tuple[Tensor, Tensor]] = {}
        self._guidance_scale = guidance_scale

        given_mask = mask is not None
        influence = strength * self.guidance_defaults.quantity
        with self.progress_bar(total=num_inference_steps) as bar:
            for index, timestep in enumerate(self.scheduler.timesteps):
                context = None
                if subject is not None:
                    if not given_mask and (mask is None or index < self.guidance_defaults.mask_steps):
                        maps = self._word_maps(latents, timestep, subject, text, time_ids)
                        mask = guidance(maps, mask_size)
                    assert mask is not None
                    repeated = mask.to(device, dtype).repeat(2 if guided else 1, 1, 1, 1) * influence
                    context = SubjectContext(size, subject.tokens, repeated, layer_cache=cache)
                inputs = torch.cat([latents] * 2) if guided else latents
                predicted = self._predict(inputs, timestep, text.tokens, text.pooled, time_ids, context)
                if guided:
                    unconditional, conditional = predicted.chunk(2)
                    predicted = unconditional + guidance_scale * (conditional - unconditional)
                latents = self.scheduler.step(predicted, timestep, latents, **extra, return_dict=False)[0]
                if callback_on_step_end is not None:
                    changed = callback_on_step_end(self, index, int(timestep), {"latents": latents, "mask": mask})
                    latents = changed.get("latents", latents)
                bar.update()
        self.maybe_free_model_hooks()
        masks = None if subject is None or mask is None else _mask_pictures(mask, (height, width))
        if output_type == "latent":
            return RealCustomOutput(latents, masks)
        return RealCustomOutput(self.decode(latents), masks)

    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Pictures of scaled latents [b, 4, h, w]."""
        pixels = self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor, return_dict=False)[0]
        pictures: list[Image.Image] = self.image_processor.postprocess(pixels, output_type="pil")
        return pictures

    def _subject(self, tokens: Tensor, words: str | list[str] | None, prompts: list[str], guided: bool) -> Subject:
        if words is None:
            raise ValueError("target_word is required with subject_tokens")
        words = [words] * len(prompts) if isinstance(words, str) else list(words)
        if len(words) != len(prompts):
            raise ValueError(f"target_word: {len(words)} words for {len(prompts)} prompts")
        weights = torch.stack([token_mask(self.tokenizer, p, w) for p, w in zip(prompts, words, strict=True)])
        tokens = tokens if tokens.ndim == 3 else tokens.expand(len(prompts), -1, -1)
        if len(tokens) != len(prompts):
            raise ValueError(f"subject_tokens: {len(tokens)} subjects for {len(prompts)} prompts")
        device, dtype = self._execution_device, self.unet.dtype
        tokens = tokens.to(device, dtype)
        if guided:
            tokens = torch.cat([self._absent(tokens.shape[1]).expand_as(tokens), tokens])
        return Subject(tokens, weights.to(device, dtype))

    def _absent(self, count: int) -> Tensor:
        """Tokens [1, count, d] of a black picture, which stand for "no subject" (paper: image-condition dropout)."""
        side = self.reference_size
        black = self.encode_subject([Image.new("RGB", (side, side))])
        return black.repeat(count // len(black), 1)[None]

    def _word_maps(
        self, latents: Tensor, timestep: Tensor, subject: Subject, text: Any, time_ids: Tensor
    ) -> list[Tensor]:
        """The text-only guidance pass: each layer's attention to the target word, [b, h, w]."""
        count = len(latents)
        context = SubjectContext((latents.shape[-2], latents.shape[-1]), word=subject.word)
        self._predict(latents, timestep, text.tokens[-count:], text.pooled[-count:], time_ids[:count], context)
        return context.maps

    def _predict(
        self,
        latents: Tensor,
        timestep: Tensor,
        tokens: Tensor,
        pooled: Tensor,
        time_ids: Tensor,
        context: SubjectContext | None,
    ) -> Tensor:
        predicted: Tensor = self.unet(
            self.scheduler.scale_model_input(latents, timestep),
            timestep,
            encoder_hidden_states=tokens,
            cross_attention_kwargs=None if context is None else {"subject": context},
            added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
            return_dict=False,
        )[0]
        return predicted


def _mask_pictures(mask: Tensor, size: tuple[int, int]) -> list[Image.Image]:
    """[b, 1, H, W] in [0, 1] -> grey pictures of ``size`` (height, width)."""
    values = (mask[:, 0].float().clamp(0, 1) * 255).round().byte().cpu().numpy()
    return [Image.fromarray(v).resize((size[1], size[0]), Image.Resampling.BILINEAR) for v in values]
