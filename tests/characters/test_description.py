"""The description that a character's pictures suggest."""

from __future__ import annotations

import random

import pytest
from PIL import Image, ImageDraw

from components.characters.character import Reference
from components.characters.description import color_shares, propose_description
from components.world.identities import sample_identity
from components.world.scenes import Placed, Scene, random_view, render


def striped(*colors: str, background: str = "white") -> Reference:
    """A square subject in stripes of equal width."""
    picture, mask = Image.new("RGB", (300, 300), background), Image.new("L", (300, 300), 0)
    for index, color in enumerate(colors):
        left, right = 50 + 200 * index / len(colors), 50 + 200 * (index + 1) / len(colors)
        ImageDraw.Draw(picture).rectangle((left, 50, right - 1, 249), color)
    ImageDraw.Draw(mask).rectangle((50, 50, 249, 249), 255)
    return Reference(picture, mask)


def test_colours_of_the_background_are_not_the_subjects() -> None:
    shares = color_shares([striped("firebrick", background="royalblue")])
    assert list(shares) == ["red"] and shares["red"] == pytest.approx(1)


def test_main_colours_come_first_and_a_vivid_detail_last() -> None:
    subject = striped(*["teal"] * 6, *["white"] * 3, "orange")
    assert propose_description([subject], "robot") == "a teal and white robot with orange details"
    assert propose_description([striped("orange")], "cat") == "an orange cat"


def test_views_are_counted_alike() -> None:
    small = Reference(*(image.resize((60, 60)) for image in (striped("green").picture, striped("green").mask)))
    shares = color_shares([striped("red"), small])
    assert shares["red"] == pytest.approx(0.5) and shares["green"] == pytest.approx(0.5)


def test_without_a_subject_the_word_is_left() -> None:
    nothing = Reference(Image.new("RGB", (40, 40), "red"), Image.new("L", (40, 40), 0))
    assert propose_description([nothing], "owl") == "an owl"


def test_the_toy_worlds_subjects_are_described_by_their_colours() -> None:
    rng = random.Random(0)
    right = 0
    for _ in range(60):
        identity = sample_identity(rng)
        shown = render(Scene((Placed(identity, random_view(rng), 0.7, (0.5, 0.5)),), "room", None, "", 1), 128)
        described = propose_description([Reference(shown.picture, shown.mask)], identity.kind)
        assert described.split(" with ")[0].endswith(identity.kind)
        right += identity.primary in described
    assert right >= 54
