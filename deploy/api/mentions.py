"""Mentions of characters in a prompt: ``@rob meets @"Ada Lovelace"``.

A mention refers to the owner's character of that name (case is ignored) and is replaced by the character's word: the
model gets "robot meets woman". An ``@`` inside a word, as in an e-mail address, is not a mention.
"""

from __future__ import annotations

from collections.abc import Sequence

from components.characters.character import Character
from components.model.words import folded
from components.stories.mention_syntax import Mention, find_mentions, replace_mentions, unread_mention
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
    mentions = find_mentions(prompt)
    if len({folded(mention.name) for mention in mentions}) > MAX_CHARACTERS:  # before each is looked up
        raise _too_many()
    if (unread := unread_mention(prompt, mentions)) is not None:
        remedy = 'write @name or @"two words", or leave the @ out'
        raise ApiError(
            400, f"prompt: the @ at character {unread + 1} names nobody: {remedy}", "prompt", "mention_unknown"
        )
    choices: dict[str, CharacterChoice] = {}
    for choice in chosen:
        choices.setdefault(choice.id, choice)
    others, by_name, words = [], dict[str, Character](), []
    for mention in mentions:
        name = folded(mention.name)
        if name not in by_name:
            by_name[name] = await _find_mentioned(mention, characters, owner)
        character = by_name[name]
        if character.id not in choices:
            choices[character.id] = CharacterChoice(id=character.id)
            others.append(choices[character.id])
        words.append(choices[character.id].target_word or character.target_word)
    if len(chosen) + len(others) > MAX_CHARACTERS:
        raise _too_many()
    return replace_mentions(prompt, mentions, words), [*chosen, *others]


def _too_many() -> ApiError:
    limit = f"prompt: at most {MAX_CHARACTERS} characters, mentioned or chosen"
    return ApiError(400, limit, "prompt", "too_many_characters")


async def _find_mentioned(mention: Mention, characters: Characters, owner: str) -> Character:
    """The only character of the owner with that name."""
    found = await characters.find(mention.name, owner)
    if len(found) == 1:
        return found[0]
    where = f"prompt: the mention at character {mention.start + 1}"
    if found:
        remedy = "several of your characters have this name: rename one, or choose it by its id in characters"
        raise ApiError(400, f"{where}: {remedy}", "prompt", "mention_ambiguous")
    raise ApiError(400, f"{where}: you have no character of this name", "prompt", "mention_unknown")
