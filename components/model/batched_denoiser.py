"""One U-Net call a step for any number of requests, whatever step, strength or number of subjects each has.

`BatchedDenoiser` concatenates the rows of all requests: all unconditional rows, then all conditional ones. Subjects act
row by row (`components.model.attention.SubjectAttention`), grouped by their number of tokens, so that nothing is padded
and rows without a subject cost nothing. Keys and values are cached row by row: a request that joins adds its rows, one
that leaves removes them, and the others are not computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import rescale_noise_cfg
from torch import Tensor

from components.model.attention import AttentionRecorder, EarlyExit, SubjectContext, level_sizes
from components.model.batch_layout import BatchLayout, padded_keys
from components.model.control import control_residuals
from components.model.kv_cache import CachedRows, KeyValueCache
from components.model.loras import LoraSwitch
from components.model.prompt_conditioning import PromptConditioning, RecordedMaps
from components.model.style_images import added_conditions, stack_styles
from components.model.text import TextFeatures, stack_texts


@dataclass(frozen=True)
class StepInput:
    """The input of one denoising step of one conditioning.

    Args:
        latents: [b, 4, h, w], scaled by the scheduler's `scale_model_input`.
        timestep: of the scheduler, a scalar or [b].
        step: counts from 0.
    """

    conditioning: PromptConditioning
    latents: Tensor
    timestep: Tensor
    step: int


class BatchedDenoiser:
    """Predicts the noise of conditionings of one size together.

    Args:
        unet: with a `RealCustomAdapter` attached, if there are subjects.
        loras: switches the LoRAs of the conditionings on, where the U-Net has any.
    """

    def __init__(self, unet: UNet2DConditionModel, loras: LoraSwitch | None = None) -> None:
        self._unet, self._loras = unet, loras
        self._layout: BatchLayout | None = None
        self._text, self._text_only = KeyValueCache(), KeyValueCache()

    def __call__(self, inputs: Sequence[StepInput]) -> list[Tensor]:
        """Predict the guided noise (or v) [b, 4, h, w] of each input.

        After an exception the same inputs can be given again, together or one by one.

        Raises:
            ValueError: conditionings that differ in size or in the layers that masks are read from.
        """
        if not inputs:
            return []
        layout = self._update_layout([step_input.conditioning for step_input in inputs])
        if self._loras is not None:
            self._loras.activate(inputs[0].conditioning.loras)
        self._update_masks([i for i in inputs if i.conditioning.needs_masks(i.step)])
        recorded = [i.conditioning for i in inputs if i.conditioning.records_maps(i.step)]
        recorder = self._recorder(layout.conditionings, recorded) if recorded else None
        predicted = self._predict(inputs, layout, recorder)
        for step_input in inputs:
            step_input.conditioning.recorded = None
        _distribute(recorder, layout.conditionings, recorded)
        return predicted

    def _update_masks(self, inputs: Sequence[StepInput]) -> None:
        unrecorded = [step_input for step_input in inputs if step_input.conditioning.recorded is None]
        if unrecorded:
            self._record_text_only(unrecorded)
        else:
            self._text_only.clear()
        for step_input in inputs:
            step_input.conditioning.update_masks()

    def _record_text_only(self, inputs: Sequence[StepInput]) -> None:
        """A text-only U-Net call, which records the attention maps of the conditionings' words."""
        conditionings = [step_input.conditioning for step_input in inputs]
        recorder = self._recorder(conditionings, conditionings)
        recorder.exit_early = _can_exit_early(self._unet) and recorder.self_attention_size is None
        text = stack_texts([c.text.rows(slice(-c.batch_size, None)) for c in conditionings])
        text_cache = None
        if any(c.guidance.source == "separate" for c in conditionings):  # the next step makes such a call again
            keys = tuple(key for c in conditionings for key in c.text_keys[-c.batch_size :])
            text_cache = CachedRows(padded_keys(keys, text), self._text_only)
        embeds, styled = stack_styles([(c.style, slice(-c.batch_size, None)) for c in conditionings])
        context = SubjectContext(conditionings[0].size, [], recorder, text_cache, styled)
        time_ids = torch.cat([c.time_ids[-c.batch_size :] for c in conditionings])
        latents = torch.cat([step_input.latents for step_input in inputs])
        with suppress(EarlyExit):
            timesteps = torch.cat([_timesteps(i) for i in inputs])
            control = _control(inputs, latents, timesteps, text, time_ids)
            self._call_unet(latents, timesteps, text, time_ids, _timestep_cond(inputs), context, control, embeds)
        _distribute(recorder, conditionings, conditionings)

    def _update_layout(self, conditionings: list[PromptConditioning]) -> BatchLayout:
        """The layout of the conditionings' rows; the previous one as long as the conditionings are the same."""
        if self._layout is None or self._layout.conditionings != conditionings:
            self._layout = BatchLayout(conditionings, {} if self._layout is None else self._layout.caches)
            if not self._layout.groups:
                self._text.clear()
        return self._layout

    def _recorder(
        self, conditionings: Sequence[PromptConditioning], recorded: Sequence[PromptConditioning]
    ) -> AttentionRecorder:
        """A recorder of the conditional rows of ``conditionings``, in which only those of ``recorded`` have words."""
        guidance = recorded[0].guidance
        for other in recorded[1:]:
            if (other.guidance.layers, other.guidance.self_attention) != (guidance.layers, guidance.self_attention):
                raise ValueError("guidance: images of one batch must read their masks from the same layers")
        width = max(len(conditioning.subjects) for conditioning in recorded)
        example = recorded[0].words
        assert example is not None
        length = max(conditioning.text.tokens.shape[1] for conditioning in conditionings)
        words = [example.new_zeros(c.batch_size, length, width) for c in conditionings]
        for rows, conditioning in zip(words, conditionings, strict=True):
            if conditioning.words is not None and conditioning in recorded:
                rows[:, : conditioning.words.shape[1], : len(conditioning.subjects)] = conditioning.words
        size = recorded[0].mask_size if guidance.self_attention else None
        return AttentionRecorder(torch.cat(words), recorded_layers(self._unet, guidance.layers), size)

    def _predict(
        self, inputs: Sequence[StepInput], layout: BatchLayout, recorder: AttentionRecorder | None
    ) -> list[Tensor]:
        context = None
        if layout.groups:
            sizes = level_sizes(layout.size, len(self._unet.config.block_out_channels))
            text_cache = CachedRows(layout.text_cache_keys, self._text)
            subjects = layout.subject_attentions(sizes)
            context = SubjectContext(layout.size, subjects, recorder, text_cache, layout.styled)
        elif layout.styled is not None and not all(layout.styled):
            context = SubjectContext(layout.size, [], recorder, styled=layout.styled)
        guided = [step_input for step_input in inputs if step_input.conditioning.guided]
        rows = [*guided, *inputs]
        latents = torch.cat([step_input.latents for step_input in rows])
        timesteps = torch.cat([_timesteps(step_input) for step_input in rows])
        text, time_ids = layout.text, layout.time_ids
        control = _control(rows, latents, timesteps, text, time_ids)
        cond, embeds = _timestep_cond(rows), layout.image_embeds
        predicted = self._call_unet(latents, timesteps, text, time_ids, cond, context, control, embeds)
        parts = list(predicted.split([step_input.conditioning.batch_size for step_input in rows]))
        unconditional = dict(zip((id(step_input) for step_input in guided), parts, strict=False))
        return [
            _guide(unconditional.get(id(step_input)), conditional, step_input.conditioning)
            for step_input, conditional in zip(inputs, parts[len(guided) :], strict=True)
        ]

    def _call_unet(
        self,
        latents: Tensor,
        timesteps: Tensor,
        text: TextFeatures,
        time_ids: Tensor,
        timestep_cond: Tensor | None,
        context: SubjectContext | None,
        control: dict[str, Any],
        image_embeds: list[Tensor] | None,
    ) -> Tensor:
        prediction: Tensor = self._unet(
            latents,
            timesteps,
            encoder_hidden_states=text.tokens,
            encoder_attention_mask=text.mask,
            timestep_cond=timestep_cond,
            cross_attention_kwargs=None if context is None else {"subject": context},
            added_cond_kwargs={"text_embeds": text.pooled, "time_ids": time_ids} | added_conditions(image_embeds),
            return_dict=False,
            **control,
        )[0]
        return prediction


