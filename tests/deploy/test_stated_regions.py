"""Boxes and masks of uploaded images: where the client says that the subject is."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from starlette.testclient import TestClient

from components.config import Config, load_config
from components.data import region
from tests.deploy.test_serving_characters import client_of, error

LEFT, RIGHT = (20, 40, 100, 120), (140, 40, 220, 120)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config("tiny", [f"serving.store={tmp_path}/store"])


@pytest.fixture
def client(config: Config) -> TestClient:
    return client_of(config)


def png(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, options.pop("format", "PNG"), **options)
    return buffer.getvalue()


def two_discs() -> Image.Image:
    """A red disc at `LEFT` and a blue one at `RIGHT`."""
    picture = Image.new("RGB", (240, 160), "lightgreen")
    for box, color in ((LEFT, "red"), (RIGHT, "blue")):
        ImageDraw.Draw(picture).ellipse(box, fill=color)
    return picture


def mask_of(box: tuple[int, int, int, int], size: tuple[int, int] = (240, 160)) -> bytes:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return png(mask)


def as_form(fields: dict[str, Any], pictures: list[bytes], field: str = "pictures") -> dict[str, Any]:
    files = [(field, ("p.png", data)) for data in pictures]
    masks = [(f"masks[{i}]", ("m.png", mask)) for i, mask in enumerate(fields.pop("masks", [])) if mask is not None]
    if "boxes" in fields:
        fields["boxes"] = json.dumps(fields["boxes"])
    return {"data": fields, "files": files + masks}


def as_json(fields: dict[str, Any], pictures: list[bytes]) -> dict[str, Any]:
    masks = {"masks": [m and base64.b64encode(m).decode() for m in fields["masks"]]} if "masks" in fields else {}
    return {"json": fields | masks | {"pictures": [base64.b64encode(data).decode() for data in pictures]}}


def create(client: TestClient, send: Any, *pictures: bytes, **fields: Any) -> Any:
    named = {"name": "Rob", "target_word": "robot"} | fields
    return client.post("/v1/characters", **send(named, list(pictures)))


def colors(client: TestClient, character: dict[str, Any]) -> list[str]:
    """What the cut-outs of a character show: the colours that cover more than a hundredth of them."""
    names = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (144, 238, 144)}
    shown = []
    for picture in character["pictures"]:
        pixels = np.asarray(Image.open(io.BytesIO(client.get(picture["cutout"]).content)).convert("RGB")).astype(int)
        near = {name: (np.abs(pixels - color).max(2) < 40).mean() for name, color in names.items()}
        shown.append(" ".join(name for name, share in near.items() if share > 0.01))
    return shown


@pytest.mark.parametrize("send", [as_form, as_json])
def test_a_box_says_which_subject_is_meant(client: TestClient, send: Any) -> None:
    picture = png(two_discs())
    boxes = [(10, 30, 110, 130), (130, 30, 230, 130)]
    answer = create(client, send, picture, picture, boxes=boxes)
    assert answer.status_code == 201, answer.text
    assert colors(client, answer.json()) == ["red", "blue"]


@pytest.mark.parametrize("send", [as_form, as_json])
def test_a_mask_wins_over_a_box_and_null_is_none(client: TestClient, send: Any) -> None:
    picture = png(two_discs())
    sent = {"boxes": [(10, 30, 110, 130), (10, 30, 110, 130)], "masks": [None, mask_of(RIGHT)]}
    answer = create(client, send, picture, picture, **sent)
    assert answer.status_code == 201, answer.text
    assert colors(client, answer.json()) == ["red", "blue"]


@pytest.mark.parametrize("send", [as_form, as_json])
def test_pictures_are_added_with_their_regions(client: TestClient, send: Any) -> None:
    created = create(client, send, png(two_discs()), boxes=[(10, 30, 110, 130)]).json()
    body = send({"masks": [mask_of(RIGHT)]}, [png(two_discs())])
    changed = client.post(f"/v1/characters/{created['id']}/pictures", **body)
    assert changed.status_code == 201, changed.text
    assert colors(client, changed.json()) == ["red", "blue"]


@pytest.mark.parametrize(
    "boxes",
    [
        {"boxes": "[[10, 30, 110, 130], null]"},
        {"boxes[]": ["[10, 30, 110, 130]", "null"]},
        {"boxes[1]": "", "boxes[0]": "[10, 30, 110, 130]"},
        {"boxes[0]": "[10, 30, 110, 130]"},
        {"boxes": ["[10, 30, 110, 130]"]},
    ],
)
def test_boxes_of_a_form_in_all_spellings(client: TestClient, boxes: dict[str, Any]) -> None:
    form = as_form({"name": "Rob", "target_word": "robot"}, [png(two_discs())] * 2)
    form["data"] |= boxes
    answer = client.post("/v1/characters", **form)
    assert answer.status_code == 201, answer.text
    assert colors(client, answer.json())[0] == "red"


def test_a_numbered_mask_belongs_to_the_picture_of_its_number(client: TestClient) -> None:
    form = as_form({"name": "Rob", "target_word": "robot", "masks": [None, mask_of(RIGHT)]}, [png(two_discs())] * 2)
    assert [name for name, _ in form["files"]] == ["pictures", "pictures", "masks[1]"]
    created = client.post("/v1/characters", **form).json()
    assert colors(client, created)[1] == "blue"


def test_boxes_and_masks_are_those_of_the_upright_picture(client: TestClient) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter to the right: 160 x 240
    lying = png(two_discs(), format="JPEG", exif=exif, quality=95)
    upright = mask_of((40, 20, 120, 100), (160, 240))  # the red disc, now above
    assert colors(client, create(client, as_json, lying, boxes=[(30, 10, 130, 110)]).json()) == ["red"]
    assert colors(client, create(client, as_json, lying, masks=[upright]).json()) == ["red"]
    refused = create(client, as_json, lying, masks=[mask_of(LEFT)])
    assert error(refused, 400)["param"] == "masks"


@pytest.mark.parametrize("field", ["image", "image[]", "image[0]"])
def test_regions_of_edits(client: TestClient, field: str) -> None:
    def middle(**fields: Any) -> Any:
        body = {"prompt": "a robot", "target_word": "robot", "size": "64x64", "seed": "4"} | fields
        answer = client.post("/v1/images/edits", **as_form(body, [png(two_discs())], field))
        assert answer.status_code == 200, answer.text
        picture = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))
        return picture.getpixel((32, 32))

    assert middle(boxes=[(10, 30, 110, 130)]) == (255, 0, 0)
    assert middle(masks=[mask_of(RIGHT)]) == (0, 0, 255)
    assert middle(boxes=[(10, 30, 110, 130)], masks=[mask_of(RIGHT)]) == (0, 0, 255)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"boxes": [(10, 30, 241, 130)]}, "boxes[0]"),
        ({"boxes": [(110, 30, 10, 130)]}, "boxes[0]"),
        ({"boxes": [(-1, 30, 10, 130)]}, "boxes[0]"),
        ({"boxes": [None, (0, 0, 50, 50)]}, "boxes"),
        ({"boxes": [(10, 30, 110)]}, "boxes[0]"),
        ({"boxes": [(0, 0, 50, 50)] * 5}, "boxes"),
        ({"masks": [b"no picture"]}, "masks[0]"),
        ({"masks": [mask_of(LEFT, (120, 80))]}, "masks[0]"),
        ({"masks": [png(Image.new("L", (240, 160)))]}, "masks[0]"),
        ({"masks": [None, mask_of(LEFT)]}, "masks"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/characters", "/v1/images/edits"])
def test_bad_regions_are_refused_by_field(client: TestClient, path: str, fields: dict[str, Any], place: str) -> None:
    edits = path.endswith("edits")
    named = {"prompt": "a robot", "target_word": "robot"} if edits else {"name": "Rob", "target_word": "robot"}
    answer = client.post(path, **as_form(named | fields, [png(two_discs())], "image" if edits else "pictures"))
    told = error(answer, 400)
    assert told["param"].startswith(place.partition("[")[0]) and told["message"].startswith(place)
    if place.endswith("]") and len(next(iter(fields.values()))[0]) != 3:
        assert "; " in told["message"]  # a reason, and a remedy
    assert client.get("/v1/characters").json()["data"] == []


def test_boxes_that_are_no_json_are_refused(client: TestClient) -> None:
    form = as_form({"name": "Rob", "target_word": "robot"}, [png(two_discs())])
    form["data"]["boxes[0]"] = "10,20,30,40"
    assert error(client.post("/v1/characters", **form), 400)["param"].startswith("boxes")


def layered() -> bytes:
    """A disc of the ground's own colour, told from it by transparency only."""
    picture = Image.new("RGBA", (240, 160), (144, 238, 144, 0))
    ImageDraw.Draw(picture).ellipse(LEFT, fill=(144, 238, 144, 255))
    return png(picture)


