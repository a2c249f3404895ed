"""Rules for English prompts: candidate phrases for the target word, and insertion of a noun.

Word lists and fixed rules in place of a parser: results are deterministic, and a wrong one can be traced to a rule.
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
#: Participles and similar words that describe a subject; most words in -ing are added by `_is_participle`.
_PARTICIPLES = _listed(
    "asleep awake bathed built covered crouched drawn dressed filled hidden leaned lit lost made painted parked",
    "perched photographed placed seated seen shown stood surrounded wrapped",
)
_NOUNS_IN_ING = _listed(
    "building ceiling clothing drawing duckling dumpling earring herring king painting pudding ring spring starling",
    "sterling stocking string swing thing viking wedding wing",
)
#: Not nouns: articles, pronouns, conjunctions, numbers, auxiliaries, positions in the image, adjectives.
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
#: A word of a head noun phrase; one in ’s is a determiner: "the girl's dog".
_LATIN = re.compile(r"[a-z\u00c0-\u024f\u1e00-\u1eff]")
_HEAD_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
#: What ends a head noun phrase beside prepositions and participles: "a robot | with a red hat".
_ENDS_HEAD = _listed(
    "and or but while as that who which where when is are was were be been has have had does do can will",
    "wears holds carries sits stands lies looks runs walks plays eats sleeps",
)
#: What a caption says of the picture before it says what it shows.
_OF_A_PICTURE = re.compile(
    r"^(?:[\w-]+\s+){0,4}?(?:photo(?:graph)?|picture|image|portrait|painting|drawing|sketch|illustration|rendering|shot|"
    r"view|close-?up|closeup|snapshot)s?\s+of\s+",
    re.IGNORECASE,
)
#: Spaces and punctuation around a text.
_PUNCTUATION = re.compile(r"^[\s,.;:!?-]+|[\s,.;:!?-]+$")
#: Starts of words that take "an".
_VOWEL_SOUND = re.compile(r"(?!eu|ewe|one\b|once\b|u(?:ni|ku|fo|se|ti))[aeiou]|hour|heir|honest")


def candidate_phrases(prompt: str) -> list[str]:
    """Words and pairs of adjacent words of ``prompt`` that may be a noun phrase, without duplicates, in order.

    >>> candidate_phrases("A teddy bear sitting on the red sofa")
    ['teddy', 'teddy bear', 'bear', 'sofa']
    """
    words = split_words(prompt)
    found: dict[str, str] = {}
    for first, second in zip_longest(words, words[1:]):
        if _may_be_noun(first):
            single = prompt[first.start : first.end]
            found.setdefault(single.casefold(), single)
        if second and adjacent(prompt, first, second) and _may_be_noun(second) and _may_start_pair(first):
            pair = prompt[first.start : second.end]
            found.setdefault(pair.casefold(), pair)
    return list(found.values())


def head_noun(text: str) -> str | None:
    """The head noun of the first phrase of a caption or description; None if it begins with none.

    That is the last word before the first preposition, participle, verb or punctuation mark, after "a photo of". Words
    in other letters than Latin ones are none.

    >>> head_noun("a small red robot with a hat"), head_noun("Close-up photo of a cat asleep"), head_noun("on a sofa")
    ('robot', 'cat', None)
    """
    phrase = re.split(r"[,.;:!?()\n]", text.strip(), maxsplit=1)[0]
    shown = _OF_A_PICTURE.sub("", phrase, count=1)
    return _head(shown) or _head(phrase)


def _head(phrase: str) -> str | None:
    nouns: list[str] = []
    for match in _HEAD_WORD.finditer(phrase):
        word = match[0].lower()
        is_participle = _is_participle(word)
        if word in _ENDS_HEAD or word in _PREPOSITIONS or (nouns and is_participle):
            break
        if not is_participle and word not in _OTHERS and _LATIN.match(word):  # participle: "walking stick"
            nouns.append(match[0])
    return nouns[-1] if nouns else None


def insert_noun(noun: str, prompt: str) -> str:
    """``prompt`` with ``noun`` inserted at the start, where truncation never drops it.

    A prompt that starts with a preposition or a participle follows the noun directly, any other one after a comma.

    >>> insert_noun("robot", "Sitting on the beach"), insert_noun("owl", "a forest at night"), insert_noun("owl", "")
    ('a robot sitting on the beach', 'an owl, a forest at night', 'an owl')
    """
    rest = _PUNCTUATION.sub("", prompt)
    words = split_words(rest)
    if not words:
        return with_article(noun)
    first = words[0]
    if first.start == 0 and (first.text in _PREPOSITIONS or _is_participle(first.text)):
        return f"{with_article(noun)} {rest[0].lower()}{rest[1:]}"
    return f"{with_article(noun)}, {rest}"


def with_article(noun: str) -> str:
    """``noun`` with its indefinite article: an hour, a unicorn."""
    return f"{'an' if _VOWEL_SOUND.match(noun.lower()) else 'a'} {noun}"


def spelled_in(prompt: str, noun: str) -> str | None:
    """The first occurrence of ``noun`` as spelled in ``prompt`` ("Cats" for "cat"); None if there is none."""
    spans = find_word(prompt, noun)
    return prompt[slice(*spans[0])] if spans else None


def _may_be_noun(word: Word) -> bool:
    text = word.text
    excluded = text in _PREPOSITIONS or text in _OTHERS or _is_participle(text)
    return len(text) > 1 and not text.isnumeric() and not excluded


def _may_start_pair(word: Word) -> bool:
    """Whether a pair may start with ``word``; a word in -ing may: "rocking horse"."""
    return _may_be_noun(word) or (word.text.endswith("ing") and word.text not in _PREPOSITIONS | _OTHERS)


def _is_participle(text: str) -> bool:
    return text in _PARTICIPLES or (len(text) > 4 and text.endswith("ing") and text not in _NOUNS_IN_ING)
