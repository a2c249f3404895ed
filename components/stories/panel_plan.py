"""The inputs of a panel's generation: prompt, characters, size, seeds, and their digest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.characters.cast import Cast, CastMember
from components.characters.mention_syntax import describe_unread, read_mentions
from components.fingerprint import fingerprint
from components.stories.prompts import (
    StoredMention,
    StoredPrompt,
    expand_mentions,
    render_prompt,
    resolve_mention,
    unread_mention,
)
from components.stories.story import DEFAULT_SAMPLING, PanelCharacter, PanelSampling

#: Most subjects in one image.
MAX_CHARACTERS = 4
_EMPTY = {"message": "prompt: write what the panel shows", "param": "prompt", "code": "empty_prompt"}


@dataclass(frozen=True)
class PlannedCharacter:
    """A character to condition on: its target word in the prompt, and its strengths."""

    id: str
    name: str
    word: str
    revision: int
    strength: float
    face_strength: float
    body_strength: float


@dataclass(frozen=True)
class PanelPlan:
    """The inputs of a panel's generation.

    Args:
        prompt_with_mentions: the panel's prompt and the story's style.
        prompt: the same, with target words in place of mentions.
        seeds: one per variation; None for a random one.
        digest: see `generation_digest`.
        error: why no image can be generated: ``message``, ``param`` and ``code``.
        busy: an unfinished job has the same digest.
    """

    panel: str
    prompt_with_mentions: str
    prompt: str
    characters: tuple[PlannedCharacter, ...]
    size: str
    seeds: tuple[int | None, ...]
    digest: str
    error: dict[str, Any] | None = None
    busy: bool = False
    sampling: PanelSampling = DEFAULT_SAMPLING


def generation_digest(
    prompt: StoredPrompt,
    characters: Iterable[PanelCharacter],
    size: str,
    with_characters: bool,
    style: str,
    cast: Cast,
    sampling: PanelSampling = DEFAULT_SAMPLING,
) -> str:
    """Digest of everything that determines the image, except the seed."""
    mentions = [part for part in prompt if isinstance(part, StoredMention)]
    keys = [_key(mention, cast) for mention in mentions]
    settings = {character.id: character for character in characters}
    strengths = {
        key: [chosen.strength, chosen.face_strength, chosen.body_strength]
        for key in keys
        for chosen in [settings.get(key, PanelCharacter(key))]
    }
    parts = [part if isinstance(part, str) else {"mention": _key(part, cast)} for part in prompt]
    values = [parts, style, size, with_characters, strengths if with_characters else {}]
    # Left out where it is the default: digests of earlier releases, which did not have it, stay valid.
    sampled = {name: value for name, value in asdict(sampling).items() if name != "loras" or value}
    return fingerprint(values if sampling == DEFAULT_SAMPLING else [*values, sampled])


def plan_panel(
    panel: str,
    prompt: StoredPrompt,
    characters: Sequence[PanelCharacter],
    size: str,
    with_characters: bool,
    style: str,
    seeds: tuple[int | None, ...],
    cast: Cast,
    sampling: PanelSampling = DEFAULT_SAMPLING,
) -> PanelPlan:
    """Plan the generation of a panel; `PanelPlan.error` is set if it is not possible."""
    digest = generation_digest(prompt, characters, size, with_characters, style, cast, sampling)
    prompt_with_mentions = _styled(render_prompt(prompt, cast)[0], style)
    expanded = _styled(expand_mentions(prompt, lambda mention: _word(mention, cast)), style)
    settings = {character.id: character for character in characters}
    planned: dict[str, PlannedCharacter] = {}
    error = None if prompt else _EMPTY
    if with_characters:
        for mention, rendered in zip(_mentions(prompt), render_prompt(prompt, cast)[1], strict=True):
            member = resolve_mention(mention, cast)
            if member is None:
                error = error or _unknown(mention, rendered.start, cast)
            else:
                planned.setdefault(member.id, _planned(member, settings.get(member.id, PanelCharacter(member.id))))
        error = error or _unread(prompt, style, cast)
    if len(planned) > MAX_CHARACTERS:
        message = f"prompt: at most {MAX_CHARACTERS} characters can be in one picture: mention fewer"
        error = error or {"message": message, "param": "prompt", "code": "too_many_characters"}
    inputs = (tuple(planned.values()), size, seeds, digest, error)
    return PanelPlan(panel, prompt_with_mentions, expanded, *inputs, sampling=sampling)


def _mentions(prompt: StoredPrompt) -> list[StoredMention]:
    return [part for part in prompt if isinstance(part, StoredMention)]


def _key(mention: StoredMention, cast: Cast) -> str:
    """Identity of a mention: the character's id, kept after its deletion, else the name."""
    member = resolve_mention(mention, cast)
    return member.id if member is not None else mention.character or f"@{mention.name.casefold()}"


def _word(mention: StoredMention, cast: Cast) -> str:
    member = resolve_mention(mention, cast)
    return mention.name if member is None else member.word


def _styled(prompt: str, style: str) -> str:
    return f"{prompt}, {style}" if prompt and style else prompt


def _planned(member: CastMember, chosen: PanelCharacter) -> PlannedCharacter:
    strengths = chosen.strength, chosen.face_strength, chosen.body_strength
    return PlannedCharacter(member.id, member.name, member.word, member.revision, *strengths)


def _unread(prompt: StoredPrompt, style: str, cast: Cast) -> dict[str, Any] | None:
    """The error of an ``@`` that would be drawn as text."""
    if (position := unread_mention(prompt, cast)) is not None:
        return {"message": describe_unread("prompt", position), "param": "prompt", "code": "mention_unknown"}
    reading = read_mentions(style, cast.names)
    if reading.mentions or reading.unread is not None:
        message = "style: a style mentions nobody: mention characters in the panels, or leave the @ out"
        return {"message": message, "param": "style", "code": "mention_unknown"}
    return None


def _unknown(mention: StoredMention, start: int, cast: Cast) -> dict[str, Any]:
    where = f"prompt: the mention at character {start + 1}"
    if cast.named(mention.name):
        message = f"{where}: several of your characters have this name: rename one"
        return {"message": message, "param": "prompt", "code": "mention_ambiguous"}
    message = f"{where}: you have no character of this name: create one, or draw the panel without characters"
    return {"message": message, "param": "prompt", "code": "mention_unknown"}