def recorded_layers(unet: UNet2DConditionModel, prefixes: tuple[str, ...]) -> frozenset[str]:
    """Cross-attention layers whose path starts with one of ``prefixes``; with none, all of them.

    Raises:
        ValueError: there is no such layer.
    """
    wanted = prefixes or ("",)
    paths = [name.removesuffix(".processor") for name in unet.attn_processors]
    chosen = frozenset(path for path in paths if path.endswith("attn2") and path.startswith(wanted))
    if not chosen:
        raise ValueError(f"guidance.layers: this U-Net has no cross-attention below {', '.join(wanted)}")
    return chosen


def _guide(unconditional: Tensor | None, conditional: Tensor, conditioning: PromptConditioning) -> Tensor:
    """Classifier-free guidance: ``eps_uncond + scale * (eps_cond - eps_uncond)``, rescaled if that is asked for."""
    if unconditional is None:
        return conditional
    guided = unconditional + conditioning.guidance_scale * (conditional - unconditional)
    if conditioning.guidance_rescale > 0:
        guided = rescale_noise_cfg(guided, conditional, conditioning.guidance_rescale)
    return guided


def _timesteps(step_input: StepInput) -> Tensor:
    return step_input.timestep.expand(step_input.conditioning.batch_size).to(step_input.latents.device)


