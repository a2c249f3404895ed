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

from components.data.aspect_buckets import Bucket
from components.data.crop import crop_to
from components.data.curate import Curated, curate
from components.data.decode import Decoded, decode_mask, decode_picture
from components.data.plan import SPLITS, plan_rows, split_of
from components.data.region import find_mask, subject_mask
from components.data.schema import SourceRow
from components.data.source_files import SourceFiles
from components.data.subject_image import CurateSettings
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
        "licence": None,
    }


# -- planning


@pytest.mark.parametrize(
    ("caption", "word", "stage", "reason"),
    [
        ("a dog", "cat", "word", "does not hold"),
        ("a category", "cat", "word", "does not hold"),
        ("<br>", "cat", "caption", "empty"),
    ],
)
def test_row_whose_caption_does_not_serve_is_rejected(caption: str, word: str, stage: str, reason: str) -> None:
    plan = plan_rows([a_row("a", caption=caption, word=word), a_row("b", caption="two Cats")], 0)
    assert [job["row"]["subject"]["id"] for job in plan.jobs] == ["b"]
    assert [(r.id, r.stage) for r in plan.rejects] == [("a", stage)]
    assert reason in plan.rejects[0].reason


def test_word_is_found_however_its_accents_are_encoded() -> None:
    for word, caption in (("pin\u0303ata", "a piñata at home"), ("piñata", "a pin\u0303ata at home")):
        plan = plan_rows([a_row("a", caption=caption, word=word)], 0)
        assert not plan.rejects
        assert plan.jobs[0]["row"]["word"] == "piñata"


def test_word_that_is_not_given_is_shared_by_the_group_or_left_to_be_detected() -> None:
    rows = [
        a_row("a", word="cat"),
        a_row("b", caption="two  cats", word=None),
        a_row("c", caption="a dog", word=None),
        a_row("d", group="other", word=None),
    ]
    jobs = plan_rows(rows, 0).jobs
    found = [(job["row"]["word"], job["word_from"]) for job in jobs]
    assert found == [("cat", "given"), ("cat", "group"), (None, "detected"), (None, "detected")]
    assert jobs[1]["row"]["caption"] == "two cats"


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


def test_no_picture_of_one_split_is_a_reference_in_the_other() -> None:
    group = {split: next(n for n in map(str, range(100)) if split_of(n, 0.5) == split) for split in SPLITS}
    image = lambda name: a_row(name)["subject"]["image"]  # noqa: E731
    rows = [
        a_row("held out", group=group["validation"]),
        {**a_row("leaks", group=group["train"]), "references": [image("ours"), image("held out")]},
        {**a_row("reversed", group=group["validation"]), "references": [image("ours")]},
        {**a_row("ours", group=group["train"]), "references": [image("leaks"), "in no row.png"]},
    ]
    plan = plan_rows(rows, 0.5)
    assert sorted(job["row"]["subject"]["id"] for job in plan.jobs) == ["held out", "ours"]
    assert sorted((reject.id, reject.stage) for reject in plan.rejects) == [
        ("leaks", "references"), ("reversed", "references"),
    ]  # fmt: skip
    assert all("same group" in reject.reason for reject in plan.rejects)
    assert not plan_rows(rows, 0).rejects, "without a validation split there is nothing to leak"


def test_a_reference_shows_the_subject_of_its_group_where_two_subjects_share_a_picture() -> None:
    both = {"image": "both.png"}
    rows = [
        a_row("dog", group="dog", box=(0, 0, 9, 9), **both),
        a_row("cat 1", group="cat", box=(20, 0, 29, 9), **both),
        a_row("cat 2", group="cat"),
    ]
    (other,) = next(j["others"] for j in plan_rows(rows, 0).jobs if j["row"]["subject"]["id"] == "cat 2")
    assert other["box"] == (20, 0, 29, 9)


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


def test_what_is_transparent_in_a_mask_is_not_the_subject() -> None:
    mask = Image.new("RGBA", (64, 64))
    mask.paste("white", (10, 20, 30, 40))
    assert decode_mask(encoded(mask), (64, 64), PIXELS).getbbox() == (10, 20, 30, 40)


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


def test_transparency_goes_before_colours_and_a_box_before_what_lies_outside_it() -> None:
    alpha = Image.new("L", (120, 120))
    for box in ((10, 10, 50, 50), (70, 70, 110, 110)):
        alpha.paste(255, box)
    layered = Decoded(disc(), alpha)
    assert find_mask(layered, "grabcut").tobytes() == alpha.tobytes()
    assert find_mask(layered, "grabcut", (60, 60, 120, 120)).getbbox() == (70, 70, 110, 110)
    assert find_mask(layered, "grabcut", (50, 0, 120, 60)).tobytes() == subject_mask(disc(), (50, 0, 120, 60)).tobytes()
    assert find_mask(Decoded(disc(), None), "grabcut").tobytes() == subject_mask(disc()).tobytes()


def test_region_is_the_same_every_time() -> None:
    assert subject_mask(noise(200, 150)).tobytes() == subject_mask(noise(200, 150)).tobytes()


