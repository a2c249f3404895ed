"""Fields of requests."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from components.client.responses import Character
from components.errors import DataError

#: A picture's file, or its bytes.
PictureLike = str | Path | bytes


#: Left, top, right, bottom in pixels of a picture.
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Control:
    """What guides the composition: the name of a control of the service, and the picture that it follows.

    Args:
        scale: factor of its influence.
        start, end: shares of the steps between which it acts.
    """

    name: str
    image: PictureLike
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0


class Options(TypedDict, total=False):
    """Generation parameters; the service has defaults for all of them."""

    model: str
    n: int
    size: str
    seed: int
    steps: int
    guidance_scale: float
    negative_prompt: str
    sampler: str
    scheduler: str
    prompt_weighting: bool
    clip_skip: int
    guidance_rescale: float
    original_size: tuple[int, int]
    crops_coords_top_left: tuple[int, int]
    target_size: tuple[int, int]
    negative_original_size: tuple[int, int]
    negative_crops_coords_top_left: tuple[int, int]
    negative_target_size: tuple[int, int]
    mask_scope: float
    return_masks: bool
    #: Each with ``name`` and ``weight``.
    loras: list[dict[str, Any]]
    control: Control
    output_format: Literal["png", "jpeg", "webp"]
    output_compression: int


@dataclass(frozen=True)
class Choice:
    """A character of a request, with its word in the prompt and its strengths (1 is normal)."""

    id: str
    target_word: str | None = None
    strength: float = 1.0
    face_strength: float = 1.0
    body_strength: float = 1.0


def json_options(options: Options) -> dict[str, Any]:
    """Generation parameters as JSON.

    Raises:
        DataError: the picture of the control cannot be read.
    """
    fields = dict[str, Any](options)
    if (control := options.get("control")) is not None:
        fields["control"] = control_json(control)
    return fields


def control_json(control: Control) -> dict[str, Any]:
    """A control with its picture as JSON.

    Raises:
        DataError: the picture cannot be read.
    """
    return _settings(control) | {"image": base64.b64encode(_read(control.image)).decode("ascii")}


def form_options(options: Options) -> tuple[dict[str, Any], list[tuple[str, tuple[str, bytes]]]]:
    """Generation parameters as fields and files of a form.

    Raises:
        DataError: the picture of the control cannot be read.
    """
    fields = dict[str, Any](options)
    control: Control | None = fields.pop("control", None)
    if control is None:
        return fields, []
    return fields | {"control": json.dumps(_settings(control))}, files("control_image", control.image)


def _settings(control: Control) -> dict[str, Any]:
    return {"name": control.name, "scale": control.scale, "start": control.start, "end": control.end}


def choices(characters: Sequence[Character | Choice | str]) -> list[dict[str, Any]]:
    """Characters, choices or ids as JSON."""
    return [
        asdict(each) if isinstance(each, Choice) else {"id": each if isinstance(each, str) else each.id}
        for each in characters
    ]


def files(field: str, pictures: PictureLike | Sequence[PictureLike]) -> list[tuple[str, tuple[str, bytes]]]:
    """Pictures as files of a form.

    Raises:
        DataError: a file cannot be read.
    """
    several = [pictures] if isinstance(pictures, str | Path | bytes) else pictures
    return [(field, (f"picture-{index}", _read(picture))) for index, picture in enumerate(several)]


def box_field(boxes: Sequence[Box | None]) -> dict[str, str]:
    """Boxes as a field of a form; nothing without any."""
    return {"boxes": json.dumps(list(boxes))} if boxes else {}


def mask_files(masks: Sequence[PictureLike | None]) -> list[tuple[str, tuple[str, bytes]]]:
    """Masks as files of a form, each under the number of its picture.

    Raises:
        DataError: a file cannot be read.
    """
    return [(f"masks[{i}]", (f"mask-{i}", _read(mask))) for i, mask in enumerate(masks) if mask is not None]


def _read(picture: PictureLike) -> bytes:
    if isinstance(picture, bytes):
        return picture
    try:
        return Path(picture).read_bytes()
    except OSError:
        raise DataError(f"{picture} cannot be read: give the path of a picture") from None


def form_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a form: lists and tuples as JSON, and without those that are None."""
    return {
        name: json.dumps(value) if isinstance(value, list | tuple) else value
        for name, value in fields.items()
        if value is not None
    }
