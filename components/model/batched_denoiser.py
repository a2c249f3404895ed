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

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from components.model.attention import AttentionRecorder, EarlyExit, SubjectContext
from components.model.batch_layout import BatchLayout
from components.model.kv_cache import CachedRows, KeyValueCache
from components.model.prompt_conditioning import PromptConditioning, RecordedMaps
from components.model.text import TextFeatures


@dataclass(frozen=True)
class StepInput:
    """One sketch's part in a call.

    Args:
        latents: [b, 4, h, w], scaled as the sketch's scheduler wants the model's input.
        timestep: of its noise schedule, a scalar or [b].
        step: counts from 0.
    """

    sketch: PromptConditioning
    latents: Tensor
    timestep: Tensor
    step: int


class BatchedDenoiser:
    """Predicts the noise of sketches of one size together.

    Args:
        unet: with a `RealCustomAdapter` attached, if there are subjects.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self._unet = unet
        self._formation: BatchLayout | None = None
        self._text, self._text_only = KeyValueCache(), KeyValueCache()

    def __call__(self, turns: Sequence[StepInput]) -> list[Tensor]:
        """Predict the guided noise (or v) [b, 4, h, w] of each turn.

        Whatever is raised, the same turns can be taken again, together or apart.

        Raises:
            ValueError: sketches that differ in size or in the layers that masks are read from.
        """
        if not turns:
            return []
        formation = self._form([turn.sketch for turn in turns])
        self._find_masks([turn for turn in turns if turn.sketch.finds(turn.step)])
        watched = [turn.sketch for turn in turns if turn.sketch.watches(turn.step)]
        watch = self._watch(formation.sketches, watched) if watched else None
        predicted = self._predict(turns, formation, watch)
        for turn in turns:
            turn.sketch.seen = None
        _hand_out(watch, formation.sketches, watched)
        return predicted

    def _find_masks(self, turns: Sequence[StepInput]) -> None:
        blind = [turn for turn in turns if turn.sketch.seen is None]
        if blind:
            self._look(blind)
        else:
            self._text_only.clear()
        for turn in turns:
            turn.sketch.find_masks()

    def _look(self, turns: Sequence[StepInput]) -> None:
        """A text-only pass, which shows how the sketches' words are attended to."""
        sketches = [turn.sketch for turn in turns]
        watch = self._watch(sketches, sketches)
        watch.stops = _can_stop(self._unet) and watch.self_size is None
        keep = None
        if any(sketch.guidance.source == "separate" for sketch in sketches):  # there will be another such pass
            keep = CachedRows(
                tuple(name for sketch in sketches for name in sketch.names[-sketch.count :]), self._text_only
            )
        context = SubjectContext(sketches[0].size, [], watch, keep)
        text = TextFeatures(
            torch.cat([sketch.text.tokens[-sketch.count :] for sketch in sketches]),
            torch.cat([sketch.text.pooled[-sketch.count :] for sketch in sketches]),
        )
        time_ids = torch.cat([sketch.time_ids[-sketch.count :] for sketch in sketches])
        latents = torch.cat([turn.latents for turn in turns])
        with suppress(EarlyExit):
            self._call(latents, torch.cat([_timesteps(turn) for turn in turns]), text, time_ids, context)
        _hand_out(watch, sketches, sketches)

    def _form(self, sketches: list[PromptConditioning]) -> BatchLayout:
        """The sketches' rows in one call; the last one's again while nobody joins or leaves."""
        if self._formation is None or self._formation.sketches != sketches:
            self._formation = BatchLayout(sketches, {} if self._formation is None else self._formation.kept)
            if not self._formation.groups:
                self._text.clear()
        return self._formation

    def _watch(
        self, sketches: Sequence[PromptConditioning], watched: Sequence[PromptConditioning]
    ) -> AttentionRecorder:
        """A watch on the conditional rows of ``sketches``, in which only those of ``watched`` have words."""
        guidance = watched[0].guidance
        for other in watched[1:]:
            if (other.guidance.layers, other.guidance.self_attention) != (guidance.layers, guidance.self_attention):
                raise ValueError("guidance: pictures drawn together must read their masks from the same layers")
        width = max(len(sketch.slots) for sketch in watched)
        some = watched[0].words
        assert some is not None
        rows = [some.new_zeros(sketch.count, some.shape[1], width) for sketch in sketches]
        for row, sketch in zip(rows, sketches, strict=True):
            if sketch.words is not None and sketch in watched:
                row[..., : len(sketch.slots)] = sketch.words
        size = watched[0].mask_size if guidance.self_attention else None
        return AttentionRecorder(torch.cat(rows), watched_layers(self._unet, guidance.layers), size)

    def _predict(
        self, turns: Sequence[StepInput], formation: BatchLayout, watch: AttentionRecorder | None
    ) -> list[Tensor]:
        context = None
        if formation.groups:
            keep = CachedRows(formation.names, self._text)
            context = SubjectContext(formation.size, formation.influences(), watch, keep)
        guided = [turn for turn in turns if turn.sketch.guided]
        rows = [*guided, *turns]
        latents = torch.cat([turn.latents for turn in rows])
        timesteps = torch.cat([_timesteps(turn) for turn in rows])
        predicted = self._call(latents, timesteps, formation.text, formation.time_ids, context)
        parts = list(predicted.split([turn.sketch.count for turn in rows]))
        unconditional = dict(zip((id(turn) for turn in guided), parts, strict=False))
        return [
            _guide(unconditional.get(id(turn)), conditional, turn.sketch.guidance_scale)
            for turn, conditional in zip(turns, parts[len(guided) :], strict=True)
        ]

    def _call(
        self, latents: Tensor, timesteps: Tensor, text: TextFeatures, time_ids: Tensor, context: SubjectContext | None
    ) -> Tensor:
        prediction: Tensor = self._unet(
            latents,
            timesteps,
            encoder_hidden_states=text.tokens,
            cross_attention_kwargs=None if context is None else {"subject": context},
            added_cond_kwargs={"text_embeds": text.pooled, "time_ids": time_ids},
            return_dict=False,
        )[0]
        return prediction


def watched_layers(unet: UNet2DConditionModel, prefixes: tuple[str, ...]) -> frozenset[str]:
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


def _guide(unconditional: Tensor | None, conditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance."""
    return conditional if unconditional is None else unconditional + scale * (conditional - unconditional)


def _timesteps(turn: StepInput) -> Tensor:
    return turn.timestep.expand(turn.sketch.count).to(turn.latents.device)


def _hand_out(
    watch: AttentionRecorder | None, sketches: Sequence[PromptConditioning], watched: Sequence[PromptConditioning]
) -> None:
    """Give each of ``watched`` its rows of what ``watch`` saw of ``sketches``."""
    if watch is None:
        return
    start = 0
    for sketch in sketches:
        rows = slice(start, start + sketch.count)
        start += sketch.count
        if sketch in watched:
            maps = [seen[rows, : len(sketch.slots)] for seen in watch.maps]
            sketch.seen = RecordedMaps(maps, [(q[rows], k[rows]) for q, k in watch.self_attention])


def _can_stop(unet: UNet2DConditionModel) -> bool:
    """Whether a call may end early: what wraps a compiled or offloaded U-Net counts on its coming to its end."""
    own = isinstance(unet, UNet2DConditionModel) and "forward" not in vars(unet)
    return own and unet._compiled_call_impl is None
