"""The callables that preparation is made of: near-duplicates, buckets, crops, captions, regions."""

from __future__ import annotations

import io
import math
import random
import sys
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance

from components.config import load_config
from components.data.aspect_buckets import Bucket, buckets, choose_bucket
from components.data.caption_cleaning import MAX_CHARACTERS, clean_caption
from components.data.crop import Crop, crop_to
from components.data.duplicates import NEAR, find_duplicates, hash_bits, picture_hash
from components.data.region import NetworkRegion, region_finder, subject_mask
from components.errors import ConfigError, DataError
from components.model.words import find_word
from components.world.identities import sample_identity
from components.world.scenes import render, sample_scene

DREAMBENCH = Path(__file__).parents[3] / "shared" / "dreambench" / "dataset"
needs_photographs = pytest.mark.skipif(
    not DREAMBENCH.is_dir(), reason=f"the photographs of DreamBench are not at {DREAMBENCH}"
)

# -- near-duplicates


def encoded(picture: Image.Image, form: str, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, form, quality=quality)
    return Image.open(buffer).convert("RGB")


def cropped(picture: Image.Image, share: float) -> Image.Image:
    x, y = round(share * picture.width), round(share * picture.height)
    return picture.crop((x, y, picture.width - x, picture.height - y))


#: What leaves a photograph the same one, and the least share of the photographs that is recognised after it.
SAME: dict[str, tuple[Callable[[Image.Image], Image.Image], float]] = {
    "jpeg": (lambda p: encoded(p, "JPEG", 20), 1.0),
    "webp": (lambda p: encoded(p, "WEBP", 50), 1.0),
    "smaller": (lambda p: encoded(p.resize((p.width // 3, p.height // 3)), "JPEG", 70), 1.0),
    "larger": (lambda p: p.resize((p.width * 3 // 2, p.height * 3 // 2)), 1.0),
    "darker": (lambda p: ImageEnhance.Brightness(p).enhance(0.8), 1.0),
    "brighter": (lambda p: ImageEnhance.Brightness(p).enhance(1.2), 0.9),
    "more contrast": (lambda p: ImageEnhance.Contrast(p).enhance(1.2), 1.0),
    "1 % off each side": (lambda p: cropped(p, 0.01), 1.0),
    "2 % off each side": (lambda p: cropped(p, 0.02), 0.7),
}


def bits(digits: str) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8))


def distance(one: str, other: str) -> int:
    return int((bits(one) != bits(other)).sum())


def hex_of(row: NDArray[np.generic]) -> str:
    return np.packbits(row.astype(np.uint8)).tobytes().hex()


def duplicates_of(hashes: dict[str, str], near: int = NEAR) -> dict[str, str]:
    """The names of duplicates, each with the first of its kind."""
    names = list(hashes)
    first = find_duplicates(np.array([hash_bits(each) for each in hashes.values()], np.uint64).reshape(-1, 4), near)
    return {name: names[at] for name, at in zip(names, first, strict=True) if names[at] != name}


@pytest.fixture(scope="module")
def photographs() -> dict[str, Image.Image]:
    files = sorted(DREAMBENCH.glob("*/*.jpg"))
    return {str(file.relative_to(DREAMBENCH)): Image.open(file).convert("RGB") for file in files}


@needs_photographs
def test_no_photograph_is_taken_for_another_one(photographs: dict[str, Image.Image]) -> None:
    """Not even one of the same subject; the threshold lies far below the nearest pair."""
    hashes = {name: picture_hash(picture) for name, picture in photographs.items()}
    assert len(hashes) > 100 and duplicates_of(hashes) == {}
    rows = np.array([bits(digits) for digits in hashes.values()])
    apart = (rows[:, None] != rows[None]).sum(-1)[np.triu_indices(len(rows), 1)]
    assert apart.min() > 2.5 * NEAR


@needs_photographs
@pytest.mark.parametrize("edit", SAME)
def test_an_edited_photograph_is_recognised(photographs: dict[str, Image.Image], edit: str) -> None:
    change, share = SAME[edit]
    chosen = dict(list(photographs.items())[::3])
    hashes = {name: picture_hash(picture) for name, picture in chosen.items()}
    hashes |= {f"{name} again": picture_hash(change(picture)) for name, picture in chosen.items()}
    found = duplicates_of(hashes)
    assert all(f"{original} again" == copy for copy, original in found.items()), "and for no other"
    assert len(found) >= share * len(chosen)


@needs_photographs
def test_a_mirrored_photograph_is_another_view(photographs: dict[str, Image.Image]) -> None:
    for picture in list(photographs.values())[::5]:
        mirrored = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert distance(picture_hash(picture), picture_hash(mirrored)) > NEAR


@pytest.mark.parametrize("size", [64, 128])
def test_toy_pictures_of_different_identities_and_views_are_different(size: int) -> None:
    rng = random.Random(3)
    pictures = {}
    for number in range(60):
        identity = sample_identity(rng, "train")
        for view in range(3):
            pictures[f"{number}-{view}"] = render(sample_scene(rng, identity), size).picture
    assert duplicates_of({name: picture_hash(picture) for name, picture in pictures.items()}) == {}
    again = {f"{name} again": encoded(picture, "JPEG", 50) for name, picture in pictures.items()}
    found = duplicates_of({name: picture_hash(picture) for name, picture in (pictures | again).items()})
    assert found == {copy: copy.removesuffix(" again") for copy in again}


def test_grey_pictures_are_told_apart_by_their_brightness() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (40, 6, 6), np.uint8)
    pictures = [Image.fromarray(c).resize((200, 160), Image.Resampling.BICUBIC).convert("RGB") for c in coarse]
    hashes = {str(number): picture_hash(picture) for number, picture in enumerate(pictures)}
    assert duplicates_of(hashes) == {}
    assert all(distance(hashes[str(n)], picture_hash(encoded(p, "JPEG", 40))) <= NEAR for n, p in enumerate(pictures))


def naive(hashes: dict[str, str], near: int) -> dict[str, str]:
    """Connected components by comparing everything with everything."""
    ids, original = list(hashes), {name: name for name in hashes}
    changed = True
    while changed:
        changed = False
        for i, one in enumerate(ids):
            for other in ids[i + 1 :]:
                if original[one] != original[other] and distance(hashes[one], hashes[other]) <= near:
                    both = original[one], original[other]
                    first = min(both, key=ids.index)
                    original = {name: first if o in both else o for name, o in original.items()}
                    changed = True
    return {name: o for name, o in original.items() if o != name}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2, 7, 8, 15, 16, 20, 31, 40]), st.integers(1, 30))
def test_duplicates_are_those_that_comparing_all_pairs_finds(seed: int, near: int, number: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [rng.random(256) < 0.5]
    for _ in range(number - 1):
        # A fresh hash, or an earlier one with about as many bits changed as decide.
        row = rows[rng.integers(len(rows))].copy() if rng.random() < 0.7 else rng.random(256) < 0.5
        flipped = rng.choice(256, size=max(0, near + int(rng.integers(-2, 3))), replace=False)
        row[flipped] ^= True
        rows.append(row)
    hashes = {f"picture {i}": hex_of(row) for i, row in enumerate(rows)}
    assert duplicates_of(hashes, near) == naive(hashes, near)


def test_a_chain_leads_to_its_first_picture() -> None:
    rows = np.zeros((4, 256), bool)
    for step in range(1, 4):
        rows[step, : step * NEAR] = True
    hashes = {name: hex_of(row) for name, row in zip("dbca", rows, strict=True)}
    assert duplicates_of(hashes) == {"b": "d", "c": "d", "a": "d"}
    assert duplicates_of({name: hashes[name] for name in "da"}) == {}
    assert duplicates_of({}) == {}


def test_many_copies_of_one_picture_are_no_trouble() -> None:
    same = {str(i): "ab" * 32 for i in range(100_000)}
    assert duplicates_of(same) == {str(i): "0" for i in range(1, 100_000)}


def test_thousands_of_pictures_are_searched_without_comparing_all() -> None:
    """Every planted copy is found among 20,000, and nothing else."""
    rng = np.random.default_rng(5)
    rows = rng.random((20_000, 256)) < 0.5
    for copy, original in zip(range(10_000, 10_500), rng.permutation(10_000), strict=False):
        rows[copy] = rows[original]
        rows[copy, rng.choice(256, size=rng.integers(0, NEAR + 1), replace=False)] ^= True
    found = duplicates_of({str(i): hex_of(row) for i, row in enumerate(rows)})
    assert len(found) == 500
    assert all(distance(hex_of(rows[int(a)]), hex_of(rows[int(b)])) <= NEAR for a, b in found.items())


# -- buckets

#: The resolutions that Stability AI recommends for SDXL, all of them among those it was trained on.
SDXL = {
    (1024, 1024), (1152, 896), (896, 1152), (1216, 832), (832, 1216),
    (1344, 768), (768, 1344), (1536, 640), (640, 1536),
}  # fmt: skip


def test_at_sdxl_s_size_the_buckets_are_sdxl_s() -> None:
    found = buckets(1024, 64, 4.0)
    assert set(found) >= SDXL | {(2048, 512), (512, 2048), (704, 1344), (960, 1024)}
    assert len(found) == 41 and found[0] == (1024, 1024)
    assert found[1].name == "1024x960"


@pytest.mark.parametrize(("preset", "square"), [("tiny", True), ("sdxl", False)])
def test_presets_choose_their_shapes(preset: str, square: bool) -> None:
    data = load_config(preset).data
    found = buckets(data.image_size, data.bucket_step, data.max_aspect)
    assert found[0] == (data.image_size, data.image_size) and (len(found) == 1) is square
    assert square or found == tuple(b for b in buckets(1024, 64, 4.0) if max(b) <= 2 * min(b))


sizes = st.integers(2, 40).map(lambda n: 32 * n)
steps = st.sampled_from([16, 32, 64])
aspects = st.floats(1, 4)


@settings(deadline=None)
@given(sizes, steps, aspects)
@example(64, 64, 2.0)
def test_buckets_keep_their_promises(size: int, step: int, aspect: float) -> None:
    found = buckets(size, step, aspect)
    assert found[0] == (size, size) and len(found) == len(set(found))
    assert {Bucket(b.height, b.width) for b in found} == set(found), "as many tall ones as wide ones"
    shapes = [b.width / b.height for b in found]
    assert len(set(shapes)) == len(shapes), "one bucket a shape"
    for bucket in found[1:]:
        assert bucket.width % step == bucket.height % step == 0
        assert 0.9 * size * size <= bucket.width * bucket.height <= size * size
        assert max(bucket) <= aspect * min(bucket)


@given(sizes, steps)
def test_without_other_aspects_there_is_the_square_alone(size: int, step: int) -> None:
    assert buckets(size, step, 1.0) == ((size, size),)


@settings(deadline=None)
@given(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), st.floats(1, 4))
def test_no_bucket_has_a_nearer_shape_than_the_chosen(size: tuple[int, int], aspect: float) -> None:
    found = buckets(512, 64, aspect)
    chosen = choose_bucket(size, found)

    def lost(bucket: Bucket) -> float:
        return abs(math.log(size[0] / size[1]) - math.log(bucket.width / bucket.height))

    assert chosen in found and lost(chosen) == min(map(lost, found))
    assert found.index(chosen) == min(i for i, bucket in enumerate(found) if lost(bucket) == lost(chosen))
    assert all(choose_bucket(tuple(bucket), found) == bucket for bucket in found)


def test_a_tie_goes_to_the_earlier() -> None:
    assert choose_bucket((100, 100), (Bucket(64, 128), Bucket(128, 64))) == (64, 128)


# -- crops


def masked(size: tuple[int, int], subject: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, subject)
    return mask


@pytest.mark.parametrize(
    ("size", "subject", "bucket", "box"),
    [
        ((200, 100), (80, 10, 120, 90), (50, 50), (50, 0, 150, 100)),  # in the middle already
        ((200, 100), (150, 10, 196, 90), (50, 50), (96, 0, 196, 100)),  # moved just far enough to the right
        ((200, 100), (0, 0, 140, 100), (50, 50), (20, 0, 120, 100)),  # longer than the window: its middle
        ((100, 200), (10, 150, 90, 200), (50, 50), (0, 100, 100, 200)),
        ((400, 200), (300, 10, 390, 90), (96, 64), (90, 0, 390, 200)),  # a wide window of a wider picture
        ((400, 200), (300, 10, 390, 90), (64, 96), (257, 0, 390, 200)),  # a tall one: 133 of 400 pixels
        ((400, 200), (0, 0, 400, 200), (128, 64), (0, 0, 400, 200)),  # of the picture's own shape
        ((200, 400), (10, 20, 90, 60), (96, 64), (0, 20, 200, 153)),
    ],
)
def test_window_is_as_near_the_middle_as_the_subject_allows(
    size: tuple[int, int], subject: tuple[int, int, int, int], bucket: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    crop = crop_to(Image.new("RGB", size), masked(size, subject), Bucket(*bucket))
    assert crop.box == box and crop.picture.size == crop.mask.size == bucket
    # Heights first; the corner counts in pixels of the original after the window got the bucket's size.
    corner = round(box[1] * bucket[1] / (box[3] - box[1])), round(box[0] * bucket[0] / (box[2] - box[0]))
    assert crop.time_ids == (size[1], size[0], *corner, bucket[1], bucket[0])


@st.composite
def crops(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int, int, int], Bucket, Crop]:
    width, height = draw(st.integers(16, 300)), draw(st.integers(16, 300))
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    subject = x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    bucket = draw(st.sampled_from(buckets(128, 16, 3.0)))
    crop = crop_to(Image.new("RGB", (width, height)), masked((width, height), subject), bucket)
    return (width, height), subject, bucket, crop


@settings(deadline=None)
@given(crops())
def test_window_is_the_largest_of_its_shape_and_holds_what_fits(
    case: tuple[tuple[int, int], tuple[int, int, int, int], Bucket, Crop],
) -> None:
    (width, height), subject, bucket, crop = case
    x0, y0, x1, y1 = crop.box
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    assert x1 - x0 == width or y1 - y0 == height, "no larger window"
    assert abs((x1 - x0) * bucket.height - (y1 - y0) * bucket.width) <= max(bucket) / 2 + 1, "the bucket's shape"
    for start, end, first, last in ((x0, x1, subject[0], subject[2]), (y0, y1, subject[1], subject[3])):
        if last - first <= end - start:
            assert start <= first and last <= end, "the subject is inside"
        else:
            assert first <= start and end <= last, "nothing but the subject is inside"


def test_crop_and_mask_show_the_same_place() -> None:
    picture = Image.new("RGB", (300, 120), "navy")
    mask = Image.new("L", picture.size)
    for canvas, colour in ((ImageDraw.Draw(picture), "red"), (ImageDraw.Draw(mask), 255)):
        canvas.ellipse((200, 30, 260, 90), fill=colour)
    for bucket in buckets(96, 16, 3.0):
        crop = crop_to(picture, mask, bucket)
        red = np.asarray(crop.picture)[..., 0] > 127
        assert (red == (np.asarray(crop.mask) > 127)).mean() > 0.98


# -- captions


@pytest.mark.parametrize(
    ("caption", "clean"),
    [
        ("a  cat\n on\ta\u00a0chair ", "a cat on a chair"),
        ("<p>a <b>red</b> cat</p><!-- 12 -->", "a red cat"),
        ("cats &amp; dogs &lt;3", "cats & dogs <3"),
        ("cats &amp;amp;amp; dogs", "cats & dogs"),
        ("&lt;b&gt;a cat&lt;/b&gt;", "a cat"),
        ("a cat https://shop.example/cat?id=3 on sale www.example.com", "a cat on sale"),
        ('"a cat"', "a cat"),
        ("“a ‘cat’”", "a ‘cat’"),
        ("«\"'a cat'\"»", "a cat"),
        ('the cat\'s "hat"', 'the cat\'s "hat"'),
        ("a cafe\u0301 cat", "a café cat"),
        ("a\u200b cat\x00\x1b, so\u00adfa", "a cat, sofa"),
        ("1 < 2 cats > 0 dogs", "1 < 2 cats > 0 dogs"),
        ("I <3 my cat", "I <3 my cat"),
        ("👩\u200d🚀 with a cat", "👩\u200d🚀 with a cat"),
        ("猫 の 写真", "猫 の 写真"),
    ],
)
def test_captions_keep_their_text_and_nothing_else(caption: str, clean: str) -> None:
    assert clean_caption(caption) == clean


@pytest.mark.parametrize("caption", ["", " \n", "<br/>", "https://example.com/cat.jpg", "\u200b\u200e", '""', "&nbsp;"])
def test_captions_without_text_are_refused(caption: str) -> None:
    with pytest.raises(DataError, match="the caption is empty"):
        clean_caption(caption)


def test_long_captions_end_with_a_whole_word() -> None:
    clean = clean_caption("a cat " * 1000)
    assert MAX_CHARACTERS - 6 < len(clean) <= MAX_CHARACTERS and set(clean.split()) == {"a", "cat"}
    assert len(clean_caption("猫" * 5000)) == MAX_CHARACTERS


def test_hostile_captions_take_no_time() -> None:
    for nested in (
        "&amp;" * 4000,
        "&" + "amp;" * 5000 + "lt;",
        "<" * 20_000,
        "<a" * 10_000,
        "<!--" * 5000,
        "'" * 20_000,
    ):
        with suppress(DataError):
            assert len(clean_caption(nested)) <= MAX_CHARACTERS


pieces = st.sampled_from(
    ["&amp;", "&lt;", "&gt;", "&#38;", "&quot;", "<b>", "</b>", "<", ">", "<!--", "-->", "http://", "www.", '"', "'",
     "“", "”", " ", "\n", "\u200b", "\u0301", "e", "a cat", "amp;", "lt;", "b>", "\x00", "\ud800", "\u0958"]
)  # fmt: skip
messy = st.lists(st.one_of(pieces, st.text(max_size=6)), max_size=25).map("".join)


@settings(deadline=None, max_examples=300)
@given(messy)
def test_cleaning_twice_changes_nothing(caption: str) -> None:
    try:
        clean = clean_caption(caption)
    except DataError:
        return
    assert clean_caption(clean) == clean
    assert clean and len(clean) <= MAX_CHARACTERS and clean == clean.strip() and "  " not in clean
    assert unicodedata.is_normalized("NFC", clean)
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in clean)


