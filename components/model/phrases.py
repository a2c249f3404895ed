"""A little English, without a parser: which phrases of a prompt may name a thing, and how a noun joins a prompt.

Closed lists of words and fixed rules: the same prompt always gives the same answer, and a wrong one can be explained.
"""

from __future__ import annotations

import re
from itertools import zip_longest

from components.model.words import Word, adjacent, find_word, split_words


def _listed(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


_PREPOSITIONS = _listed(
    "about above across after against along amid among around as at before behind below beneath beside besides",
    "between beyond by down during for from in inside into like near next of off on onto opposite out outside over",
    "past through throughout to toward towards under underneath until up upon via with within without",
)
#: Words that describe what a subject does or how it is; besides these, most words in -ing.
_PARTICIPLES = _listed(
    "asleep awake bathed built covered crouched drawn dressed filled hidden leaned lit lost made painted parked",
    "perched photographed placed seated seen shown stood surrounded wrapped",
)
_NOUNS_IN_ING = _listed(
    "building ceiling clothing drawing duckling dumpling earring herring king painting pudding ring spring starling",
    "sterling stocking string swing thing viking wedding wing",
)
#: Words that name no thing: articles, pronouns, conjunctions, numbers, auxiliaries, spots of the picture, adjectives.
_OTHERS = _listed(
    "a an the this that these those my your his her its our their some any each every all both no another other such",
    "i you he she it we they me him us them who which what where when while and or but nor so than then if not",
    "one two three four five six seven eight nine ten many several few more most much lots",
    "am is are was were be been being do does did has have had can could will would shall should may might must",
    "there here very too also just only quite really",
    "left right middle center centre top bottom front back side background foreground corner edge",
    "black white red green blue yellow purple pink brown grey gray colorful colourful bright dark",
    "big small little large huge tiny tall short long old new young",
    "beautiful cute pretty nice happy sad realistic detailed",
)
_PAUSE = re.compile(r"^[\s,.;:!?-]+|[\s,.;:!?-]+$")
_SPOKEN_VOWEL = re.compile(r"(?!eu|ewe|one\b|once\b|u(?:ni|ku|fo|se|ti))[aeiou]|hour|heir|honest")


def candidate_phrases(prompt: str) -> list[str]:
    """Single words and pairs of neighbouring words of ``prompt`` that may name a thing, each once, in reading order.

    >>> candidate_phrases("A teddy bear sitting on the red sofa")
    ['teddy', 'teddy bear', 'bear', 'sofa']
    """
    words = split_words(prompt)
    found: dict[str, str] = {}
    for first, second in zip_longest(words, words[1:]):
        if _may_name(first):
            alone = prompt[first.start : first.end]
            found.setdefault(alone.casefold(), alone)
        if second and adjacent(prompt, first, second) and _may_name(second) and _may_open_pair(first):
            pair = prompt[first.start : second.end]
            found.setdefault(pair.casefold(), pair)
    return list(found.values())


def insert_noun(noun: str, prompt: str) -> str:
    """``prompt`` with ``noun`` as its subject, at the front, where the text encoder never cuts it off.

    A prompt that opens with a preposition or a participle goes on about the noun; any other follows a comma.

    >>> insert_noun("robot", "Sitting on the beach"), insert_noun("owl", "a forest at night"), insert_noun("owl", "")
    ('a robot sitting on the beach', 'an owl, a forest at night', 'an owl')
    """
    rest = _PAUSE.sub("", prompt)
    words = split_words(rest)
    if not words:
        return with_article(noun)
    opening = words[0]
    if opening.start == 0 and (opening.text in _PREPOSITIONS or _is_participle(opening.text)):
        return f"{with_article(noun)} {rest[0].lower()}{rest[1:]}"
    return f"{with_article(noun)}, {rest}"


def with_article(noun: str) -> str:
    """``noun`` after "a" or "an", by how it is spoken: an hour, a unicorn."""
    return f"{'an' if _SPOKEN_VOWEL.match(noun.lower()) else 'a'} {noun}"


def spelled_in(prompt: str, noun: str) -> str | None:
    """``noun`` as ``prompt`` spells it the first time ("Cats" for "cat"), None if it is not there."""
    spans = find_word(prompt, noun)
    return prompt[slice(*spans[0])] if spans else None


def _may_name(word: Word) -> bool:
    text = word.text
    closed = text in _PREPOSITIONS or text in _OTHERS or _is_participle(text)
    return len(text) > 1 and not text.isnumeric() and not closed


def _may_open_pair(word: Word) -> bool:
    """A rocking horse, and so a dancing horse too: which of them fits better is for the picture to say."""
    return _may_name(word) or (word.text.endswith("ing") and word.text not in _PREPOSITIONS | _OTHERS)


def _is_participle(text: str) -> bool:
    return text in _PARTICIPLES or (len(text) > 4 and text.endswith("ing") and text not in _NOUNS_IN_ING)
