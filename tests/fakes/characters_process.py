"""A process that changes characters until it is killed.

``python -m tests.fakes.characters_process <directory> <database> <seed>`` says that it is ready and waits for a line.

Vision tokens stand for pictures here: the tokens of pictures are the colours in their middles.
"""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from pathlib import Path

import torch

from components.characters.character import MAX_PICTURES, CharacterCutOuts, PictureCountError, SubjectTokens
from components.characters.store import CharacterStore
from components.errors import NotFoundError
from tests.fixtures.character_stores import add, color, reference

MODEL = "colours"
COLORS = ("red", "blue", "yellow", "black")


def colors_of(shown: CharacterCutOuts) -> SubjectTokens:
    return SubjectTokens(torch.tensor([color(cut_out.picture) for cut_out in shown.cut_outs]))


def step(store: CharacterStore, chance: random.Random) -> None:
    """One change of one character, which may be another process's."""
    known = store.page(limit=20)
    if len(known) < 4 or chance.random() < 0.2:
        add(store, "Rob", *(reference(chance.choice(COLORS)) for _ in range(chance.randint(1, 3))))
        return
    chosen = chance.choice(known)
    match chance.randrange(6):
        case 0:
            store.delete(chosen.id)
        case 1:
            store.remove_picture(chosen.id, chance.choice(chosen.pictures).id)
        case 2 | 3:
            store.add_pictures(chosen.id, [reference(chance.choice(COLORS))], MAX_PICTURES)
        case _:
            shown = store.cut_outs(chosen.id, 16)
            store.put_tokens(chosen.id, MODEL, shown.revision, colors_of(shown))


def main(directory: str, database: str, seed: str) -> None:
    store, chance = CharacterStore(Path(directory), database), random.Random(int(seed))
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        with suppress(NotFoundError, PictureCountError):  # another process was quicker, or there are enough
            step(store, chance)


if __name__ == "__main__":
    main(*sys.argv[1:])
