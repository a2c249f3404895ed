"""A deployment as an object with async methods that raise the errors of the code behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import InterfaceError, OperationalError

from components.errors import RealCustomError
from deploy.interfaces.protocols import BusyError, UnavailableError


class RemoteHandle:
    """A deployment's handle as its protocol (`deploy.interfaces.protocols`); errors arrive without Ray's wrapping."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any) -> Any:
            response = getattr(self._handle, method).remote(*arguments)
            try:
                with _unwrapped():
                    return await response
            except asyncio.CancelledError:  # which Serve itself passes on only where the whole request is cancelled
                response.cancel()
                raise

        return call


class RemoteGenerator(RemoteHandle):
    """The generator's handle as `deploy.interfaces.protocols.Generator`, which streams progress while it draws."""

    async def draw(self, *arguments: Any) -> AsyncGenerator[Any, None]:
        response = self._handle.options(stream=True).draw.remote(*arguments)
        try:
            with _unwrapped():
                async for news in response:
                    yield news
        except BaseException:  # also where nobody listens any more
            response.cancel()
            raise


@contextmanager
def _unwrapped() -> Iterator[None]:
    try:
        yield
    except BackPressureError:
        raise BusyError("too many requests are waiting; try again later") from None
    except (RayActorError, DeploymentUnavailableError):
        raise UnavailableError("a part of the service was restarted; try again") from None
    except RayTaskError as error:
        if isinstance(error.cause, RealCustomError | OperationalError | InterfaceError):
            raise error.cause from None
        raise
