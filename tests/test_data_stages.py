"""Each stage alone: planning, decoding, regions, crops, curation."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from components.data.crop import crop_square
from components.data.curate import Curated, CurateSettings, curate
from components.data.picture import decode_mask, decode_picture
from components.data.plan import pack, plan_rows, split_of
from components.data.region import subject_mask
from components.data.schema import SourceRow
from components.data.store import Store
from components.errors import DataError

PIXELS = 1_000_000


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def noise(width: int = 64, height: int = 64) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def disc(width: int = 120, height: int = 120, box: tuple[int, int, int, int] = (30, 30, 90, 90)) -> Image.Image:
    """A red disc on a shaded blue ground."""
    picture = Image.linear_gradient("L").resize((width, height))
    picture = Image.merge("RGB", (picture.point(lambda v: v // 8), picture.point(lambda v: v // 4), picture))
    ImageDraw.Draw(picture).ellipse(box, fill=(220, 40, 30))
    return picture


def a_row(
    name: str, group: str = "g", caption: str = "a cat", word: str | None = "cat", **subject: object
) -> SourceRow:
    return {
        "subject": {"id": name, "image": name, "mask": None, "box": None, "head_box": None, **subject},  # type: ignore[typeddict-item]
        "caption": caption,
        "word": word,
        "group": group,
        "references": None,
        "source": name,
    }


# -- planning


@pytest.mark.parametrize(
    ("caption", "word", "reason"),
    [("a dog", "cat", "does not hold"), ("a category", "cat", "does not hold"), ("a cat", None, "no target word")],
)
def test_row_whose_caption_lacks_its_word_is_rejected(caption: str, word: str | None, reason: str) -> None:
    plan = plan_rows([a_row("a", caption=caption, word=word), a_row("b", caption="two Cats")], 0)
    assert [job["row"]["subject"]["id"] for job in plan.jobs] == ["b"]
    assert [(r.id, r.stage) for r in plan.rejects] == [("a", "word")]
    assert reason in plan.rejects[0].reason


def test_groups_are_never_split_and_the_share_is_kept() -> None:
    rows = [a_row(f"{g}-{i}", group=str(g)) for i in range(2) for g in range(2000)]
    jobs = plan_rows(rows, 0.1).jobs
    splits: dict[str, set[str]] = {}
    for job in jobs:
        splits.setdefault(job["row"]["group"], set()).add(job["split"])
    assert all(len(s) == 1 for s in splits.values())
    assert 0.07 < sum(s == {"validation"} for s in splits.values()) / 2000 < 0.13
    assert split_of("anything", 0) == "train"


def test_other_picture_is_another_one_of_the_group_or_a_named_reference() -> None:
    rows = [a_row("a"), a_row("b"), a_row("c"), a_row("alone", group="h"), {**a_row("r"), "references": ["x.png"]}]
    others = {job["row"]["subject"]["id"]: [o["id"] for o in job["others"]] for job in plan_rows(rows, 0).jobs}
    assert sorted(others["a"]) == ["b", "c", "r"]
    assert others["alone"] == []
    assert others["r"] == ["x.png"]
    assert plan_rows(rows, 0) == plan_rows(rows, 0)


def test_batches_hold_whole_groups() -> None:
    rows = [a_row(f"{g}{i}", group=g) for g, n in (("a", 3), ("b", 3), ("c", 9), ("d", 1)) for i in range(n)]
    batches = [[j["row"]["subject"]["id"] for j in b] for b in pack(plan_rows(rows, 0).jobs, 4)]
    assert [len(b) for b in batches] == [3, 3, 4, 4, 2]
    assert [name for batch in batches for name in batch] == [r["subject"]["id"] for r in rows]


# -- decoding


def bomb() -> bytes:
    """A PNG that says it is 30,000 pixels square, and holds none."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    body = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: b"", "not a picture"),
        (lambda: b"GIF89a no", "not a picture"),
        (lambda: b"<svg/>", "not a picture"),
        (lambda: encoded(noise(), "JPEG")[:900], "damaged"),
        (lambda: encoded(noise())[:900], "damaged"),
        (bomb, "max_pixels"),
        (lambda: encoded(noise(8, 200)), "shorter than 16"),
        (lambda: encoded(noise(), "WEBP", save_all=True, append_images=[disc(64, 64)]), "animated"),
    ],
)
def test_pictures_that_cannot_be_used_are_refused_with_the_reason(data: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        decode_picture(data(), PIXELS)


def test_flipped_bytes_are_refused_or_decoded_but_never_raise_anything_else() -> None:
    rng = np.random.default_rng(1)
    outcomes = set()
    for form in ("PNG", "JPEG", "WEBP"):
        sound = np.frombuffer(encoded(noise(), form), np.uint8)
        for _ in range(60):
            broken = sound.copy()
            broken[rng.integers(len(broken), size=4)] = rng.integers(0, 255, 4)
            try:
                outcomes.add(decode_picture(broken.tobytes(), PIXELS).mode)
            except DataError:
                outcomes.add("refused")
    assert outcomes == {"RGB", "refused"}


def test_size_limit_is_inclusive() -> None:
    assert decode_picture(encoded(noise(20, 30)), 600).size == (20, 30)
    with pytest.raises(DataError, match="max_pixels"):
        decode_picture(encoded(noise(20, 30)), 599)


def test_exif_orientation_is_applied() -> None:
    sideways = noise(40, 20)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode_picture(encoded(sideways, "PNG", exif=exif), PIXELS)
    assert np.array_equal(np.asarray(upright), np.rot90(np.asarray(sideways), -1))


def test_transparent_parts_become_white() -> None:
    picture = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (0, 0, 10, 20))
    pixels = np.asarray(decode_picture(encoded(picture), PIXELS))
    assert pixels[5, 15].tolist() == [255, 255, 255] and pixels[5, 5].tolist() == [0, 0, 255]


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK"])
def test_every_common_mode_becomes_rgb(mode: str) -> None:
    assert decode_picture(encoded(noise().convert(mode), "TIFF" if mode == "CMYK" else "PNG"), PIXELS).mode == "RGB"


