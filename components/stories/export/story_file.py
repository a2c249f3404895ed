"""Exports a story as an archive, with its mentioned characters and all takes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

import sqlalchemy as sa

from components.characters.cast import Cast, read_cast
from components.characters.character import Reference
from components.characters.store import CharacterStore
from components.errors import NotFoundError
from components.pictures import to_png
from components.stories.export.archive import (
    ArchivedBalloon,
    ArchivedCharacter,
    ArchivedLora,
    ArchivedMention,
    ArchivedPages,
    ArchivedPanel,
    ArchivedPicture,
    ArchivedSettings,
    ArchivedStrengths,
    ArchivedTake,
    Manifest,
)
from components.stories.export.comic import add_file
from components.stories.prompts import StoredMention, resolve_mention
from components.stories.rows import panel_digest, panel_rows, read_takes, snapshot, stored_prompt, story_row
from components.stories.story import SAMPLING, Take, TakeNotFoundError
from components.stories.take_files import TakeFiles


def write_story(engine: sa.Engine, files: TakeFiles, characters: CharacterStore, story: str, owner: str = "") -> bytes:
    """The archive of a story; see `components.stories.export.archive` for the format."""
    with snapshot(engine) as connection:
        row, cast = story_row(connection, story, owner), read_cast(connection, owner)
        rows = panel_rows(connection, story)
        found = read_takes(connection, story, [each["id"] for each in rows])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        panels = [
            _panel(each, panel_digest(each, row["style"], cast), _takes(archive, files, story, found[each["id"]]), cast)
            for each in rows
        ]
        manifest = Manifest(
            title=row["title"],
            style=row["style"],
            language=row["language"],
            pages=ArchivedPages(**row["pages"]),
            characters=_characters(archive, characters, _mentioned(rows, cast), owner),
            panels=panels,
        )
        add_file(archive, "manifest.json", manifest.model_dump_json(indent=1).encode(), packed=True)
    return buffer.getvalue()


def _mentioned(rows: Sequence[sa.RowMapping], cast: Cast) -> list[str]:
    """The ids of the mentioned characters, without duplicates."""
    mentions = (part for row in rows for part in stored_prompt(row) if isinstance(part, StoredMention))
    members = (resolve_mention(mention, cast) for mention in mentions)
    return list(dict.fromkeys(member.id for member in members if member is not None))


def _characters(
    archive: zipfile.ZipFile, store: CharacterStore, identifiers: Sequence[str], owner: str
) -> list[ArchivedCharacter]:
    found: list[ArchivedCharacter] = []
    for identifier in identifiers:
        try:
            character, references = store.get(identifier, owner), store.references(identifier)
        except NotFoundError:  # deleted meanwhile
            continue
        pictures = [
            _picture(archive, f"characters/{len(found)}-{index}", reference)
            for index, reference in enumerate(references)
        ]
        found.append(
            ArchivedCharacter(
                id=character.id,
                name=character.name,
                description=character.description,
                target_word=character.target_word,
                pictures=pictures,
            )
        )
    return found


def _picture(archive: zipfile.ZipFile, name: str, reference: Reference) -> ArchivedPicture:
    add_file(archive, f"{name}.png", to_png(reference.picture))
    add_file(archive, f"{name}-mask.png", to_png(reference.mask))
    return ArchivedPicture(file=f"{name}.png", mask=f"{name}-mask.png", face=reference.face)


def _takes(
    archive: zipfile.ZipFile, files: TakeFiles, story: str, takes: Sequence[Take]
) -> list[tuple[ArchivedTake, str]]:
    """The takes of a panel, oldest first, and their digests."""
    found = []
    for take in reversed(takes):
        names = [f"takes/{take.id}.png", *(f"takes/{take.id}-mask-{index}.png" for index in range(take.masks))]
        try:
            contents = [files.picture(story, take.id), *(files.mask(story, take.id, i) for i in range(take.masks))]
        except TakeNotFoundError:  # deleted meanwhile
            continue
        for name, content in zip(names, contents, strict=True):
            add_file(archive, name, content)
        archived = ArchivedTake(
            id=take.id,
            file=names[0],
            masks=names[1:],
            created=take.created,
            seed=take.seed,
            model=take.model,
            model_version=take.model_version,
            settings=ArchivedSettings(**take.settings),
        )
        found.append((archived, take.digest))
    return found


def _panel(row: sa.RowMapping, digest: str, takes: Sequence[tuple[ArchivedTake, str]], cast: Cast) -> ArchivedPanel:
    same = ("caption", "size", "seed", "seed_locked", "hidden", "with_characters", "chosen", *SAMPLING)
    return ArchivedPanel(
        **{name: row[name] for name in same},
        prompt=[part if isinstance(part, str) else _mention(part, cast) for part in stored_prompt(row)],
        characters=[ArchivedStrengths(**each) for each in row["characters"]],
        balloons=[ArchivedBalloon(**each) for each in row["balloons"]],
        loras=[ArchivedLora(**each) for each in row["loras"] or ()],
        takes=[take.model_copy(update={"current": own == digest}) for take, own in takes],
    )


def _mention(mention: StoredMention, cast: Cast) -> ArchivedMention:
    member = resolve_mention(mention, cast)
    if member is None:
        return ArchivedMention(name=mention.name)
    return ArchivedMention(name=member.name, character=member.id)