def _control(
    rows: Sequence[StepInput], latents: Tensor, timesteps: Tensor, text: TextFeatures, time_ids: Tensor
) -> dict[str, Any]:
    """The residuals of the rows' controls as arguments of the U-Net."""
    if all(step_input.conditioning.control is None for step_input in rows):
        return {}
    controlled = [(each.conditioning.control, each.step, each.conditioning.batch_size) for each in rows]
    return control_residuals(controlled, latents, timesteps, text, time_ids)


def _timestep_cond(inputs: Sequence[StepInput]) -> Tensor | None:
    """The embedded guidance scales of all rows; None for a U-Net that takes none."""
    first = inputs[0].conditioning.timestep_cond
    if first is None:
        return None
    conditionings = [step_input.conditioning for step_input in inputs]
    return torch.cat([c.timestep_cond.expand(c.batch_size, -1) for c in conditionings if c.timestep_cond is not None])


def _distribute(
    recorder: AttentionRecorder | None,
    conditionings: Sequence[PromptConditioning],
    recorded: Sequence[PromptConditioning],
) -> None:
    """Give each of ``recorded`` its rows of the maps that were recorded for the rows of ``conditionings``."""
    if recorder is None:
        return
    start = 0
    for conditioning in conditionings:
        rows = slice(start, start + conditioning.batch_size)
        start += conditioning.batch_size
        if conditioning in recorded:
            maps = [layer[rows, : len(conditioning.subjects)] for layer in recorder.maps]
            conditioning.recorded = RecordedMaps(maps, [(q[rows], k[rows]) for q, k in recorder.self_attention])


def _can_exit_early(unet: UNet2DConditionModel) -> bool:
    """Whether an exception may end a call: hooks of a compiled or offloaded U-Net run only after a whole call."""
    own = isinstance(unet, UNet2DConditionModel) and "forward" not in vars(unet)
    return own and unet._compiled_call_impl is None
