"""Access to a running service over HTTP, with the API key in ``REALCUSTOM_API_KEY``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from components.client import Character, Choice, Client, Control, Options, Pictures
from components.data.schema import Box
from components.errors import DataError, NotFoundError
from components.files import replacing_file

#: Environment variable of the key, since other users can read command lines.
API_KEY = "REALCUSTOM_API_KEY"
URL = "REALCUSTOM_URL"
ServiceUrl = Annotated[str, typer.Option("--url", envvar=URL, help="URL of the service.")]
LOCAL = "http://127.0.0.1:8000"
_FORMATS: dict[str, Literal["png", "jpeg", "webp"]] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def connect(url: str) -> Client:
    """A client of the service at ``url``."""
    return Client(url, os.environ.get(API_KEY) or None)


def find(client: Client, who: str) -> Character:
    """The character with this id, or the only one with this name.

    Raises:
        NotFoundError: no character matches, or several have the name.
    """
    found = [each for each in client.characters.list() if who == each.id or who.casefold() == each.name.casefold()]
    if len(found) != 1:
        reason = "several characters have this name: give the id of one" if found else "there is no such character"
        raise NotFoundError(f"{reason}; `realcustom character list` shows them")
    return found[0]


def generate_image(
    url: str,
    prompt: str,
    characters: Sequence[str] = (),
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
    control: Control | None = None,
) -> None:
    """Generate ``prompt`` into ``output`` with the service: with its ``characters``, or the subject of ``reference``.

    ``box`` and ``mask`` say where the subject of the reference is. An ``image`` is redrawn where ``image_mask`` is
    transparent. The service has defaults for ``sampler``, ``steps`` and ``guidance_scale``. ``loras`` are weights by
    name.

    Raises:
        DataError: both are given, or ``output`` is not named as a PNG, JPEG or WebP file.
    """
    kind = _FORMATS.get(output.suffix.lower())
    if kind is None:
        raise DataError(f"output: name it {', '.join(_FORMATS)}")
    if reference is not None and characters:
        raise DataError("reference: give a reference or characters, not both")
    options: Options = {"seed": seed, "output_format": kind}
    if sampler is not None:
        options["sampler"] = sampler
    if steps is not None:
        options["steps"] = steps
    if guidance_scale is not None:
        options["guidance_scale"] = guidance_scale
    if loras:
        options["loras"] = [{"name": name, "weight": weight} for name, weight in loras.items()]
    if control is not None:
        options["control"] = control
    with connect(url) as client:
        chosen = [Choice(find(client, who).id, word) for who in characters]
        if image is not None:
            if box is not None or mask is not None:
                raise DataError("box, mask: cut the subject of the reference out beforehand: --image takes neither")
            references, named = ([], None) if reference is None else ([reference], word)
            pictures = client.redraw(image, prompt, image_mask, strength, chosen, references, named, **options)
        elif reference is not None:
            pictures = client.edit(reference, prompt, word, [box], [mask], **options)
        else:
            pictures = client.generate(prompt, chosen, **options)
    with replacing_file(output) as partial:
        pictures[0].save(partial)
    _print_notes(pictures)
    print(f"wrote {output}")


def _print_notes(pictures: Pictures) -> None:
    """Print what the response says besides the image."""
    if pictures.revised_prompt is not None:
        print(f"revised prompt: {pictures.revised_prompt!r}")
    for note in pictures.notes:
        print(f"note: {note}")
