"""What the engine does to drafts: begin one, and advance several by a step so that each fails alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from components.engine.request import DenoisingState, Pipeline, Request


def begin(pipeline: Pipeline, request: Request) -> DenoisingState:
    """Encode a request and draw its noise; all its chance comes from its own seed."""
    return pipeline.begin(
        request.prompt,
        subjects=list(request.subjects) or None,
        negative_prompt=request.negative_prompt,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        height=request.height,
        width=request.width,
        generator=torch.Generator().manual_seed(request.seed),
        mask_scope=request.mask_scope,
        eta=request.eta,
        scheduler=request.scheduler,
    )


def advance(
    crowd: Callable[[Sequence[Any]], Sequence[Any]], drafts: Sequence[DenoisingState]
) -> list[Exception | None]:
    """Advance ``drafts`` of one size by a step; returns what each failed with.

    If the common U-Net call fails, each draft is tried by itself.
    """
    outcomes = [_attempt(draft.turn) for draft in drafts]
    ready = [index for index, outcome in enumerate(outcomes) if not isinstance(outcome, Exception)]
    turns = [outcomes[index] for index in ready]
    predictions = _attempt(crowd, turns)
    if isinstance(predictions, Exception):
        predictions = [predictions] if len(turns) == 1 else [_attempt(lambda t=turn: crowd([t])[0]) for turn in turns]
    for index, prediction in zip(ready, predictions, strict=True):
        failed = isinstance(prediction, Exception)
        outcomes[index] = prediction if failed else _attempt(drafts[index].take, prediction)
    return [outcome if isinstance(outcome, Exception) else None for outcome in outcomes]


def _attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of ``function``, or the exception it raised."""
    try:
        return function(*arguments)
    except Exception as error:
        return error
