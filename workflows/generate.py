"""Generate one image with the registered model, with or without a subject."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageChops

from components.client import Control as ControlOption
from components.config import Config
from components.content import ContentError, output_check
from components.cut_outs import cut_out
from components.data.decode import decode_mask, decode_picture, decode_with_alpha
from components.data.region import find_mask
from components.data.schema import Box
from components.errors import ConfigError, DataError, WordError
from components.files import replacing_file
from components.model.control import Control
from components.model.naming import WordNamer
from components.model.schedulers import NAMES, check_steps
from components.model.subjects import Subject
from components.model.words import require_word
from components.registry import versions


def run(
    config: Config,
    prompt: str,
    reference: Path | None = None,
    word: str | None = None,
    output: Path = Path("picture.png"),
    seed: int = 0,
    box: Box | None = None,
    mask: Path | None = None,
    image: Path | None = None,
    image_mask: Path | None = None,
    strength: float = 0.8,
    sampler: str | None = None,
    steps: int | None = None,
    guidance_scale: float | None = None,
    loras: Mapping[str, float] = {},
    control: ControlOption | None = None,
) -> None:
    """Generate ``prompt`` into ``output``, with the subject of ``reference`` in the place of ``word``.

    The subject is where ``mask``, a picture of the reference's size, is white, or else in ``box``.

    An ``image`` is redrawn where ``image_mask``, a picture of its size, is transparent; ``strength`` is the share of
    the steps that are made. By default one is generated from noise.

    Without ``word`` it is detected by the reference, or generated and inserted into the prompt (one-step mode); it is
    printed.

    ``sampler`` is a name in `components.model.schedulers`; it, ``steps`` and ``guidance_scale`` take the place of the
    model's and the configuration's.

    ``loras`` are weights by the names of ``model.loras``; ``control`` names one of ``model.controls`` and a picture.

    Raises:
        ConfigError: ``sampler`` is unknown, does not fit the model, or has fewer than ``steps`` steps; or a LoRA or
            control is not configured.
        WordError: ``word`` is not in the prompt, or there is no reference.
        DataError: the reference cannot be read.
        RegistryError: the registry has no such version.
    """
    sampling = {"num_inference_steps": steps, "guidance_scale": guidance_scale}
    arguments = config.sampling.arguments | {name: value for name, value in sampling.items() if value is not None}
    if sampler not in (None, *NAMES):
        raise ConfigError(f"sampler: choose one of {', '.join(NAMES)}")
    check_steps(sampler, arguments["num_inference_steps"])
    if reference is None and word is not None:
        raise WordError("word needs a reference: give an image of the subject that it names")
    if word is not None:
        require_word(prompt, word)
    _check_names("loras", loras, config.model.loras)
    _check_names("controls", () if control is None else [control.name], config.model.controls)
    acting = None if control is None else _read_control(control, config)
    redraw = {} if image is None else _read_redraw(image, image_mask, strength, config)
    subject_on_white = None if reference is None else _read(reference, box, mask, config)
    pipeline = versions.load_pipeline(config, f"models:/{config.registry.model}@{config.registry.alias}")
    pipeline.content_check = output_check(config.serving.content)
    subject = None
    if subject_on_white is not None:
        cutout = cut_out(*subject_on_white, pipeline.reference_size)
        if word is None:
            naming = WordNamer.from_config(config.model, config.naming).name(prompt, [cutout])
            prompt, word = naming.prompt, naming.word
            print(f"word {naming} of {prompt!r}")
        subject = Subject(pipeline.encode_subject([cutout]), word)
    result = pipeline(
        prompt,
        subjects=subject,
        **arguments | redraw,
        sampler=sampler,
        loras=loras,
        control=acting,
        generator=torch.Generator().manual_seed(seed),
    )
    if result.refused is not None and any(result.refused):
        raise ContentError("serving.content refuses the generated image; change the prompt or the seed")
    with replacing_file(output) as partial:
        result.images[0].save(partial, format="PNG")
    print(f"wrote {output}")


def _check_names(section: str, names: Collection[str], configured: Collection[str]) -> None:
    unknown = next((name for name in names if name not in configured), None)
    if unknown is not None:
        known = ", ".join(configured) or f"none; add it with --set model.{section}.{unknown}=PATH"
        raise ConfigError(f"model.{section} does not name {unknown!r}; it names {known}")


def _read_control(control: ControlOption, config: Config) -> Control:
    assert isinstance(control.image, Path)
    try:
        picture = decode_picture(control.image.read_bytes(), config.data.max_pixels)
    except OSError:
        raise DataError(f"control {control.image} cannot be read: give the path of an image") from None
    except DataError as error:
        raise DataError(f"control {control.image}: {error}") from None
    return Control(control.name, picture, control.scale, control.start, control.end)


def _read_redraw(image: Path, mask: Path | None, strength: float, config: Config) -> dict[str, Any]:
    """The pipeline's arguments that redraw ``image``."""
    try:
        picture = decode_picture(image.read_bytes(), config.data.max_pixels)
        alpha = None if mask is None else decode_with_alpha(mask.read_bytes(), config.data.max_pixels).mask
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: give the path of an image") from None
    except DataError as error:
        raise DataError(f"image {image} or its mask: {error}") from None
    if picture.width % 8 or picture.height % 8:
        raise DataError(f"image {image}: {picture.width}x{picture.height} pixels; both sides must be multiples of 8")
    if mask is not None and (alpha is None or alpha.size != picture.size):
        raise DataError(
            f"image_mask {mask}: give an image of {picture.width}x{picture.height} pixels, part transparent"
        )
    redraw = {"image": picture, "strength": strength, "height": picture.height, "width": picture.width}
    return redraw | ({} if alpha is None else {"mask_image": ImageChops.invert(alpha)})


def _read(reference: Path, box: Box | None, mask: Path | None, config: Config) -> tuple[Image.Image, Image.Image]:
    """The reference, and the mask of its subject."""
    try:
        decoded = decode_with_alpha(reference.read_bytes(), config.data.max_pixels)
    except OSError:
        raise DataError(f"reference {reference} cannot be read: give the path of an image") from None
    except DataError as error:
        raise DataError(f"reference {reference}: {error}") from None
    size = decoded.picture.size
    if mask is not None:
        try:
            return decoded.picture, decode_mask(mask.read_bytes(), size, config.data.max_pixels)
        except OSError:
            raise DataError(f"mask {mask} cannot be read: give the path of an image") from None
        except DataError as error:
            raise DataError(f"{error}; give an image of {size[0]}x{size[1]} pixels, white on the subject") from None
    if box is not None and not (0 <= box[0] < box[2] <= size[0] and 0 <= box[1] < box[3] <= size[1]):
        raise DataError(f"box: not inside the reference of {size[0]}x{size[1]} pixels; write left,top,right,bottom")
    return decoded.picture, find_mask(decoded, config.data.region, box)


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
