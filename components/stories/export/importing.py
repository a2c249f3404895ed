"""Imports an archived story, and reports what could not be imported."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import sqlalchemy as sa
from PIL import Image

from components.access.limits import RequestId
from components.characters.advice import advise
from components.characters.cast import Cast, CastMember, read_cast
from components.characters.character import MAX_PICTURES, Reference
from components.characters.store import CharacterStore
from components.characters.tables import new_id
from components.config import StoriesConfig
from components.data.decode import decode_mask, decode_picture
from components.errors import DataError
from components.stories.export.archive import ArchivedCharacter, ArchivedPanel, ArchivedTake, StoryArchive
from components.stories.panel_plan import generation_digest
from components.stories.prompts import StoredMention, StoredPrompt, prompt_to_json
from components.stories.rows import to_json
from components.stories.stored_responses import store_response
from components.stories.story import (
    Balloon,
    PagesLayout,
    PanelCharacter,
    PanelLora,
    PanelSampling,
    StoryLimitError,
)
from components.stories.tables import panels, stories, takes
from components.stories.take_files import TakeFiles

#: Most notes that are returned; the rest is only counted.
_MAX_NOTES = 50
_PNG = ("PNG",)


class StoryImporter:
    """Imports archives.

    Args:
        check: content check of references and takes; False refuses an image.
        size: side in pixels of the vision encoder's input, see `components.characters.advice.advise`.
        max_pixels: limit of an image's pixels, read from its header.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        engine: sa.Engine,
        files: TakeFiles,
        characters: CharacterStore,
        limits: StoriesConfig,
        max_pixels: int,
        size: int,
        check: Callable[[Image.Image], bool] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine, self._files, self._characters = engine, files, characters
        self._limits, self._max_pixels, self._size = limits, max_pixels, size
        self._check, self._clock = check, clock

    def import_story(
        self, data: bytes, owner: str = "", served: tuple[str, str] | None = None, request: RequestId | None = None
    ) -> tuple[str, list[str]]:
        """Create a story from an archive; returns its id, and notes on what could not be imported.

        Args:
            served: name and version of the served model.

        Raises:
            DataError: ``data`` is not an archive of a story, or exceeds the limit of unpacked bytes.
            StoryLimitError: a limit of stories, panels or image bytes would be exceeded.
        """
        archive = StoryArchive(data, self._limits.max_unpacked_bytes)
        self._check_limits(archive, len(data), owner)
        notes: list[str] = []
        made: list[str] = []
        story = new_id("story")
        try:
            known = self._import_characters(archive, owner, made, notes)
            notes += [] if served is None else _unavailable_models(archive, served)
            self._insert_story(archive, story, owner, known, notes, request)
        except BaseException:
            for character in made:
                self._characters.delete(character)
            self._files.clear(story)
            raise
        return story, _trimmed(notes)

    def _check_limits(self, archive: StoryArchive, size: int, owner: str) -> None:
        count = sa.select(sa.func.count()).select_from(stories).where(stories.c.owner == owner)
        used = sa.select(sa.func.coalesce(sa.func.sum(takes.c.bytes), 0)).where(takes.c.owner == owner)
        with self._engine.connect() as connection:
            if connection.execute(count).scalar_one() >= self._limits.max_stories:
                raise StoryLimitError(f"you have {self._limits.max_stories} stories: delete one first")
            if connection.execute(used).scalar_one() + size > self._limits.max_takes_bytes:
                raise StoryLimitError("your pictures would take more bytes than you have: delete some first")
        if len(archive.manifest.panels) > self._limits.max_panels:
            raise StoryLimitError(f"a story has at most {self._limits.max_panels} panels")

    def _import_characters(
        self, archive: StoryArchive, owner: str, made: list[str], notes: list[str]
    ) -> dict[str, CastMember]:
        """Map the archive's ids of characters to the owner's: the one with the same id, or a new one."""
        with self._engine.connect() as connection:
            cast = read_cast(connection, owner)
        found: dict[str, CastMember] = {}
        names = {member.name for member in cast.members()}
        for character in archive.manifest.characters:
            existing = cast.get(character.id)
            if existing is not None:
                found[character.id] = existing
                continue
            references = self._references(archive, character, notes)
            if not references:
                notes.append(f"the character {character.name}: none of its pictures can be read")
                continue
            name = _free_name(character.name, names)
            if name != character.name:
                notes.append(f"the character {character.name} is called {name} here: you have another of its name")
            names.add(name)
            created = self._characters.create(name, character.description, character.target_word, references, owner)
            made.append(created.id)
            found[character.id] = CastMember(created.id, name, created.target_word, created.revision)
        return found

    def _references(self, archive: StoryArchive, character: ArchivedCharacter, notes: list[str]) -> list[Reference]:
        found = []
        for number, picture in enumerate(character.pictures[:MAX_PICTURES], start=1):
            where = f"picture {number} of the character {character.name}"
            try:
                image = self._decoded(archive, picture.file)
                mask = decode_mask(_present(archive, picture.mask), image.size, self._max_pixels)
            except DataError as error:
                notes.append(f"{where}: {error}")
                continue
            face = picture.face
            if face is not None and not _inside(face, image):
                notes.append(f"{where}: its face box is not in the picture")
                face = None
            advice = advise(image, mask, self._size, None if face is None else True)
            found.append(Reference(image, mask, face, advice))
        if len(character.pictures) > MAX_PICTURES:
            notes.append(f"the character {character.name} has more than {MAX_PICTURES} pictures: the first are here")
        return found

    def _insert_story(
        self,
        archive: StoryArchive,
        story: str,
        owner: str,
        known: Mapping[str, CastMember],
        notes: list[str],
        request: RequestId | None,
    ) -> None:
        manifest, now, cast = archive.manifest, self._clock(), Cast(known.values())
        panel_rows: list[dict[str, Any]] = []
        take_rows: list[dict[str, Any]] = []
        for position, panel in enumerate(manifest.panels):
            row = {"id": new_id("panel"), "story": story, "position": position, "revision": 1, "changed": 1}
            prompt, strengths = _prompt(panel, known), _strengths(panel, known)
            settings = (strengths, panel.size, panel.with_characters, manifest.style, cast)
            loras = tuple(PanelLora(**each.model_dump()) for each in panel.loras)
            sampling = PanelSampling(panel.sampler, panel.steps, panel.guidance_scale, loras)
            digest = generation_digest(prompt, *settings, sampling)
            imported = self._takes(archive, panel, f"panel {position + 1}", story, notes)
            chosen = next((row["id"] for row, take in imported if take.id == panel.chosen), None)
            same = ("caption", "size", "seed", "seed_locked", "hidden", "with_characters")
            row |= {name: getattr(panel, name) for name in same}
            row |= asdict(sampling) | {"loras": to_json(loras)}
            row |= {"prompt": prompt_to_json(prompt), "characters": to_json(strengths), "error": None}
            row |= {"balloons": to_json([Balloon(**each.model_dump()) for each in panel.balloons])}
            row |= {"chosen": chosen, "chosen_at": now}
            panel_rows.append(row)
            common = {"story": story, "panel": row["id"], "owner": owner}
            take_rows += [each | common | {"digest": digest if take.current else "imported"} for each, take in imported]
        pages = asdict(PagesLayout(**manifest.pages.model_dump()))
        values = {"id": story, "owner": owner, "created": now, "updated": now, "revision": 1, "changes": 1}
        values |= {"changed": 1, "title": manifest.title, "style": manifest.style, "pages": pages}
        with self._engine.begin() as connection:
            connection.execute(stories.insert().values(**values, language=manifest.language))
            for table, rows in ((panels, panel_rows), (takes, take_rows)):
                if rows:
                    connection.execute(table.insert(), rows)
            store_response(connection, owner, request, {"story": story, "notes": _trimmed(notes)}, now)

    def _takes(
        self, archive: StoryArchive, panel: ArchivedPanel, where: str, story: str, notes: list[str]
    ) -> list[tuple[dict[str, Any], ArchivedTake]]:
        """Write the files of a panel's takes; returns their rows, with ids in the archive's order."""
        imported = []
        for take in panel.takes:
            try:
                picture = _present(archive, take.file)
                image = self._decode(picture)
                masks = [_present(archive, mask) for mask in take.masks]
                for mask in masks:
                    decode_picture(mask, self._max_pixels, _PNG)
            except DataError as error:
                notes.append(f"a take of {where}: {error}")
                continue
            identifier = f"take-{new_id('x').removeprefix('x-')}00"
            self._files.write(story, identifier, picture, masks)
            settings = take.settings.model_dump()
            row = {"id": identifier, "created": take.created, "width": image.width, "height": image.height}
            row |= {"seed": take.seed, "model": take.model, "model_version": take.model_version}
            row |= {"settings": settings, "masks": len(masks), "bytes": len(picture) + sum(map(len, masks))}
            imported.append((row, take))
        return imported

    def _decoded(self, archive: StoryArchive, name: str) -> Image.Image:
        return self._decode(_present(archive, name))

    def _decode(self, data: bytes) -> Image.Image:
        picture = decode_picture(data, self._max_pixels, _PNG)
        if self._check is not None and not self._check(picture):
            raise DataError("refused by the content policy of this service")
        return picture


