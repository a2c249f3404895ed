"""Mentions of characters in a prompt: ``@rob meets @"Ada Lovelace"``.

A mention refers to the owner's character with the longest name that the text has there (`components.characters.
mention_syntax`) and is replaced by the character's word: the model gets "robot meets woman".
"""

from __future__ import annotations

from collections.abc import Sequence

from components.characters.cast import Cast, CastMember
from components.characters.mention_syntax import Mention, describe_unread, read_mentions, replace_mentions
from deploy.api.error_responses import ApiError
from deploy.api.images.schema import MAX_CHARACTERS, CharacterChoice
from deploy.interfaces.protocols import Characters


async def resolve_mentions(
    prompt: str, chosen: Sequence[CharacterChoice], characters: Characters, owner: str
) -> tuple[str, list[CharacterChoice]]:
    """The prompt with words instead of mentions, and its characters: those ``chosen``, then the others mentioned.

    The word of a mentioned character that is also chosen is the one it is chosen with.

    Raises:
        ApiError: a mention matches none or several of the owner's characters, or there are too many characters.
    """
    if not may_mention(prompt):
        return prompt, [*chosen]
    cast = await characters.cast(owner)
    mentions = find_mentions(prompt, cast)
    choices: dict[str, CharacterChoice] = {}
    for choice in chosen:
        choices.setdefault(choice.id, choice)
    others, words = list[CharacterChoice](), list[str]()
    for mention in mentions:
        member = find_mentioned(mention, cast)
        if member.id not in choices:
            choices[member.id] = CharacterChoice(id=member.id)
            others.append(choices[member.id])
            if len(chosen) + len(others) > MAX_CHARACTERS:
                limit = f"prompt: at most {MAX_CHARACTERS} characters, mentioned or chosen"
                raise ApiError(400, limit, "prompt", "too_many_characters")
        words.append(choices[member.id].target_word or member.word)
    return replace_mentions(prompt, mentions, words), [*chosen, *others]


def may_mention(prompt: str) -> bool:
    """Whether the prompt has an ``@`` at all."""
    return "@" in prompt or "＠" in prompt


def find_mentions(prompt: str, cast: Cast, field: str = "prompt") -> tuple[Mention, ...]:
    """The mentions of a prompt.

    Raises:
        ApiError: an ``@`` names nobody.
    """
    reading = read_mentions(prompt, cast.names)
    if reading.unread is not None:
        raise ApiError(400, describe_unread(field, reading.unread), field, "mention_unknown")
    return reading.mentions


async def refuse_mentions(text: str, field: str, characters: Characters, owner: str) -> None:
    """Refuse a text that mentions characters, or that has an ``@`` that names nobody."""
    if may_mention(text) and find_mentions(text, await characters.cast(owner), field):
        remedy = "characters are mentioned in the prompt only: leave the @ out"
        raise ApiError(400, f"{field}: {remedy}", field, "mention_unknown")


def find_mentioned(mention: Mention, cast: Cast) -> CastMember:
    """The only character of that name.

    Raises:
        ApiError: there is none, or more than one.
    """
    found = cast.named(mention.name)
    if len(found) == 1:
        return found[0]
    where = f"prompt: the mention at character {mention.start + 1}"
    if found:
        remedy = "several of your characters have this name: rename one, or choose it by its id in characters"
        raise ApiError(400, f"{where}: {remedy}", "prompt", "mention_ambiguous")
    raise ApiError(400, f"{where}: you have no character of this name", "prompt", "mention_unknown")
