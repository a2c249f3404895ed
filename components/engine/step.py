"""One denoising step of several requests, in which each request fails alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from components.engine.request import Denoiser, DenoisingState, Pipeline, Request
from components.model.generation_request import GenerationRequest


def begin(pipeline: Pipeline, request: Request) -> DenoisingState:
    """Encode a request and sample its noise from a generator of its own seed."""
    return pipeline.begin(
        GenerationRequest(
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
            image=request.image,
            mask_image=request.mask_image,
            strength=request.strength,
            loras=request.loras,
            control=request.control,
            **request.options,
        )
    )


def advance(denoiser: Denoiser, states: Sequence[DenoisingState]) -> list[Exception | None]:
    """Advance ``states`` of one size by a step; returns the exception of each state, or None.

    If the common U-Net call fails, each state is tried in a call of its own.
    """
    outcomes = [_attempt(state.step_input) for state in states]
    ready = [index for index, outcome in enumerate(outcomes) if not isinstance(outcome, Exception)]
    inputs = [outcomes[index] for index in ready]
    predictions = _attempt(denoiser, inputs)
    if isinstance(predictions, Exception):
        alone = len(inputs) == 1
        predictions = [predictions] if alone else [_attempt(lambda i=i: denoiser([i])[0]) for i in inputs]
    for index, prediction in zip(ready, predictions, strict=True):
        failed = isinstance(prediction, Exception)
        outcomes[index] = prediction if failed else _attempt(states[index].advance, prediction)
    return [outcome if isinstance(outcome, Exception) else None for outcome in outcomes]


def _attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of ``function``, or the exception that it raised."""
    try:
        return function(*arguments)
    except Exception as error:
        return error