def test_sixteen_bit_greys_keep_their_range() -> None:
    ramp = np.tile(np.linspace(0, 65535, 32).astype(np.uint16), (32, 1))
    pixels = np.asarray(decode_picture(encoded(Image.fromarray(ramp)), PIXELS))
    assert pixels[0, 0, 0] == 0 and pixels[0, -1, 0] == 255 and 120 < pixels[0, 16, 0] < 136


@pytest.mark.parametrize(
    ("mask", "reason"),
    [(Image.new("L", (20, 20), 255), "size"), (Image.new("L", (64, 64)), "empty")],
)
def test_masks_that_say_nothing_about_the_picture_are_refused(mask: Image.Image, reason: str) -> None:
    with pytest.raises(DataError, match=f"mask: .*{reason}"):
        decode_mask(encoded(mask), (64, 64), PIXELS)


# -- regions


def overlap(mask: Image.Image, truth: Image.Image) -> float:
    a, b = (np.asarray(m) > 127 for m in (mask, truth))
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("box", [None, (20, 20, 100, 100)])
@pytest.mark.parametrize("scale", [1, 5])
def test_subject_is_found_by_its_colours(box: tuple[int, int, int, int] | None, scale: int) -> None:
    picture = disc().resize((120 * scale, 120 * scale))
    truth = Image.new("L", picture.size)
    ImageDraw.Draw(truth).ellipse([v * scale for v in (30, 30, 90, 90)], fill=255)
    scaled = tuple(v * scale for v in box) if box else None
    assert overlap(subject_mask(picture, scaled), truth) > 0.85  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "picture", [Image.new("RGB", (60, 40), "grey"), Image.new("RGB", (1, 1)), Image.new("RGB", (500, 3))]
)
def test_where_nothing_stands_out_everything_is_the_subject(picture: Image.Image) -> None:
    mask = subject_mask(picture)
    assert mask.size == picture.size and mask.getextrema() == (255, 255)


