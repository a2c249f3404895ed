"""Prompts as they are kept: text, and mentions by the character's id, so that a prompt outlives a renaming.

A mention whose name nobody has keeps the name, and means the character that is given it later.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from components.model.words import folded
from components.stories.cast import Cast, CastMember
from components.stories.mention_syntax import find_mentions, mentionable, write_mention
from components.stories.story import PromptMention

#: Scripts that put no spaces between words: a known name may end in the middle of a run of letters.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


_RUN_ON = re.compile(r"\w\w")


@dataclass(frozen=True)
class StoredMention:
    """A mention: the name that was written, and the character that it meant, if any."""

    name: str
    character: str | None


#: Texts and mentions in turn.
StoredPrompt = tuple[str | StoredMention, ...]


def parse_prompt(text: str, cast: Cast, before: StoredPrompt = ()) -> StoredPrompt:
    """Make a prompt that people have written one to keep.

    Args:
        before: what it takes the place of: a name that several characters have means the one that it meant there.
    """
    meant = {folded(_shown(part, cast)): part.character for part in before if isinstance(part, StoredMention)}
    parts: list[str | StoredMention] = []
    end = 0
    for mention in find_mentions(text):
        name, stop = mention.name, mention.end
        character = meant.get(folded(name)) or _id(cast.only(name))
        if character is None and text[mention.start + 1] != '"' and not cast.named(name):
            name, stop = _known_beginning(text, mention.start + 1, mention.end, cast)
            character = meant.get(folded(name)) or _id(cast.only(name))
        parts += [text[end : mention.start], StoredMention(name, character)]
        end = stop
    return tuple(part for part in (*parts, text[end:]) if part != "")


def render_prompt(prompt: StoredPrompt, cast: Cast) -> tuple[str, tuple[PromptMention, ...]]:
    """The prompt with the present names, and its mentions."""
    text, mentions = "", list[PromptMention]()
    for index, part in enumerate(prompt):
        if isinstance(part, str):
            text += part
            continue
        following = prompt[index + 1] if index + 1 < len(prompt) else ""
        written = write_mention(_shown(part, cast), following if isinstance(following, str) else None)
        member = meaning(part, cast)
        mentions.append(PromptMention(_shown(part, cast), _id(member), len(text), len(text) + len(written)))
        text += written
    return text, tuple(mentions)


def speak_prompt(prompt: StoredPrompt, word: Callable[[StoredMention], str]) -> str:
    """The prompt with a word in place of each mention."""
    spoken = ""
    for part in prompt:
        said = part if isinstance(part, str) else word(part)
        # Scripts without spaces, and mentions side by side: a word is one only where it ends.
        spoken += f" {said}" if _RUN_ON.fullmatch(spoken[-1:] + said[:1]) else said
    return spoken


def meaning(mention: StoredMention, cast: Cast) -> CastMember | None:
    """The character that a mention means now."""
    return cast.get(mention.character) or cast.only(mention.name)


def refresh_names(prompt: StoredPrompt, cast: Cast) -> StoredPrompt:
    """The prompt with the names that its characters have now, so that these are kept where a character goes."""
    return tuple(
        part if isinstance(part, str) else StoredMention(_shown(part, cast), _id(meaning(part, cast)) or part.character)
        for part in prompt
    )


def pack_prompt(prompt: StoredPrompt) -> list[Any]:
    """A prompt as JSON."""
    return [part if isinstance(part, str) else vars(part) for part in prompt]


def unpack_prompt(packed: list[Any]) -> StoredPrompt:
    return tuple(part if isinstance(part, str) else StoredMention(part["name"], part["character"]) for part in packed)


def _shown(mention: StoredMention, cast: Cast) -> str:
    member = cast.get(mention.character)
    return mentionable(member.name if member is not None else mention.name)


def _id(member: CastMember | None) -> str | None:
    return None if member is None else member.id


def _known_beginning(text: str, start: int, end: int, cast: Cast) -> tuple[str, int]:
    """The longest known name that ``text[start:end]`` begins with, followed by an unspaced script; else all of it."""
    for stop in range(end - 1, start, -1):
        if _UNSPACED.match(text[stop]) and cast.named(text[start:stop]):
            return text[start:stop], stop
    return text[start:end], end
