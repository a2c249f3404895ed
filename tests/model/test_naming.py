"""One-step mode: the word for a reference is detected in the prompt, or generated and put into it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.config import PRESETS, Config, load_config
from components.errors import ArtifactError, ConfigError
from components.model.naming import Naming, WordNamer, read_nouns
from components.model.phrases import candidate_phrases, insert_noun, with_article
from components.model.pipeline import RealCustomPipeline
from components.model.words import find_word
from components.registry import versions
from components.world.identities import KINDS, Identity, sample_identity
from components.world.places import PLACES
from components.world.scenes import draw_reference
from tests.fixtures.tolerances import additions, bound
from workflows import generate

UNSEEN = 80
NOUNS = read_nouns(PRESETS / "nouns.txt")


@pytest.fixture(scope="module")
def namer() -> WordNamer:
    """The trained miniature's."""
    config = load_config("tiny")
    return WordNamer.from_config(config.model, config.naming)


@pytest.fixture(scope="module")
def unseen() -> list[tuple[Identity, Image.Image]]:
    rng = random.Random(20_000)
    identities = [sample_identity(rng, "held_out") for _ in range(UNSEEN)]
    return [(identity, draw_reference(identity, 128, rng)) for identity in identities]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat on the beach", ["cat", "beach"]),
        ("A teddy bear sitting on the red sofa", ["teddy", "teddy bear", "bear", "sofa"]),
        ("a cat, dog and a Cat", ["cat", "dog"]),
        ("the robot's T-shirt in 2 seconds", ["robot", "shirt", "seconds"]),
        ("a painting of three dancing wolves", ["painting", "dancing wolves", "wolves"]),
        ("on the left", []),
        ("", []),
        ("!?", []),
    ],
)
def test_phrases_that_may_name_a_thing(prompt: str, expected: list[str]) -> None:
    assert candidate_phrases(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("sitting on the beach", "a robot sitting on the beach"),
        ("Sitting on the beach", "a robot sitting on the beach"),
        ("on the beach", "a robot on the beach"),
        ("dressed as a pirate", "a robot dressed as a pirate"),
        (", at night.", "a robot at night"),
        ("a forest at night", "a robot, a forest at night"),
        ("painting of a castle", "a robot, painting of a castle"),
        ("Paris", "a robot, Paris"),
        ("", "a robot"),
        ("  ", "a robot"),
    ],
)
def test_a_noun_joins_a_prompt(prompt: str, expected: str) -> None:
    assert insert_noun("robot", prompt) == expected


@pytest.mark.parametrize("noun", ["apple", "owl", "umbrella", "hourglass", "orange car", "Igloo"])
def test_spoken_vowels_take_an(noun: str) -> None:
    assert with_article(noun) == f"an {noun}"


@pytest.mark.parametrize("noun", ["cat", "unicorn", "ukulele", "ufo", "European car", "one-eyed cat"])
def test_spoken_consonants_take_a(noun: str) -> None:
    assert with_article(noun) == f"a {noun}"


@settings(deadline=None)
@given(st.text(max_size=40), st.sampled_from(NOUNS))
def test_an_inserted_noun_is_the_first_thing_in_the_prompt(prompt: str, noun: str) -> None:
    start, _ = find_word(insert_noun(noun, prompt), noun)[0]
    assert start == len(with_article(noun)) - len(noun)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_every_candidate_is_a_phrase_of_the_prompt(prompt: str) -> None:
    assert all(phrase in prompt and find_word(prompt, phrase) for phrase in candidate_phrases(prompt))


def test_the_vocabulary_holds_each_noun_once() -> None:
    assert len(NOUNS) > 300
    assert sorted(set(NOUNS)) == sorted(NOUNS)
    assert [noun for noun in NOUNS if noun != noun.lower().strip()] == []


def test_nouns_of_the_vocabulary_can_be_detected() -> None:
    short = [noun for noun in NOUNS if len(noun.split()) <= 2]
    assert [noun for noun in short if noun not in candidate_phrases(f"sitting near {with_article(noun)}")] == []


def test_the_kind_is_detected_beside_another(namer: WordNamer, unseen: list[tuple[Identity, Image.Image]]) -> None:
    rng = random.Random(1)
    right = 0
    for identity, picture in unseen:
        pair = [identity.kind, rng.choice([kind for kind in KINDS if kind != identity.kind])]
        rng.shuffle(pair)
        prompt = f"a {pair[0]} and a {pair[1]} {PLACES[rng.choice(sorted(PLACES))]}"
        naming = namer.name(prompt, [picture])
        right += (naming.word, naming.how, naming.prompt) == (identity.kind, "detected", prompt)
    assert right / UNSEEN >= 0.9


def test_the_kind_is_generated_where_the_prompt_names_none(
    namer: WordNamer, unseen: list[tuple[Identity, Image.Image]]
) -> None:
    rng = random.Random(2)
    right = 0
    for identity, picture in unseen:
        place = PLACES[rng.choice(sorted(PLACES))]
        expected = (identity.kind, "generated", f"a {identity.kind} {place}")
        naming = namer.name(place, [picture])
        right += (naming.word, naming.how, naming.prompt) == expected
    assert right / UNSEEN >= 0.9


