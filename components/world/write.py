"""The toy world on disk: ordinary pictures and a JSON-lines file, as a user's own data would look."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from components.config import WorldConfig
from components.files import replacing
from components.fingerprint import digest_sources, fingerprint
from components.progress import track
from components.world.identities import Identity, sample_identity
from components.world.identity_pictures import IdentityPictures, write_identity_pictures

PAIRS = "pairs.jsonl"
_FINGERPRINT = "fingerprint"
#: Albums below which starting worker processes takes longer than drawing.
_WORTH_WORKERS = 32


def write_world(world: WorldConfig, seed: int) -> Path:
    """Draw ``world.identities`` identities, several times each, into ``world.output``; returns that directory.

    It holds ``images/*.png``, ``masks/*.png`` (255 on the subject) and ``pairs.jsonl``, one row a picture: image,
    caption, word, mask, box, head_box (null without a head), group (the identity), place, position (null with two
    subjects) and references (the identity's other pictures). Paths are relative to the file. The directory appears
    whole or not at all, and one already drawn from the same settings is left as it is.
    """
    mark = _mark(world, seed)
    if _drawn(world.output) == mark:
        return world.output
    albums = [
        IdentityPictures(number, identity, world.pictures_per_identity, world.picture_size, seed * 1_000_003 + number)
        for number, identity in enumerate(_distinct_identities(world, seed))
    ]
    with replacing(world.output) as staging:
        for folder in ("images", "masks"):
            (staging / folder).mkdir()
        with (staging / PAIRS).open("w") as pairs:
            for row in _write_albums(albums, staging):
                pairs.write(json.dumps(row) + "\n")
        (staging / _FINGERPRINT).write_text(mark)
    return world.output


def is_world(directory: Path) -> bool:
    """Whether `write_world` wrote ``directory``."""
    return (directory / PAIRS).is_file() and _drawn(directory) is not None


def _mark(world: WorldConfig, seed: int) -> str:
    code = digest_sources(Path(__file__).parent)
    return fingerprint([world.model_dump(mode="json", exclude={"output"}), seed, code])


def _drawn(directory: Path) -> str | None:
    file = directory / _FINGERPRINT
    return file.read_text() if file.exists() else None


def _distinct_identities(world: WorldConfig, seed: int) -> list[Identity]:
    rng = random.Random(seed)
    identities: dict[Identity, None] = {}
    while len(identities) < world.identities:
        identities.setdefault(sample_identity(rng, world.split))
    return list(identities)


def _write_albums(albums: list[IdentityPictures], root: Path) -> Iterator[dict[str, Any]]:
    """Draw ``albums`` below ``root``, in worker processes where that pays; yields their rows in order."""
    draw = partial(write_identity_pictures, root=root)
    with ExitStack() as stack:
        pages: Iterable[list[dict[str, Any]]] = map(draw, albums)
        if len(albums) >= _WORTH_WORKERS:
            pool = stack.enter_context(ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")))
            pages = pool.map(draw, albums, chunksize=8)
        for rows in track(pages, "draw", len(albums)):
            yield from rows
