"""What a panel would be drawn as: its prompt in words, its characters, and the digest that tells changes of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from components.fingerprint import fingerprint
from components.stories.cast import Cast, CastMember
from components.stories.prompts import StoredMention, StoredPrompt, meaning, render_prompt, speak_prompt
from components.stories.story import PanelCharacter

#: Characters that a picture can show.
MAX_CHARACTERS = 4
_EMPTY = {"message": "prompt: write what the panel shows", "param": "prompt", "code": "empty_prompt"}


@dataclass(frozen=True)
class DrawnCharacter:
    """A character of a drawing: the word that stands for it in the prompt, and how strongly it acts."""

    id: str
    name: str
    word: str
    revision: int
    strength: float
    face_strength: float
    body_strength: float


@dataclass(frozen=True)
class PanelDrawing:
    """What is to be drawn for a panel.

    Args:
        sent: the prompt as it was written, with the style line.
        prompt: the same, with words in place of mentions.
        seeds: of each variation; None is any.
        error: why it cannot be drawn: ``message``, ``param`` and ``code``.
        busy: a job is drawing just this.
    """

    panel: str
    sent: str
    prompt: str
    characters: tuple[DrawnCharacter, ...]
    size: str
    seeds: tuple[int | None, ...]
    digest: str
    error: dict[str, Any] | None = None
    busy: bool = False


def drawing_digest(
    prompt: StoredPrompt, characters: Iterable[PanelCharacter], size: str, with_characters: bool, style: str, cast: Cast
) -> str:
    """The same for everything that draws the same picture, but for its seed."""
    mentions = [part for part in prompt if isinstance(part, StoredMention)]
    keys = [_key(mention, cast) for mention in mentions]
    settings = {character.id: character for character in characters}
    acting = {
        key: [chosen.strength, chosen.face_strength, chosen.body_strength]
        for key in keys
        for chosen in [settings.get(key, PanelCharacter(key))]
    }
    said = [part if isinstance(part, str) else {"mention": _key(part, cast)} for part in prompt]
    return fingerprint([said, style, size, with_characters, acting if with_characters else {}])


def plan_drawing(
    panel: str,
    prompt: StoredPrompt,
    characters: Sequence[PanelCharacter],
    size: str,
    with_characters: bool,
    style: str,
    seeds: tuple[int | None, ...],
    cast: Cast,
) -> PanelDrawing:
    """What a panel is drawn as, or why it cannot be."""
    digest = drawing_digest(prompt, characters, size, with_characters, style, cast)
    sent = _styled(render_prompt(prompt, cast)[0], style)
    spoken = _styled(speak_prompt(prompt, lambda mention: _word(mention, cast)), style)
    settings = {character.id: character for character in characters}
    drawn: dict[str, DrawnCharacter] = {}
    error = None if prompt else _EMPTY
    if with_characters:
        for mention, shown in zip(_mentions(prompt), render_prompt(prompt, cast)[1], strict=True):
            member = meaning(mention, cast)
            if member is None:
                error = error or _unknown(mention, shown.start, cast)
            else:
                drawn.setdefault(member.id, _drawn(member, settings.get(member.id, PanelCharacter(member.id))))
    if len(drawn) > MAX_CHARACTERS:
        message = f"prompt: at most {MAX_CHARACTERS} characters can be in one picture: mention fewer"
        error = error or {"message": message, "param": "prompt", "code": "too_many_characters"}
    return PanelDrawing(panel, sent, spoken, tuple(drawn.values()), size, seeds, digest, error)


def _mentions(prompt: StoredPrompt) -> list[StoredMention]:
    return [part for part in prompt if isinstance(part, StoredMention)]


def _key(mention: StoredMention, cast: Cast) -> str:
    """What a mention means: the character, also where it is gone, or the name."""
    member = meaning(mention, cast)
    return member.id if member is not None else mention.character or f"@{mention.name.casefold()}"


def _word(mention: StoredMention, cast: Cast) -> str:
    member = meaning(mention, cast)
    return mention.name if member is None else member.word


def _styled(prompt: str, style: str) -> str:
    return f"{prompt}, {style}" if prompt and style else prompt


def _drawn(member: CastMember, chosen: PanelCharacter) -> DrawnCharacter:
    strengths = chosen.strength, chosen.face_strength, chosen.body_strength
    return DrawnCharacter(member.id, member.name, member.word, member.revision, *strengths)


def _unknown(mention: StoredMention, start: int, cast: Cast) -> dict[str, Any]:
    where = f"prompt: the mention at character {start + 1}"
    if cast.named(mention.name):
        message = f"{where}: several of your characters have this name: rename one"
        return {"message": message, "param": "prompt", "code": "mention_ambiguous"}
    message = f"{where}: you have no character of this name: create one, or draw the panel without characters"
    return {"message": message, "param": "prompt", "code": "mention_unknown"}