def _trimmed(notes: list[str]) -> list[str]:
    return notes[:_MAX_NOTES] + [f"and {len(notes) - _MAX_NOTES} more"] * (len(notes) > _MAX_NOTES)


def _present(archive: StoryArchive, name: str) -> bytes:
    data = archive.file(name)
    if data is None:
        raise DataError("its file is missing or damaged")
    return data


def _prompt(panel: ArchivedPanel, known: Mapping[str, CastMember]) -> StoredPrompt:
    parts: list[str | StoredMention] = []
    for part in panel.prompt:
        if isinstance(part, str):
            if part:
                parts.append(part)
            continue
        member = known.get(part.character or "")
        parts.append(StoredMention(part.name, None) if member is None else StoredMention(member.name, member.id))
    return tuple(parts)


def _strengths(panel: ArchivedPanel, known: Mapping[str, CastMember]) -> list[PanelCharacter]:
    return [
        replace(PanelCharacter(**each.model_dump()), id=known[each.id].id)
        for each in panel.characters
        if each.id in known
    ]


def _free_name(name: str, taken: set[str]) -> str:
    folded = {each.casefold() for each in taken}
    number, free = 2, name
    while free.casefold() in folded:
        free = f"{name[:94]} {number}"
        number += 1
    return free


def _inside(box: Sequence[float], picture: Image.Image) -> bool:
    x0, y0, x1, y1 = box
    return 0 <= x0 < x1 <= picture.width and 0 <= y0 < y1 <= picture.height


def _unavailable_models(archive: StoryArchive, served: tuple[str, str]) -> list[str]:
    """Notes on takes that were generated by another model or version than the served one."""
    models = {(take.model, take.model_version) for panel in archive.manifest.panels for take in panel.takes}
    return [
        f"takes were drawn by {model} version {version}, which does not draw here: the same seed gives other pictures"
        for model, version in sorted(models - {served})
    ]
