"""The names of LoRAs and controls that a request may give."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from deploy.interfaces.errors import UnsupportedRequestError


def check_loras(names: Iterable[str], loaded: Collection[str]) -> None:
    """Check that the LoRAs ``names`` are among the ``loaded`` ones.

    Raises:
        UnsupportedRequestError: one is not.
    """
    for index, name in enumerate(names):
        if name not in loaded:
            raise _not_loaded(f"loras[{index}].name", loaded, "loras")


def check_control(name: str | None, loaded: Collection[str]) -> None:
    """Check that the control ``name``, if there is one, is among the ``loaded`` ones.

    Raises:
        UnsupportedRequestError: it is not.
    """
    if name is not None and name not in loaded:
        raise _not_loaded("control.name", loaded, "controls")


def _not_loaded(field: str, loaded: Collection[str], setting: str) -> UnsupportedRequestError:
    choice = f"choose from: {', '.join(loaded)}" if loaded else f"this service has none: model.{setting} names them"
    return UnsupportedRequestError(f"{field}: there is none of this name; {choice}", field)
