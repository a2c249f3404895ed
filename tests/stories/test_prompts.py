"""Scripts and mentions: what people write, what is kept, and that one comes back as the other."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.characters.cast import Cast, CastMember
from components.stories.panel_plan import generation_digest, plan_panel
from components.stories.prompts import (
    StoredMention,
    expand_mentions,
    parse_prompt,
    prompt_from_json,
    prompt_to_json,
    render_prompt,
    unread_mention,
    update_names,
)
from components.stories.script import split_script
from components.stories.story import PanelCharacter

NAMES = ["Rob", "Ada Lovelace", "小明", "Zoë", "R2-D2", 'the "Rock"', "robo", "Ada", "O'Hara", "철수", "Rob runs", "★"]


def cast_of(*names: str) -> Cast:
    return Cast(CastMember(f"char-{index}", name, f"word{index}", 1) for index, name in enumerate(names))


CAST = cast_of(*NAMES)
MENTIONED = [f"@{name}" if " " not in name else f'@"{name}"' for name in NAMES if '"' not in name]
PIECES = st.one_of(
    st.text(max_size=8),
    st.sampled_from([*MENTIONED, *(f"@{name}" for name in NAMES), "@nobody", "@o’hara", "@'ada'", "@‘ada’", "@“ada"]),
    st.sampled_from(
        ['@"', "@", "＠", '"', "”", "’", "-", " ", "'s", "a@b.org", "a@b", "在海滩上", "runs", "x", "\u0301"]
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_a_prompt_comes_back_as_it_was_kept(text: str) -> None:
    kept = parse_prompt(text, CAST)
    assert prompt_from_json(prompt_to_json(kept)) == kept
    shown, mentions = render_prompt(kept, CAST)
    assert [shown[m.start : m.end][0] for m in mentions] == ["@"] * len(mentions)
    again = parse_prompt(shown, CAST)
    assert render_prompt(again, CAST) == (shown, mentions), "editing nothing changes nothing"
    meant = [part.character for part in kept if isinstance(part, StoredMention)]
    assert [part.character for part in again if isinstance(part, StoredMention)] == meant
    assert parse_prompt(shown, CAST, kept) == parse_prompt(shown, CAST)
    # Nothing that looks like a mention is drawn as text: it is a mention, or the reason why the panel is not drawn.
    at = unread_mention(kept, CAST)
    found = [match.start() for match in re.finditer(r"[@＠](?=\S)", shown)]
    inside = [range(m.start, m.end) for m in mentions]
    loose = [at for at in found if not any(at in span for span in inside) and not re.match(r"@b\.org", shown[at:])]
    assert at == (loose[0] if loose else None) or re.search(r"[@＠][A-Za-z0-9-]+\.", shown) is not None


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(NAMES), st.text(min_size=1, max_size=30).map(str.strip).filter(bool), st.text(max_size=10))
def test_a_renaming_is_followed_and_can_be_saved_again(old: str, new: str, rest: str) -> None:
    member = cast_of(old).unique(old)
    assert member is not None
    kept = (StoredMention(old, member.id), f" {rest}")
    renamed = Cast([CastMember(member.id, new, "robot", 1)])
    shown, mentions = render_prompt(kept, renamed)
    assert mentions[0].character == member.id
    again = parse_prompt(shown, renamed, kept)
    assert isinstance(again[0], StoredMention) and again[0].character == member.id
    assert render_prompt(update_names(kept, renamed), Cast())[0] == shown, "the last name outlives the character"


def test_a_name_in_a_script_without_spaces_ends_where_a_known_name_does() -> None:
    kept = parse_prompt("@小明在海滩上, @小红不在", CAST)
    assert kept == (StoredMention("小明", "char-2"), "在海滩上, ", StoredMention("小红不在", None))
    shown, mentions = render_prompt(kept, CAST)
    assert shown == '@"小明"在海滩上, @小红不在' and shown[mentions[0].start : mentions[0].end] == '@"小明"'
    assert expand_mentions(kept[:2], lambda _: "boy") == "boy 在海滩上, "


@pytest.mark.parametrize(
    ("text", "name", "rest"),
    [
        ("@O'Hara waves", "O'Hara", " waves"),
        ("@o’hara’s hat", "o’hara", "’s hat"),
        ("@‘O’Hara’ waves", "O’Hara", " waves"),
        ("@Ada Lovelace waves", "Ada Lovelace", " waves"),
        ("@ada  waves", "ada", "  waves"),
        ("@the “Rock” waves", "the “Rock”", " waves"),
        ('@“Ada Lovelace" waves', "Ada Lovelace", " waves"),
        ("＠철수가 달린다", "철수", "가 달린다"),
        ("@★!", "★", "!"),
    ],
)
def test_a_mention_is_the_longest_name_of_the_cast(text: str, name: str, rest: str) -> None:
    kept = parse_prompt(text, CAST)
    assert [part.name if isinstance(part, StoredMention) else part for part in kept] == [name, rest]
    assert isinstance(kept[0], StoredMention) and kept[0].character is not None


def test_a_name_that_is_created_later_does_not_swallow_what_follows() -> None:
    kept = parse_prompt("@Rob runs", cast_of("Rob"))
    later = cast_of("Rob", "Rob runs")
    shown, _ = render_prompt(kept, later)
    assert shown == '@"Rob" runs' and parse_prompt(shown, later) == kept


@pytest.mark.parametrize(
    ("text", "place"), [('@"@ROB㐀', 1), ('@"unfinished', 1), ("a @! there", 3), ("robot@home", 6), ("@@rob", 1)]
)
def test_a_panel_with_an_at_that_names_nobody_is_not_drawn(text: str, place: int) -> None:
    prompt = parse_prompt(text, CAST)
    plan = plan_panel("panel", prompt, [], "auto", True, "", (None,), CAST)
    assert plan.error is not None and plan.error["code"] == "mention_unknown"
    assert plan.error["message"].startswith(f"prompt: the @ at character {place} names nobody")
    assert plan_panel("panel", prompt, [], "auto", False, "", (None,), CAST).error is None, "without characters"


@pytest.mark.parametrize(
    ("style", "refused"), [("ink by @Ada", True), ("@", False), ("ink@home", True), ("ink", False)]
)
def test_a_style_mentions_nobody(style: str, refused: bool) -> None:
    error = plan_panel("panel", ("a robot",), [], "auto", True, style, (None,), CAST).error
    assert (error is not None and error["param"] == "style") is refused


def test_two_of_one_name_mean_what_they_meant() -> None:
    twins = Cast([CastMember("char-1", "Rob", "robot", 1), CastMember("char-2", "rob", "cat", 1)])
    assert parse_prompt("@rob", twins) == (StoredMention("rob", None),)
    before = (StoredMention("Rob", "char-2"),)
    assert parse_prompt("@rob waves", twins, before)[0] == StoredMention("rob", "char-2")


def test_an_unknown_name_means_who_is_given_it_later() -> None:
    kept = parse_prompt("@rob waves", Cast())
    assert render_prompt(kept, Cast())[1][0].character is None
    assert render_prompt(kept, cast_of("Rob"))[1][0].character == "char-0"


def test_a_digest_tells_what_would_draw_another_picture() -> None:
    prompt = parse_prompt("@rob waves", CAST)
    plain = generation_digest(prompt, [], "auto", True, "", CAST)
    renamed = Cast([CastMember("char-0", "Robert", "robot", 1)])
    assert generation_digest(prompt, [], "auto", True, "", renamed) == plain
    assert generation_digest(prompt, [], "auto", True, "", Cast()) == plain, "a deleted character changes no picture"
    assert generation_digest(prompt, [PanelCharacter("char-0")], "auto", True, "", CAST) == plain
    assert generation_digest(prompt, [PanelCharacter("char-1", 2.0)], "auto", True, "", CAST) == plain, "not mentioned"
    others = [
        generation_digest(prompt, [PanelCharacter("char-0", face_strength=0.5)], "auto", True, "", CAST),
        generation_digest(prompt, [], "64x64", True, "", CAST),
        generation_digest(prompt, [], "auto", False, "", CAST),
        generation_digest(prompt, [], "auto", True, "ink", CAST),
        generation_digest(parse_prompt("@rob sings", CAST), [], "auto", True, "", CAST),
    ]
    assert len({plain, *others}) == 1 + len(others)


def test_what_is_drawn_has_words_for_names_and_the_style() -> None:
    prompt = parse_prompt('@rob waves to @"ada lovelace" and @rob', CAST)
    plan = plan_panel("panel", prompt, [PanelCharacter("char-1", 0.5)], "auto", True, "ink", (None,), CAST)
    assert plan.error is None and plan.prompt == "word0 waves to word1 and word0, ink"
    assert plan.prompt_with_mentions == '@Rob waves to @"Ada Lovelace" and @Rob, ink'
    assert [(each.id, each.strength) for each in plan.characters] == [("char-0", 1.0), ("char-1", 0.5)]
    crowd = parse_prompt('@rob @"ada lovelace" @小明 @zoë @r2-d2', CAST)
    plan = plan_panel("panel", crowd, [], "auto", True, "", (None,), CAST)
    assert plan.error is not None and plan.error["code"] == "too_many_characters"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=20), max_size=10))
def test_a_script_is_its_lines(lines: list[str]) -> None:
    found = split_script("\n".join(lines))
    assert all(line == line.strip() and line for line in found)
    assert split_script("\n".join(found)) == [again for line in found for again in split_script(line)]


def test_marks_in_front_of_lines_are_dropped() -> None:
    script = "1. one\r\n2) two\n(3) three\n- four\n• five\n\n  12: six\n2001 was a year\n-5 degrees\n* "
    assert split_script(script) == ["one", "two", "three", "four", "five", "six", "2001 was a year", "-5 degrees"]
