"""Story mode: ``@rob meets @"Ada Lovelace"`` names the owner's characters inside the prompt.

A name stands for the character of that name, in any case, and is replaced by the character's word: what is drawn is
"robot meets woman". An ``@`` within a word, as in an e-mail address, is no mention.
"""

from __future__ import annotations

from collections.abc import Sequence

from components.characters.character import Character
from components.model.words import folded
from components.stories.mentions import Mention, find_mentions, replace_mentions
from deploy.api.error_responses import ApiError
from deploy.api.images.schema import MAX_CHARACTERS, CharacterChoice
from deploy.interfaces.protocols import Characters


async def resolve_mentions(
    prompt: str, chosen: Sequence[CharacterChoice], characters: Characters, owner: str
) -> tuple[str, list[CharacterChoice]]:
    """The prompt with words for names, and the characters it is about: those ``chosen``, then the others it mentions.

    A mentioned character that is chosen too has the word that it is chosen with.

    Raises:
        ApiError: a mention names none of the owner's characters, or several, or there are too many altogether.
    """
    mentions = find_mentions(prompt)
    choices: dict[str, CharacterChoice] = {}
    for choice in chosen:
        choices.setdefault(choice.id, choice)
    others, found, words = [], dict[str, Character](), []
    for mention in mentions:
        name = folded(mention.name)
        if name not in found:
            found[name] = await _named(mention, characters, owner)
        character = found[name]
        if character.id not in choices:
            choices[character.id] = CharacterChoice(id=character.id)
            others.append(choices[character.id])
        words.append(choices[character.id].target_word or character.target_word)
    if len(chosen) + len(others) > MAX_CHARACTERS:
        limit = f"prompt: at most {MAX_CHARACTERS} characters, mentioned or chosen"
        raise ApiError(400, limit, "prompt", "too_many_characters")
    return replace_mentions(prompt, mentions, words), [*chosen, *others]


async def _named(mention: Mention, characters: Characters, owner: str) -> Character:
    """The owner's only character of that name."""
    found = await characters.find(mention.name, owner)
    if len(found) == 1:
        return found[0]
    where = f"prompt: the mention at character {mention.start + 1}"
    if found:
        remedy = "several of your characters have this name: rename one, or choose it by its id in characters"
        raise ApiError(400, f"{where}: {remedy}", "prompt", "mention_ambiguous")
    raise ApiError(400, f"{where}: you have no character of this name", "prompt", "mention_unknown")
