"""Typed handles of Serve deployments: async methods that raise the original exceptions instead of Ray's wrappers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from components.characters.cast import Cast
from components.characters.character import Character
from components.characters.character_rows import CharacterRows
from components.database import UNAVAILABLE
from components.errors import RealCustomError
from deploy.background import in_database_thread
from deploy.carried_context import carried
from deploy.interfaces.errors import BusyError, ReplicaDiedError, UnavailableError

_RESTARTED = "a part of the service was restarted; try again"


class RemoteHandle:
    """A deployment handle with the methods of its protocol (`deploy.interfaces.protocols`)."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any) -> Any:
            response = getattr(self._handle, method).remote(*arguments, **carried())
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
        response = self._handle.options(stream=True).stream.remote(*arguments, **carried())
        try:
            with _original_errors(ReplicaDiedError):
                async for event in response:
                    yield event
        except BaseException:  # also GeneratorExit, when the consumer stops early
            response.cancel()
            raise


class RemoteAdministration(RemoteHandle):
    """`deploy.interfaces.administration.Administration` over a handle; `export` is a streaming call."""

    async def export(self, owner: str) -> AsyncGenerator[bytes, None]:
        response = self._handle.options(stream=True).export.remote(owner, **carried())
        try:
            with _original_errors():
                async for piece in response:
                    yield piece
        except BaseException:  # also GeneratorExit, when the client disconnects
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
        return await in_database_thread(self._rows.get, identifier, owner)

    async def cast(self, owner: str = "") -> Cast:
        return await in_database_thread(self._rows.cast, owner)

    async def page(self, limit: int, after: str | None, owner: str = "") -> list[Character]:
        return await in_database_thread(self._rows.page, limit, after, owner)


@contextmanager
def _original_errors(died: type[UnavailableError] = UnavailableError) -> Iterator[None]:
    """Raise this project's, the database's and the store's exceptions unwrapped, and Ray's as `UnavailableError`.

    Args:
        died: raised if the replica died.
    """
    try:
        yield
    except BackPressureError:
        raise BusyError("too many requests are waiting; try again later") from None
    except (ActorUnavailableError, DeploymentUnavailableError):
        raise UnavailableError(_RESTARTED) from None
    except RayActorError as error:  # a node that is taken back accuses nobody
        raise (UnavailableError if error.preempted else died)(_RESTARTED) from None
    except OutOfMemoryError:
        raise died("a part of the service ran out of memory and was restarted; try again") from None
    except RayTaskError as error:
        if isinstance(error.cause, (RealCustomError, OSError, *UNAVAILABLE)):
            raise error.cause from None
        raise
