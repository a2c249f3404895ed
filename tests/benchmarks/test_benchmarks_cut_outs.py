"""Cut-outs without a box: measured on the toy world, whole and cut off by the border."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.cut_outs import overlaps, sheet, toy_cases
from components.characters.advice import advise
from components.data.region import subject_mask


def test_subjects_are_found_whether_the_border_cuts_them_off_or_not() -> None:
    means = {framing: float(np.mean(values)) for framing, values in overlaps(12).items()}
    assert means.keys() == {"whole", "bust", "close", "side"}
    assert means["whole"] > 0.9 and means["bust"] > 0.9, means
    assert np.mean([means[framing] for framing in ("bust", "close", "side")]) > 0.9, means


def test_the_framings_are_cut_off_by_the_border() -> None:
    for framing, picture, mask in toy_cases(3):
        truth = np.asarray(mask) > 127
        assert picture.size == mask.size and truth.any()
        if framing != "whole":
            assert truth[-1].any() or truth[:, 0].any()


def test_a_subject_at_the_border_keeps_what_touches_it() -> None:
    picture, truth = Image.new("RGB", (160, 160), "lightblue"), Image.new("L", (160, 160))
    for image, color in ((picture, "darkred"), (truth, 255)):
        draw = ImageDraw.Draw(image)
        draw.ellipse((55, 25, 105, 75), fill=color)
        draw.rounded_rectangle((25, 80, 135, 200), 30, fill=color)
    found, expected = np.asarray(subject_mask(picture)) > 127, np.asarray(truth) > 127
    assert (found & expected).sum() / (found | expected).sum() > 0.95
    assert found[-1].mean() > 0.6, "the shoulders reach the border"


def test_a_subject_that_cannot_be_told_from_the_background_is_said_so() -> None:
    noise = np.random.default_rng(0).normal(128, 2, (120, 120, 3)).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(noise)
    mask = subject_mask(picture)
    assert mask.getextrema() == (255, 255)
    assert advise(picture, mask, 64).sentences[0].startswith("No subject stands out from the background")


def test_the_sheet_shows_each_subject(tmp_path: Path) -> None:
    for name in ("cat", "duck"):
        (tmp_path / name).mkdir()
        for _, picture, _ in list(toy_cases(1))[:1]:
            picture.save(tmp_path / name / "00.jpg")
    (tmp_path / "prompts.txt").write_text("no picture")
    made = sheet(tmp_path)
    assert made.size == (1600, 186) and made.getpixel((2, 2)) != (255, 255, 255)