# -- curation


@pytest.fixture
def settings(tmp_path: Path) -> CurateSettings:
    return CurateSettings(
        SourceFiles.at(tmp_path),
        (Bucket(32, 32),),
        48,
        max_bytes=10**7,
        max_pixels=PIXELS,
        size_conditioning="original",
    )


def save(settings: CurateSettings, **pictures: Image.Image | bytes) -> None:
    """Write ``pictures`` as PNG files below the root."""
    for name, picture in pictures.items():
        data = picture if isinstance(picture, bytes) else encoded(picture)
        (Path(settings.store.url) / f"{name}.png").write_bytes(data)


def curated(rows: list[SourceRow], settings: CurateSettings) -> Curated:
    return curate(plan_rows(rows, 0).jobs, settings)


def test_curated_rows_point_at_their_pixels(settings: CurateSettings) -> None:
    save(settings, a=disc(160, 120), b=disc(160, 120))
    made = curated([a_row("a.png"), a_row("b.png")], settings)
    assert not made.rejects and [row.id for row in made.rows] == ["a.png", "b.png"]
    for row in made.rows:
        view, cutout = made.views[row.view], made.cutouts[row.cutout]
        assert view.picture.shape == (32, 32, 3) and view.picture.dtype == np.uint8
        assert view.mask.shape == (32, 32) and view.head is None
        assert view.size == (160, 120) and view.time_ids == (120, 160, 0, 5, 32, 32)
        assert len(bytes.fromhex(view.picture_hash)) == 32
        assert cutout.pixels.shape == (48, 48, 3) and cutout.face_box is None
    assert [row.others for row in made.rows] == [(made.rows[1].cutout,), (made.rows[0].cutout,)]
    assert [made.cutout_ids[row.cutout] for row in made.rows] == ["a.png", "b.png"]


def test_pictures_take_the_bucket_of_their_shape(settings: CurateSettings) -> None:
    several = replace(settings, buckets=(Bucket(32, 32), Bucket(24, 40), Bucket(40, 24)))
    save(several, tall=disc(100, 170), wide=disc(170, 100), square=disc(100, 100))
    made = curated([a_row("tall.png"), a_row("wide.png"), a_row("square.png")], several)
    assert [made.views[row.view].bucket.name for row in made.rows] == ["24x40", "40x24", "32x32"]
    assert [view.picture.shape for view in made.views] == [(40, 24, 3), (24, 40, 3), (32, 32, 3)]
    assert [view.time_ids[4:] for view in made.views] == [(40, 24), (24, 40), (32, 32)]


def test_target_size_conditioning_says_one_size_only(settings: CurateSettings) -> None:
    save(settings, a=disc(160, 120))
    fixed = replace(settings, size_conditioning="target")
    assert curated([a_row("a.png")], fixed).views[0].time_ids == (32, 32, 0, 0, 32, 32)


def test_each_row_that_cannot_be_used_is_named_with_its_stage(settings: CurateSettings) -> None:
    save(settings, good=disc(), bad=b"no picture", small=Image.new("L", (5, 5)))
    (Path(settings.store.url) / "folder.png").mkdir()
    (Path(settings.store.url) / "dangling.png").symlink_to("nowhere.png")
    rows = [
        a_row("good.png"),
        a_row("bad.png"),
        a_row("missing.png"),
        a_row("folder.png"),
        a_row("dangling.png"),
        a_row("boxed", image="good.png", box=(0, 0, 500, 500)),
        a_row("headed", image="good.png", head_box=(0, 0, 20, 500)),
        a_row("masked", image="good.png", mask="small.png"),
        a_row("unmasked", image="good.png", mask="missing.png"),
    ]
    made = curated(rows, settings)
    assert [row.id for row in made.rows] == ["good.png"]
    assert [(r.id, r.stage) for r in made.rejects] == [
        ("bad.png", "decode"),
        ("missing.png", "decode"),
        ("folder.png", "decode"),
        ("dangling.png", "decode"),
        ("boxed", "region"),
        ("headed", "region"),
        ("masked", "region"),
        ("unmasked", "region"),
    ]


