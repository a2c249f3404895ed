"""A deployment as an object with async methods that raise the errors of the code behind them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from components.errors import RealCustomError
from deploy.protocols import UnavailableError


class Remote:
    """Makes a deployment's handle fit its protocol (`deploy.protocols`); errors arrive without Ray's wrapping."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any) -> Any:
            try:
                return await getattr(self._handle, method).remote(*arguments)
            except BackPressureError:
                raise UnavailableError("too many requests are waiting; try again later") from None
            except (RayActorError, DeploymentUnavailableError):
                raise UnavailableError("a part of the service was restarted; try again") from None
            except RayTaskError as error:
                if isinstance(error.cause, RealCustomError):
                    raise error.cause from None
                raise

        return call