def test_a_word_for_another_thing_is_not_taken(namer: WordNamer, unseen: list[tuple[Identity, Image.Image]]) -> None:
    others = [(i, p, random.Random(i.key).choice([k for k in KINDS if k != i.kind])) for i, p in unseen]
    taken = [namer.name(f"a {other} at night", [picture]).word == other for _, picture, other in others]
    assert sum(taken) / UNSEEN <= 0.1


def test_plurals_and_capitals_are_detected_as_they_stand(namer: WordNamer) -> None:
    picture = _reference("robot")
    naming = namer.name("two Robots, under the sea", [picture])
    assert (naming.word, naming.how) == ("Robots", "detected")
    assert naming.score == pytest.approx(
        namer.scores(["robot"], [picture])[0], abs=bound(torch.float32, additions(namer.siglip))
    )


@pytest.mark.parametrize("prompt", ["", "!!", "🐱 日本", "a dragon's zyx-gizmo", "the " * 200])
def test_any_prompt_gets_a_word_it_then_holds(namer: WordNamer, prompt: str) -> None:
    naming = namer.name(prompt, [_reference("car")])
    assert (naming.word, naming.how) == ("car", "generated")
    assert find_word(naming.prompt, naming.word) and naming.prompt.endswith(prompt.strip(" !"))


def test_several_pictures_speak_together(namer: WordNamer) -> None:
    cars, rocket = [_reference("car", seed) for seed in range(3)], _reference("rocket")
    assert namer.name("a rocket and a car", [*cars, rocket]).word == "car"
    assert namer.scores(["car"], [cars[0], rocket])[0] < namer.scores(["car"], cars)[0]


def test_what_is_said_does_not_hang_on_the_order_of_pictures(namer: WordNamer) -> None:
    pictures = [_reference("cat", seed) for seed in range(3)]
    assert namer.name("a cat", pictures).score == pytest.approx(
        namer.name("a cat", pictures[::-1]).score, abs=bound(torch.float32, additions(namer.siglip))
    )


def test_a_poor_fit_is_still_the_prompts_own_word_if_nothing_fits_better(namer: WordNamer) -> None:
    strict = WordNamer(namer.siglip, namer.tokenizer, namer.config.model_copy(update={"threshold": 1.0}), namer.nouns)
    naming = strict.name("two Fish under the sea", [_reference("fish")])
    assert (naming.word, naming.how, naming.prompt) == ("Fish", "detected", "two Fish under the sea")


def test_no_picture_is_refused(namer: WordNamer) -> None:
    with pytest.raises(ValueError, match="picture"):
        namer.name("a cat", [])


def test_nouns_come_from_a_file(tmp_path: Path, config: Config) -> None:
    file = tmp_path / "nouns.txt"
    file.write_text("# mine\n\nteddy bear\n kite \n")
    nouns = load_config("tiny", [f"naming.nouns={file}"]).naming
    assert WordNamer.from_config(config.model, nouns).nouns == ["teddy bear", "kite"]
    for unusable, said in ((tmp_path / "none.txt", "none.txt"), (tmp_path, "read")):
        with pytest.raises(ConfigError, match=said):
            read_nouns(unusable)
    file.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="holds no noun"):
        read_nouns(file)


@pytest.mark.parametrize("wrong", ["naming.templates=[a photo]", "naming.nouns=[]", "naming.threshold=2"])
def test_wrong_settings_are_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong.partition("=")[0]):
        load_config("tiny", [wrong])


def test_a_siglip_without_its_tokenizer_is_refused(config: Config, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"model\.siglip"):
        WordNamer.from_config(config.model.model_copy(update={"siglip": str(tmp_path)}), config.naming)


def test_an_answer_says_the_word_how_and_the_score() -> None:
    assert str(Naming("robot", 0.973, "detected", "a robot")) == "'robot' (detected, score 0.97)"


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a fish in a room", "'fish' (detected"),
        ("in a room", "'fish' (generated"),
    ],
)
def test_generate_finds_the_word_and_says_so(
    prompt: str,
    said: str,
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained = load_config("tiny", ["sampling.steps=2"])
    monkeypatch.setattr(versions, "load_pipeline", lambda *_: RealCustomPipeline.from_config(config))
    _reference("fish").save(tmp_path / "fish.png")
    generate.run(trained, prompt, reference=tmp_path / "fish.png", output=tmp_path / "drawn.png")
    printed = capsys.readouterr().out
    assert said in printed and "fish in a room" in printed and "score 0." in printed
    assert Image.open(tmp_path / "drawn.png").size == (64, 64)


def _reference(kind: str, seed: int = 0) -> Image.Image:
    rng = random.Random(seed)
    return draw_reference(sample_identity(rng, "held_out", kind), 128, rng)
