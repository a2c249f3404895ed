"""Stored prompts: text, and mentions by the character's id, so that a prompt follows a renamed character.

A mention of an unknown name stores the name, and refers to the first character that is later given it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from components.model.words import folded
from components.stories.cast import Cast, CastMember
from components.stories.mention_syntax import find_mentions, is_quoted, mentionable, write_mention
from components.stories.story import PromptMention

#: Scripts without spaces between words: a known name may end within a run of letters.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
#: Two letters without a space between them.
_ADJACENT_LETTERS = re.compile(r"\w\w")


@dataclass(frozen=True)
class StoredMention:
    """A mention: the name as written, and the id of the character that it referred to, if any."""

    name: str
    character: str | None


#: Texts and mentions in order.
StoredPrompt = tuple[str | StoredMention, ...]


def parse_prompt(text: str, cast: Cast, before: StoredPrompt = ()) -> StoredPrompt:
    """Convert a user's prompt to its stored form.

    Args:
        before: the prompt that it replaces: an ambiguous name refers to the same character as there.
    """
    previous = {folded(_current_name(part, cast)): part.character for part in before if isinstance(part, StoredMention)}
    parts: list[str | StoredMention] = []
    end = 0
    for mention in find_mentions(text):
        name, stop = mention.name, mention.end
        character = previous.get(folded(name)) or _id(cast.unique(name))
        if character is None and not is_quoted(text, mention) and not cast.named(name):
            name, stop = _longest_known_prefix(text, mention.start + 1, mention.end, cast)
            character = previous.get(folded(name)) or _id(cast.unique(name))
        parts += [text[end : mention.start], StoredMention(name, character)]
        end = stop
    return tuple(part for part in (*parts, text[end:]) if part != "")


def render_prompt(prompt: StoredPrompt, cast: Cast) -> tuple[str, tuple[PromptMention, ...]]:
    """The prompt with the characters' current names, and the spans of its mentions."""
    text, mentions = "", list[PromptMention]()
    for index, part in enumerate(prompt):
        if isinstance(part, str):
            text += part
            continue
        following = prompt[index + 1] if index + 1 < len(prompt) else ""
        written = write_mention(_current_name(part, cast), following if isinstance(following, str) else None)
        member = resolve_mention(part, cast)
        mentions.append(PromptMention(_current_name(part, cast), _id(member), len(text), len(text) + len(written)))
        text += written
    return text, tuple(mentions)


def expand_mentions(prompt: StoredPrompt, word: Callable[[StoredMention], str]) -> str:
    """The prompt with ``word(mention)`` in place of each mention."""
    text = ""
    for part in prompt:
        piece = part if isinstance(part, str) else word(part)
        # Separates words where the prompt has no space: in scripts without spaces, and between adjacent mentions.
        text += f" {piece}" if _ADJACENT_LETTERS.fullmatch(text[-1:] + piece[:1]) else piece
    return text


def resolve_mention(mention: StoredMention, cast: Cast) -> CastMember | None:
    """The character that a mention refers to now."""
    return cast.get(mention.character) or cast.unique(mention.name)


def update_names(prompt: StoredPrompt, cast: Cast) -> StoredPrompt:
    """The prompt with its characters' current names, which a mention still shows after the character is deleted."""
    return tuple(part if isinstance(part, str) else _updated(part, cast) for part in prompt)


def prompt_to_json(prompt: StoredPrompt) -> list[Any]:
    """The JSON of a stored prompt."""
    return [part if isinstance(part, str) else vars(part) for part in prompt]


def prompt_from_json(parts: list[Any]) -> StoredPrompt:
    return tuple(part if isinstance(part, str) else StoredMention(part["name"], part["character"]) for part in parts)


def _updated(mention: StoredMention, cast: Cast) -> StoredMention:
    return StoredMention(_current_name(mention, cast), _id(resolve_mention(mention, cast)) or mention.character)


def _current_name(mention: StoredMention, cast: Cast) -> str:
    member = cast.get(mention.character)
    return mentionable(member.name if member is not None else mention.name)


def _id(member: CastMember | None) -> str | None:
    return None if member is None else member.id


def _longest_known_prefix(text: str, start: int, end: int, cast: Cast) -> tuple[str, int]:
    """The longest known name that ``text[start:end]`` starts with, before a script without spaces; else all of it."""
    for stop in range(end - 1, start, -1):
        if _UNSPACED.match(text[stop]) and cast.named(text[start:stop]):
            return text[start:stop], stop
    return text[start:end], end
