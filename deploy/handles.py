"""Typed handles of Serve deployments: async methods that raise the original exceptions instead of Ray's wrappers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import InterfaceError, OperationalError

from components.characters.character import Character
from components.characters.rows import CharacterRows
from components.errors import RealCustomError
from deploy.interfaces.errors import BusyError, UnavailableError


class RemoteHandle:
    """A deployment handle with the methods of its protocol (`deploy.interfaces.protocols`)."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any) -> Any:
            response = getattr(self._handle, method).remote(*arguments)
            try:
                with _original_errors():
                    return await response
            except (
                asyncio.CancelledError
            ):  # Serve itself forwards a cancellation only if the whole request is cancelled
                response.cancel()
                raise

        return call


class RemoteGenerator(RemoteHandle):
    """`deploy.interfaces.protocols.Generator` over a handle; `stream` is a streaming call."""

    async def stream(self, *arguments: Any) -> AsyncGenerator[Any, None]:
        response = self._handle.options(stream=True).stream.remote(*arguments)
        try:
            with _original_errors():
                async for event in response:
                    yield event
        except BaseException:  # also GeneratorExit, when the consumer stops early
            response.cancel()
            raise


class RemoteCharacters(RemoteHandle):
    """`deploy.interfaces.protocols.Characters` over a handle; methods that only read rows query the database directly.

    Args:
        rows: of the database that the deployment writes to.
    """

    def __init__(self, handle: DeploymentHandle, rows: CharacterRows) -> None:
        super().__init__(handle)
        self._rows = rows

    async def get(self, identifier: str, owner: str = "") -> Character:
        return await asyncio.to_thread(self._rows.get, identifier, owner)

    async def find(self, name: str, owner: str = "") -> list[Character]:
        return await asyncio.to_thread(self._rows.find, name, owner)

    async def page(self, limit: int, after: str | None, owner: str = "") -> list[Character]:
        return await asyncio.to_thread(self._rows.page, limit, after, owner)


@contextmanager
def _original_errors() -> Iterator[None]:
    """Raise this project's and the database's exceptions unwrapped, and Ray's as `UnavailableError`."""
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