def test_transparency_counts_in_uploads(client: TestClient) -> None:
    created = create(client, as_json, layered()).json()
    advice = created["pictures"][0]["advice"]
    assert advice["subject_share"] == pytest.approx(3.14159 * 40.5**2 / (240 * 160), rel=0.02)
    assert not any("No subject" in sentence for sentence in advice["sentences"])


def test_the_configured_segmentation_counts_in_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OnTheLeft:
        def predict(self, img: Image.Image) -> list[Image.Image]:
            mask = Image.new("L", img.size)
            mask.paste(255, (0, 0, img.width // 2, img.height))
            return [mask]

    region.region_finder.cache_clear()
    monkeypatch.setattr(region, "_rembg_session", OnTheLeft)
    client = client_of(load_config("tiny", [f"serving.store={tmp_path}/store", "data.region=rembg"]))
    try:
        created = create(client, as_json, png(two_discs())).json()
    finally:
        region.region_finder.cache_clear()
    assert created["pictures"][0]["advice"]["subject_share"] == 0.5


def test_the_advice_says_when_no_subject_was_told_from_the_ground(client: TestClient) -> None:
    plain = png(Image.new("RGB", (240, 160), "grey"))
    for fields in ({}, {"boxes": [(20, 20, 100, 100)]}):
        assert create(client, as_json, plain, **fields).json()["advice"][0].startswith("No subject stands out")
    stated = create(client, as_json, plain, masks=[png(Image.new("L", (240, 160), 255))]).json()
    assert not any("No subject" in sentence for sentence in stated["advice"])
