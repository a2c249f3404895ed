"""Lists of files in forms, under the names that clients give them."""

from __future__ import annotations

import asyncio
import io

import pytest
from starlette.datastructures import FormData, UploadFile

from deploy.api.forms import read_fields


def _read(*fields: tuple[str, str]) -> dict[str, object]:
    form = FormData([(key, UploadFile(io.BytesIO(value.encode()))) for key, value in fields])
    return asyncio.run(read_fields(form, ["image"]))


@pytest.mark.parametrize(
    "names",
    [("image",) * 3, ("image[]",) * 3, ("image[0]", "image[1]", "image[2]"), ("image", "image[]", "image[1]")],
)
def test_all_spellings_are_one_list(names: tuple[str, ...]) -> None:
    assert _read(*zip(names, "abc", strict=True)) == {"image": [b"a", b"b", b"c"]}


def test_numbers_give_the_order() -> None:
    sent = [(f"image[{index}]", str(index)) for index in (10, 2, 0)]
    assert _read(*sent) == {"image": [b"0", b"2", b"10"]}


@pytest.mark.parametrize("name", ["image[a]", "image[0", "image[99999]", "image[0][1]", "images", "other[0]", "[]"])
def test_other_names_stay_fields_of_their_own(name: str) -> None:
    assert _read((name, "a")) == {name: b"a"}


def test_texts_are_kept_as_they_are() -> None:
    form = FormData([("prompt", "a robot"), ("prompt", "a cat"), ("image[0]", "text")])
    assert asyncio.run(read_fields(form, ["image"])) == {"prompt": "a cat", "image": ["text"]}