def test_what_a_picture_does_to_a_library_costs_that_picture_alone(
    settings: CurateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(settings, a=disc(), b=disc(80, 80))

    def crop(picture: Image.Image, *rest: object) -> object:
        if picture.width == 80:
            raise ZeroDivisionError
        return crop_to(picture, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("components.data.subject_image.crop_to", crop)
    made = curated([a_row("a.png"), a_row("b.png")], settings)
    assert [row.id for row in made.rows] == ["a.png"]
    assert [(r.id, r.stage, r.reason) for r in made.rejects] == [
        ("b.png", "curate", "a library failed (ZeroDivisionError)")
    ]


def test_head_box_travels_to_target_and_cut_out(settings: CurateSettings) -> None:
    """The head is the only green part of the subject, so its colour says where it went."""
    picture = disc(160, 120, (40, 20, 120, 100))
    head = (60, 24, 100, 50)
    ImageDraw.Draw(picture).rectangle((60, 24, 99, 49), fill=(0, 250, 0))
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).ellipse((40, 20, 120, 100), fill=255)
    save(settings, a=picture, b=disc(), mask=mask)
    made = curated([a_row("a.png", mask="mask.png", head_box=head), a_row("b.png")], settings)
    view, cutout = made.views[0], made.cutouts[made.rows[0].cutout]
    green = (view.picture[..., 1] > 150) & (view.picture[..., 0] < 100)
    assert view.head is not None
    assert ((view.head > 127) == green).mean() > 0.98 and green.sum() > 40
    assert (view.head <= view.mask).all()
    seen = Image.fromarray(((cutout.pixels[..., 1] > 150) & (cutout.pixels[..., 0] < 100)).astype(np.uint8) * 255)
    assert cutout.face_box is not None
    assert np.abs(np.subtract(cutout.face_box, seen.getbbox())).max() <= 1.5
    assert made.rows[1].others == (made.rows[0].cutout,)
    assert made.views[1].head is None and made.cutouts[made.rows[1].cutout].face_box is None


def test_faces_are_found_where_none_is_given(settings: CurateSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    save(settings, a=disc())
    monkeypatch.setattr("components.data.subject_image._face_detector", lambda: lambda picture: (40, 40, 80, 60))
    finding = replace(settings, find_faces=True)
    assert curated([a_row("a.png")], finding).cutouts[0].face_box is not None
    assert curated([a_row("a.png")], settings).cutouts[0].face_box is None


def test_other_view_skips_pictures_that_cannot_be_read(settings: CurateSettings) -> None:
    save(settings, a=disc(), b=b"no picture", c=noise())
    made = curated([a_row("a.png"), a_row("b.png"), a_row("c.png")], settings)
    assert shown(made) == {"a.png": ["c.png"], "c.png": ["a.png"]}


def test_picture_without_company_has_no_other_view(settings: CurateSettings) -> None:
    save(settings, a=disc())
    (row,) = curated([a_row("a.png")], settings).rows
    assert row.others == ()


def test_all_other_pictures_of_the_group_are_other_views(settings: CurateSettings) -> None:
    """Also where the source names all of them; further captions and other subjects of a picture are none."""
    names = [f"{name}.png" for name in "abcdef"]
    save(settings, **{name[0]: noise() if name == "f.png" else disc() for name in names})
    caption, place = a_row("a.png#2", image="a.png"), a_row("a.png#3", image="a.png", box=(10, 10, 90, 90))
    named = {**a_row("b.png"), "references": [name for name in names if name != "b.png"]}
    made = curated([a_row("a.png"), caption, place, named, *(a_row(name) for name in names[2:])], settings)
    found = shown(made)
    assert found["a.png"] == found["a.png#2"] == found["a.png#3"] == names[1:]
    assert found["b.png"] == ["a.png", "a.png#3", *names[2:]]
    assert made.rows[0].cutout == made.rows[1].cutout != made.rows[2].cutout


def test_only_named_references_are_other_views(settings: CurateSettings) -> None:
    """Of pictures that are no rows one is cut out for a row; those that are known already cost nothing."""
    save(settings, a=disc(), b=disc(), c=noise(), extra=noise(), more=disc())
    rows = [{**a_row("a.png"), "references": ["c.png"]}, a_row("b.png"), a_row("c.png")]
    assert shown(curated(rows, settings))["a.png"] == ["c.png"]
    rows[0]["references"] = ["extra.png", "more.png", "c.png"]
    found = shown(curated(rows, settings))["a.png"]
    assert "c.png" in found and len(found) <= 2


def shown(made: Curated) -> dict[str, list[str]]:
    """By row the pictures of its other views."""
    return {row.id: [made.cutout_ids[at] for at in row.others] for row in made.rows}


def test_reference_that_is_no_row_is_cut_out_too(settings: CurateSettings) -> None:
    save(settings, a=disc(), extra=noise())
    made = curated([{**a_row("a.png"), "references": ["extra.png"]}], settings)
    assert shown(made) == {"a.png": ["extra.png"]} and len(made.views) == 1 and len(made.cutouts) == 2


def test_each_picture_is_read_once(settings: CurateSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    save(settings, a=disc(), b=disc(), c=disc())
    names = ["a.png", "b.png", "c.png"]
    reads: list[str] = []
    read = SourceFiles.read
    monkeypatch.setattr(SourceFiles, "read", lambda self, name, most: (reads.append(name), read(self, name, most))[1])
    made = curated([*(a_row(name) for name in names), a_row("a.png#2", image="a.png", caption="the cat")], settings)
    assert sorted(reads) == names
    assert len(made.rows) == 4 and len(made.views) == 3 and made.rows[3].view == made.rows[0].view


def test_nothing_usable_gives_no_rows(settings: CurateSettings) -> None:
    made = curated([a_row("missing.png")], settings)
    assert not made.rows and not made.views and len(made.rejects) == 1
