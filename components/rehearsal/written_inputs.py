"""The inputs of a rehearsal: random weights, photographs, a DreamBench folder and a table of prompts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from components.config import WorldConfig
from components.world.identities import KINDS
from components.world.write import write_world

#: Subjects, and pictures of each: eight photographs.
SUBJECTS, VIEWS = 2, 4
_PROMPTS = """\
Classes

subject_name,class
{classes}

Prompts

Object Prompts

prompt_list = [
'a {{0}} {{1}} on the beach'.format(unique_token, class_token),
'a {{0}} {{1}} in the snow'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {{0}} {{1}} on the beach'.format(unique_token, class_token),
'a {{0}} {{1}} in the snow'.format(unique_token, class_token)
]
"""


def write_pictures(folder: Path, side: int, seed: int) -> None:
    """Draw `SUBJECTS` x `VIEWS` pictures of ``side`` pixels with captions (``pairs.jsonl``) into ``folder``."""
    world = WorldConfig(identities=SUBJECTS, pictures_per_identity=VIEWS, picture_size=max(64, side), output=folder)
    write_world(world, seed)


def rows(folder: Path) -> list[dict[str, str]]:
    """The rows of the pictures in ``folder``."""
    return [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]


def write_dreambench(pictures: Path, folder: Path) -> None:
    """Write the subjects of ``pictures`` in the DreamBench layout."""
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows(pictures):
        groups.setdefault(str(row["group"]), []).append(row)
    folder.mkdir(parents=True, exist_ok=True)
    for name, members in groups.items():
        (folder / name).mkdir(exist_ok=True)
        for number, row in enumerate(members):
            shutil.copyfile(pictures / row["image"], folder / name / f"{number:02d}.png")
    classes = "\n".join(f"{name},{members[0].get('word') or KINDS[0]}" for name, members in groups.items())
    (folder / "prompts_and_classes.txt").write_text(_PROMPTS.format(classes=classes))


def write_table(pictures: Path) -> Path:
    """A table of two prompts with references, beside the ``pictures``, for ``generate --table``."""
    first, other = rows(pictures)[0], rows(pictures)[VIEWS]
    lines = [
        {"prompt": row["caption"], "seed": seed, "reference": row["image"]}
        | ({"word": row["word"]} if row.get("word") else {})
        for seed, row in enumerate((first, other))
    ]
    file = pictures / "table.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def captions(pictures: Path) -> list[str]:
    """The captions of the pictures, whose words become tokens of the random text encoders."""
    return [row["caption"] for row in rows(pictures)]