markup = st.sampled_from(
    ["<b>", "</b>", " &amp; ", "<br/>", " https://example.com ", "\n", " \u200b", '"', "“", "!", "(", "<!-- x -->"]
)


@settings(deadline=None)
@given(
    st.lists(markup, max_size=6),
    st.sampled_from(["cat", "teddy bear", "café", "猫", "R2-D2"]),
    st.lists(markup, max_size=6),
)
def test_the_target_word_stays(before: list[str], word: str, after: list[str]) -> None:
    caption = f"a photo of {''.join(before)} {unicodedata.normalize('NFD', word)} {''.join(after)} outside"
    assert find_word(clean_caption(caption), clean_caption(word))


# -- regions


class Network:
    """Stands in for rembg's session: bright pixels are the subject, unsurely at their edge."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def predict(self, img: Image.Image) -> list[Image.Image]:
        self.seen.append(img.size)
        return [img.convert("L")]


def test_grabcut_is_the_default() -> None:
    assert region_finder("grabcut") is subject_mask
    assert load_config("tiny").data.region == load_config("sdxl").data.region == "grabcut"


def test_a_network_finds_the_subject_inside_its_box() -> None:
    picture = Image.new("RGB", (120, 80), "black")
    picture.paste("white", (30, 20, 60, 50))
    picture.paste("white", (100, 0, 120, 80))
    picture.paste((100, 100, 100), (60, 20, 64, 50))  # less than half sure
    network = Network()
    find = NetworkRegion(network)
    assert find(picture, (20, 10, 80, 70)).getbbox() == (30, 20, 60, 50)
    both = find(picture)
    assert both.mode == "L" and both.size == picture.size and both.getbbox() == (30, 0, 120, 80)
    assert network.seen == [(60, 60), (120, 80)]


@pytest.mark.parametrize("colour", ["black", "white"])
def test_where_a_network_finds_nothing_or_everything_the_whole_box_is_the_subject(colour: str) -> None:
    picture = Image.new("RGB", (60, 40), colour)
    assert NetworkRegion(Network())(picture, (10, 5, 30, 35)).getbbox() == (10, 5, 30, 35)
    assert NetworkRegion(Network())(picture).getextrema() == (255, 255)


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rembg", None)
    with pytest.raises(ConfigError, match=r"'\.\[rembg\]"):
        region_finder("rembg")


def test_the_extra_s_own_code_takes_our_pictures() -> None:
    """rembg's U2-Net session, with arithmetic in place of its network."""
    u2net = pytest.importorskip("rembg.sessions.u2net", reason="the extra 'rembg' is not installed")

    class Arithmetic:
        def run(self, _: None, inputs: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
            return [inputs["input"].mean(1, keepdims=True)]

        def get_inputs(self) -> list[object]:
            return [type("Input", (), {"name": "input"})()]

    session = u2net.U2netSession.__new__(u2net.U2netSession)
    session.inner_session = Arithmetic()
    picture = Image.new("RGB", (100, 60), "blue")
    picture.paste("white", (20, 10, 60, 50))
    assert NetworkRegion(session)(picture).getbbox() == (20, 10, 60, 50)
