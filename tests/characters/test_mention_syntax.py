"""Mentions in prompts: the longest known name, however it is written, and every ``@`` accounted for."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.characters.cast import Cast, CastMember
from components.characters.mention_names import KnownNames, name_key
from components.characters.mention_syntax import mentionable, read_mentions, replace_mentions, write_mention
from tests.fixtures import mention_cases


def names_of(*names: str) -> KnownNames:
    return KnownNames(name_key(mentionable(name)) for name in names)


def test_the_cases_that_the_studio_is_tested_with_are_how_prompts_are_read() -> None:
    stored = json.loads(mention_cases.PATH.read_text())
    assert tuple(stored["names"]) == mention_cases.NAMES and len(stored["cases"]) > 300
    assert [mention_cases.read(case["prompt"]) for case in stored["cases"]] == stored["cases"]


@pytest.mark.parametrize(
    ("prompt", "names", "expected"),
    [
        ("@Ada Lovelace runs", ["Ada", "Ada Lovelace"], ["Ada Lovelace"]),
        ("@Ada runs", ["Ada", "Ada Lovelace"], ["Ada"]),
        ("@Adam runs", ["Ada", "Ada Lovelace"], ["Adam"]),
        ("@O'Hara's hat", ["O", "O’Hara"], ["O'Hara"]),
        ("@O'Hara's hat", [], ["O'Hara"]),
        ("@James' hat, @James’s cat", ["James"], ["James", "James"]),
        ("@'O'Hara' and @‘O’Hara’", ["O'Hara"], ["O'Hara", "O’Hara"]),
        ("@'n Sync sings", ["'n Sync"], ["'n Sync"]),
        ("＠“Ada Lovelace”", ["Ada Lovelace"], ["Ada Lovelace"]),
        ('@“Ada Lovelace" and @"Ada”', ["Ada Lovelace", "Ada"], ["Ada Lovelace", "Ada"]),
        ("@Rob@Ada", ["Rob", "Ada"], ["Rob", "Ada"]),
        ("我看到@小明明在海滩上", ["小明", "小明明"], ["小明明"]),
        ("@小明and @小明2", ["小明"], ["小明", "小明2"]),
        ("@철수가 @น้องไป @राम", ["철수", "น้อง", "राम"], ["철수", "น้อง", "राम"]),
        ("@राम", [], ["राम"]),
        ("❤️@rob", ["Rob"], ["rob"]),
        ("hello@Rob", ["Rob"], ["Rob"]),
        ("@🤖 runs", ["🤖"], ["🤖"]),
        ("@Jean-Luc and @Jean-Paul", ["Jean", "Jean-Luc"], ["Jean-Luc", "Jean-Paul"]),
    ],
)
def test_the_longest_known_name_is_mentioned(prompt: str, names: list[str], expected: list[str]) -> None:
    reading = read_mentions(prompt, names_of(*names))
    assert [mention.name for mention in reading.mentions] == expected
    assert reading.unread is None


def written(name: str) -> st.SearchStrategy[str]:
    """Ways to write a name that mean the same."""
    return st.sampled_from(
        [
            *(name, name.upper(), name.lower(), unicodedata.normalize("NFD", name), name.replace("'", "’")),
            *(f'"{name}"', f"“{name}”", f"„{name}“", f"«{name}»", f"「{name}」", f"‘{name}’", f"'{name}'", f'“{name}"'),
        ]
    )


ALPHABET = st.one_of(
    st.characters(categories=["L", "N"], max_codepoint=0xD7FF),
    st.sampled_from(list("abAB '’-. 小明가น้é")),
)
NAME = st.text(ALPHABET, min_size=1, max_size=12).map(lambda name: " ".join(name.split()).strip("'’ ")).filter(bool)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.lists(NAME, min_size=1, max_size=4), st.sampled_from(["@", "＠"]))
def test_a_known_name_is_found_however_it_is_written(data: st.DataObject, names: list[str], at: str) -> None:
    name = data.draw(st.sampled_from(names))
    before = data.draw(st.sampled_from(["", "see ", "看", "(", "…"]))
    following = data.draw(st.sampled_from(["", ", then", ") x", "。", "\n", "!"]))
    text = data.draw(written(name))
    (mention,) = read_mentions(before + at + text + following, names_of(*names)).mentions
    assert name_key(mention.name) in {name_key(form) for form in (name, name.upper(), name.lower())}
    assert mention.start == len(before)


@settings(max_examples=300, deadline=None)
@given(NAME, st.lists(NAME, max_size=3), st.text(max_size=4), st.text(max_size=12))
@example("@", [], "", "㐀")
@example("ROB", ["ROB"], '@"', "㐀")
@example("home", ["home"], "me", ".org")
@example("Rob", ["Rob", "Rob x"], "", " x")
def test_a_written_mention_is_read_as_that_name(name: str, others: list[str], before: str, following: str) -> None:
    names = names_of(name, *others)
    mention = write_mention(name, before, following, names)
    read = {found.start: found for found in read_mentions(before + mention + following, names).mentions}
    if any(found.start < len(before) < found.end for found in read.values()):
        return  # the text before begins a mention of its own
    assert (found := read.get(len(before))) is not None
    assert (found.end, found.name) == (len(before) + len(mention), mentionable(name))


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from(list("@＠\"“”'’ abR小.-!")), max_size=20), st.booleans())
@example('@"@ROB㐀', True)
def test_every_at_is_a_mention_text_or_reported(prompt: str, known: bool) -> None:
    reading = read_mentions(prompt, names_of("a", "R", "小", "a b") if known else KnownNames())
    spans = [range(mention.start, mention.end) for mention in reading.mentions]
    assert all(one.stop <= other.start for one, other in pairwise(spans))
    assert all(prompt[mention.start] in "@＠" and mention.name.strip() for mention in reading.mentions)
    for match in re.finditer(r"[@＠](?=\S)", prompt):
        is_email = re.match(r"[a-zA-Z-]*\.[a-zA-Z.-]*[a-zA-Z]{2}", prompt[match.start() + 1 :]) is not None
        mentioned = any(match.start() in span for span in spans)
        assert mentioned or is_email or (reading.unread is not None and reading.unread <= match.start())


def test_words_are_set_apart_from_letters_beside_mentions() -> None:
    prompt = "看到@小明在@Rob's"
    reading = read_mentions(prompt, names_of("小明", "Rob"))
    assert replace_mentions(prompt, reading.mentions, ["boy", "robot"]) == "看到 boy 在 robot's"


def test_names_are_compared_without_case_composition_and_kinds_of_marks() -> None:
    cast = Cast(CastMember(f"char-{i}", name, "robot", 1) for i, name in enumerate(["Zoë", "ZOE\u0308", "O'Hara"]))
    assert [member.id for member in cast.named("zoë")] == ["char-0", "char-1"]
    assert cast.unique("zoë") is None and cast.unique("o’hara") is not None and cast.named("nobody") == []


def test_many_names_and_mentions_are_read_quickly() -> None:
    names = names_of(*(f"Character number {index}" for index in range(2000)), *("x" * index for index in range(1, 100)))
    started = time.process_time()
    read_mentions("@Character number x" * 210, names)
    read_mentions("@" * 4000, names), read_mentions('@"' * 2000, names), read_mentions("@a'" * 1300, names)
    assert time.process_time() - started < 2