def test_box_in_which_nothing_stands_out_is_kept_whole() -> None:
    assert subject_mask(Image.new("RGB", (60, 40), "grey"), (10, 5, 30, 35)).getbbox() == (10, 5, 30, 35)


def test_box_around_the_whole_picture_is_no_error() -> None:
    assert subject_mask(disc(), (0, 0, 120, 120)).getbbox() == (0, 0, 120, 120)


def test_region_is_the_same_every_time() -> None:
    assert subject_mask(noise(200, 150)).tobytes() == subject_mask(noise(200, 150)).tobytes()


# -- crops


@pytest.mark.parametrize(
    ("size", "subject", "left", "top"),
    [
        ((200, 100), (80, 10, 120, 90), 50, 0),  # in the middle already
        ((200, 100), (150, 10, 196, 90), 96, 0),  # moved just far enough to the right
        ((200, 100), (4, 10, 50, 90), 4, 0),
        ((200, 100), (0, 0, 140, 100), 20, 0),  # longer than the square: its middle
        ((100, 200), (10, 150, 90, 200), 0, 100),
        ((100, 100), (0, 0, 10, 10), 0, 0),
    ],
)
def test_square_is_as_near_the_middle_as_the_subject_allows(
    size: tuple[int, int], subject: tuple[int, int, int, int], left: int, top: int
) -> None:
    mask = Image.new("L", size)
    mask.paste(255, subject)
    square = crop_square(Image.new("RGB", size), mask, 50)
    # Time ids count in pixels of the original after its shorter side became 50.
    assert square.time_ids == (size[1], size[0], top // 2, left // 2, 50, 50)
    assert square.picture.size == square.mask.size == (50, 50)


def test_crop_and_mask_show_the_same_place() -> None:
    picture = disc(300, 120, (200, 30, 260, 90))
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).ellipse((200, 30, 260, 90), fill=255)
    square = crop_square(picture, mask, 60)
    red = np.asarray(square.picture)[..., 0] > 120
    assert (red == (np.asarray(square.mask) > 127)).mean() > 0.98


# -- curation


@pytest.fixture
def settings(tmp_path: Path) -> CurateSettings:
    return CurateSettings(Store.at(tmp_path), 32, 48, max_bytes=10**7, max_pixels=PIXELS, size_conditioning="original")


def curated(rows: list[SourceRow], settings: CurateSettings) -> Curated:
    return curate(plan_rows(rows, 0).jobs, settings)


def test_curated_columns_have_their_shapes(settings: CurateSettings) -> None:
    for name in "ab":
        disc(160, 120).save(Path(settings.store.url) / f"{name}.png")
    columns, rejects = curated([a_row("a.png"), a_row("b.png")], settings)
    assert not rejects
    assert columns["picture"].shape == (2, 32, 32, 3) and columns["picture"].dtype == np.uint8
    assert columns["mask"].shape == columns["head"].shape == (2, 32, 32)
    assert columns["face_box"].shape == columns["other_face_box"].shape == (2, 4)
    assert not columns["head"].any() and not columns["face_box"].any()
    assert columns["cutout"].shape == columns["other_cutout"].shape == (2, 48, 48, 3)
    assert columns["time_ids"][0].tolist() == [120, 160, 0, 5, 32, 32]
    assert columns["other_id"].tolist() == ["b.png", "a.png"]
    assert np.array_equal(columns["other_cutout"][0], columns["cutout"][1])


def test_target_size_conditioning_says_one_size_only(settings: CurateSettings) -> None:
    disc(160, 120).save(Path(settings.store.url) / "a.png")
    fixed = replace(settings, size_conditioning="target")
    assert curated([a_row("a.png")], fixed).columns["time_ids"].tolist() == [[32, 32, 0, 0, 32, 32]]


