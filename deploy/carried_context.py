"""Carries the log context through Serve calls: a handle sends it, and the deployment works within it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any, TypeVar

from components.logs import LogContext, amend, log_context, within

T = TypeVar("T")
#: Name of the keyword argument in a Serve call.
_CARRIED = "log_context"


def carried() -> dict[str, dict[str, str]]:
    """The keyword argument of a call that carries the present context."""
    return {_CARRIED: dict(vars(log_context()))}


def within_callers_context(deployment: type[T]) -> type[T]:
    """Class decorator of a deployment: its public coroutines and async generators work in their callers' context."""
    for name in dir(deployment):
        method = getattr(deployment, name)
        if name.startswith("_"):
            continue
        if inspect.isasyncgenfunction(method):
            setattr(deployment, name, _generator(method))
        elif inspect.iscoroutinefunction(method):
            setattr(deployment, name, _coroutine(method))
    return deployment


def _coroutine(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(method)
    async def call(self: Any, *arguments: Any, **options: Any) -> Any:
        sent = options.pop(_CARRIED, None)
        if sent is None:
            return await method(self, *arguments, **options)
        with within(LogContext(**sent)):
            return await method(self, *arguments, **options)

    return call


def _generator(method: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., AsyncGenerator[Any, None]]:
    @wraps(method)
    async def generate(self: Any, *arguments: Any, **options: Any) -> AsyncGenerator[Any, None]:
        if sent := options.pop(_CARRIED, None):
            amend(**sent)  # for the rest of the task: a generator may be closed in another context
        async with aclosing(method(self, *arguments, **options)) as items:
            async for item in items:
                yield item

    return generate
