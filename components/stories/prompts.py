"""Stored prompts: text, and mentions by the character's id, so that a prompt follows a renamed character.

A mention of an unknown name stores the name, and refers to the first character that is later given it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from components.characters.cast import Cast, CastMember
from components.characters.mention_names import KnownNames, name_key
from components.characters.mention_syntax import join_words, mentionable, read_mentions, write_mention
from components.stories.story import PromptMention


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
    previous = _identified(before, cast)
    parts: list[str | StoredMention] = []
    end = 0
    for mention in read_mentions(text, cast.names.and_also(previous)).mentions:
        character = previous.get(name_key(mentionable(mention.name))) or _id(cast.unique(mention.name))
        parts += [text[end : mention.start], StoredMention(mention.name, character)]
        end = mention.end
    return tuple(part for part in (*parts, text[end:]) if part != "")


def render_prompt(prompt: StoredPrompt, cast: Cast) -> tuple[str, tuple[PromptMention, ...]]:
    """The prompt with the characters' current names, and the spans of its mentions."""
    names = _known_names(prompt, cast)
    written = list[str]()  # last to first: how a mention is written depends on all that follows
    following = ""
    for index in reversed(range(len(prompt))):
        part, before = prompt[index], prompt[index - 1] if index else ""
        if isinstance(part, StoredMention):
            before = before if isinstance(before, str) else ""
            written.append(write_mention(_current_name(part, cast), before, following, names))
        else:
            written.append(part)
        following = written[-1] + following
    text, mentions = "", list[PromptMention]()
    for part, piece in zip(prompt, reversed(written), strict=True):
        if isinstance(part, StoredMention):
            span = len(text), len(text) + len(piece)
            mentions.append(PromptMention(_current_name(part, cast), _id(resolve_mention(part, cast)), *span))
        text += piece
    return text, tuple(mentions)


def unread_mention(prompt: StoredPrompt, cast: Cast) -> int | None:
    """The position in the rendered prompt of the first ``@`` that names nobody, and is no stored mention either."""
    text, mentions = render_prompt(prompt, cast)
    reading = read_mentions(text, _known_names(prompt, cast))
    stored = {mention.start for mention in mentions}
    found = [mention.start for mention in reading.mentions if mention.start not in stored]
    return min(found if reading.unread is None else [*found, reading.unread], default=None)


def expand_mentions(prompt: StoredPrompt, word: Callable[[StoredMention], str]) -> str:
    """The prompt with ``word(mention)`` in place of each mention."""
    return join_words([part if isinstance(part, str) else word(part) for part in prompt])


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


def _identified(prompt: StoredPrompt, cast: Cast) -> dict[str, str]:
    """The characters of a prompt's mentions, deleted ones included, by the keys of their names."""
    mentions = (part for part in prompt if isinstance(part, StoredMention))
    return {name_key(_current_name(part, cast)): part.character for part in mentions if part.character is not None}


def _known_names(prompt: StoredPrompt, cast: Cast) -> KnownNames:
    return cast.names.and_also(_identified(prompt, cast))