def test_each_row_that_cannot_be_used_is_named_with_its_stage(settings: CurateSettings) -> None:
    disc().save(Path(settings.store.url) / "good.png")
    (Path(settings.store.url) / "bad.png").write_bytes(b"no picture")
    Image.new("L", (5, 5)).save(Path(settings.store.url) / "small.png")
    rows = [
        a_row("good.png"),
        a_row("bad.png"),
        a_row("missing.png"),
        a_row("boxed", image="good.png", box=(0, 0, 500, 500)),
        a_row("headed", image="good.png", head_box=(0, 0, 20, 500)),
        a_row("masked", image="good.png", mask="small.png"),
        a_row("unmasked", image="good.png", mask="missing.png"),
    ]
    columns, rejects = curated(rows, settings)
    assert columns["id"].tolist() == ["good.png"]
    assert [(r.id, r.stage) for r in rejects] == [
        ("bad.png", "decode"),
        ("missing.png", "decode"),
        ("boxed", "region"),
        ("headed", "region"),
        ("masked", "region"),
        ("unmasked", "region"),
    ]


def test_head_box_travels_to_target_and_cut_out(settings: CurateSettings) -> None:
    """The head is the only green part of the subject, so its colour says where it went."""
    picture = disc(160, 120, (40, 20, 120, 100))
    head = (60, 24, 100, 50)
    ImageDraw.Draw(picture).rectangle((60, 24, 99, 49), fill=(0, 250, 0))
    picture.save(Path(settings.store.url) / "a.png")
    disc().save(Path(settings.store.url) / "b.png")
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).ellipse((40, 20, 120, 100), fill=255)
    mask.save(Path(settings.store.url) / "mask.png")
    columns, _ = curated([a_row("a.png", mask="mask.png", head_box=head), a_row("b.png")], settings)
    green = (columns["picture"][0, ..., 1] > 150) & (columns["picture"][0, ..., 0] < 100)
    assert ((columns["head"][0] > 127) == green).mean() > 0.98 and green.sum() > 40
    assert (columns["head"] <= columns["mask"]).all()
    x0, y0, x1, y1 = columns["face_box"][0]
    pixels = columns["cutout"][0]
    seen = Image.fromarray(((pixels[..., 1] > 150) & (pixels[..., 0] < 100)).astype(np.uint8) * 255).getbbox()
    assert seen is not None and np.abs(np.subtract((x0, y0, x1, y1), seen)).max() <= 1.5
    assert np.array_equal(columns["other_face_box"][1], columns["face_box"][0])
    assert not columns["face_box"][1].any() and not columns["head"][1].any()


def test_other_view_skips_pictures_that_cannot_be_read(settings: CurateSettings) -> None:
    disc().save(Path(settings.store.url) / "a.png")
    noise().save(Path(settings.store.url) / "c.png")
    (Path(settings.store.url) / "b.png").write_bytes(b"no picture")
    columns, _ = curated([a_row("a.png"), a_row("b.png"), a_row("c.png")], settings)
    assert dict(zip(columns["id"], columns["other_id"], strict=True)) == {"a.png": "c.png", "c.png": "a.png"}


def test_picture_without_company_is_its_own_other_view(settings: CurateSettings) -> None:
    disc().save(Path(settings.store.url) / "a.png")
    columns, _ = curated([a_row("a.png")], settings)
    assert columns["other_id"].tolist() == ["a.png"]
    assert np.array_equal(columns["cutout"], columns["other_cutout"])


def test_reference_that_is_no_row_is_cut_out_too(settings: CurateSettings) -> None:
    disc().save(Path(settings.store.url) / "a.png")
    noise().save(Path(settings.store.url) / "extra.png")
    columns, _ = curated([{**a_row("a.png"), "references": ["extra.png"]}], settings)
    assert columns["other_id"].tolist() == ["extra.png"]


def test_each_picture_is_read_once(settings: CurateSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a.png", "b.png", "c.png"]
    for name in names:
        disc().save(Path(settings.store.url) / name)
    reads: list[str] = []
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda self, name, most: (reads.append(name), read(self, name, most))[1])
    curated([a_row(name) for name in names], settings)
    assert sorted(reads) == names


def test_nothing_usable_gives_no_columns(settings: CurateSettings) -> None:
    columns, rejects = curated([a_row("missing.png")], settings)
    assert columns == {} and len(rejects) == 1
