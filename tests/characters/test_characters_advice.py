"""The advice on a reference picture, and the word taken from a description."""

from __future__ import annotations

import pytest
from PIL import Image, ImageDraw, ImageFilter

from components.characters.advice import advise, clutter, sharpness, subject_share
from components.characters.target_word import stated_word
from components.model.phrases import head_noun


def portrait(radius: int = 80, size: int = 256) -> tuple[Image.Image, Image.Image]:
    """A striped disc on a plain ground, and its mask."""
    picture, mask = Image.new("RGB", (size, size), "lightgrey"), Image.new("L", (size, size))
    box = (size // 2 - radius, size // 2 - radius, size // 2 + radius, size // 2 + radius)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    stripes = Image.new("RGB", (size, size), "navy")
    for x in range(0, size, 16):
        ImageDraw.Draw(stripes).rectangle((x, 0, x + 7, size), fill="orange")
    picture.paste(stripes, (0, 0), mask)
    return picture, mask


def said(picture: Image.Image, mask: Image.Image, reference_size: int = 128) -> str:
    return " ".join(advise(picture, mask, reference_size).sentences)


@pytest.mark.parametrize("shade", [0, 255])
def test_without_a_subject_there_is_nothing_else_to_say(shade: int) -> None:
    advice = advise(Image.new("RGB", (64, 64), "red"), Image.new("L", (64, 64), shade), 128)
    assert len(advice.sentences) == 1 and advice.sentences[0].startswith("No subject stands out")
    assert advice.subject_share == shade / 255


def test_a_good_portrait_needs_no_advice() -> None:
    advice = advise(*portrait(), reference_size=128)
    assert advice.sentences == () and advice.face_found is None
    assert (advice.width, advice.height, advice.subject_pixels) == (256, 256, 161)
    assert 0.3 < advice.subject_share < 0.32 and advice.sharpness > 0.1 and advice.clutter < 0.001


def test_advice_names_what_is_wrong() -> None:
    picture, mask = portrait()
    assert "blurred" in said(picture.filter(ImageFilter.GaussianBlur(6)), mask)
    assert said(picture, mask, 512) == "The subject is 161 pixels large: at least 512 would show its details."
    assert "fills" in said(*portrait(radius=30), reference_size=32)
    noise = Image.effect_noise(picture.size, 120).convert("RGB")
    noise.paste(picture, (0, 0), mask)
    assert "busy" in said(noise, mask)


def test_measures_move_the_right_way() -> None:
    picture, mask = portrait()
    assert sharpness(picture.filter(ImageFilter.GaussianBlur(3)), mask) < sharpness(picture, mask)
    assert subject_share(portrait(radius=40)[1]) < subject_share(mask)
    assert clutter(picture, mask) < 0.001


@pytest.mark.parametrize(
    ("description", "noun"),
    [
        ("a small red robot with a hat", "robot"),
        ("cat", "cat"),
        ("an old dog, brown, friendly", "dog"),
        ("a cup of tea", "cup"),
        ("the girl wearing glasses", "girl"),
        ("a T-shirt", "T-shirt"),
        ("with a hat", None),
        ("", None),
        ("Close-up photo of a running horse by the sea", "horse"),
        ("a photo of", "photo"),
        ("a walking stick", "stick"),
        ("sitting on the sofa", None),
        ("two cats that sleep", "cats"),
        ("the girl's dog runs", "dog"),
        ("a red one", None),
        ("一只猫在海滩上", None),
    ],
)
def test_the_head_noun_of_a_description(description: str, noun: str | None) -> None:
    assert head_noun(description) == noun


def test_a_given_word_goes_before_the_description_s() -> None:
    assert stated_word("machine", "a red robot") == ("machine", "given")
    assert stated_word("", "a red robot") == ("robot", "description")
    assert stated_word("", "with a hat") is None
