"""Storage quotas of owners, and originals that are kept as they came."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from components.characters.character import MAX_PICTURES
from components.characters.storage_quotas import StorageQuotaError, StorageUsage
from components.characters.store import CharacterStore
from components.config import StorageQuotas, load_config
from components.pictures import to_png
from deploy.characters.references import ReferenceReader
from deploy.characters.service import CharacterService
from deploy.interfaces.errors import describe_error
from tests.fixtures.character_stores import add, database, reference

__all__ = ["database"]


def limited(tmp_path: Path, database: str, **quotas: int) -> CharacterStore:
    return CharacterStore(tmp_path / "files", database, quotas=StorageQuotas(**quotas))


def files(store: CharacterStore) -> list[bytes]:
    return [store.objects.read(name) for name in store.objects.names()]


def test_usage_is_what_is_stored_and_counts_each_owner_alone(tmp_path: Path, database: str) -> None:
    store = limited(tmp_path, database)
    assert store.usage("ada") == StorageUsage(0, 0, 0)
    first = add(store, owner="ada")
    changed = store.add_pictures(first.id, [reference("blue")], MAX_PICTURES, "ada")
    assert store.usage("ada") == StorageUsage(1, 2, sum(map(len, files(store))))
    assert store.usage("") == StorageUsage(0, 0, 0)
    store.remove_picture(first.id, changed.pictures[0].id, "ada")
    assert store.usage("ada") == StorageUsage(1, 1, sum(map(len, files(store))))
    store.delete(first.id)
    assert store.usage("ada") == StorageUsage(0, 0, 0)


@pytest.mark.parametrize(
    ("quotas", "message"),
    [
        ({"max_characters": 1}, "characters: 1 of 1 are used, and this needs 1 more"),
        ({"max_pictures": 1}, "pictures: 1 of 1 are used, and this needs 1 more"),
        ({"max_bytes": 100}, "bytes: "),
    ],
)
def test_what_exceeds_a_quota_is_refused_and_leaves_no_file(
    tmp_path: Path, database: str, quotas: dict[str, int], message: str
) -> None:
    unlimited = limited(tmp_path, database)
    kept, before = add(unlimited, owner="ada"), files(unlimited)
    store = limited(tmp_path, database, **quotas)
    with pytest.raises(StorageQuotaError, match=f"^{message}.* ask the operator to raise serving.quotas.max_") as found:
        add(store, owner="ada")
    assert describe_error(found.value)[0::3] == (409, "storage_quota_exceeded")
    if "max_characters" not in quotas:
        with pytest.raises(StorageQuotaError):
            store.add_pictures(kept.id, [reference("blue")], MAX_PICTURES, "ada")
    assert files(store) == before and store.get(kept.id) == kept
    if "max_bytes" not in quotas:
        add(store, owner="bob")
    store.delete(kept.id)
    if "max_bytes" not in quotas:
        add(store, owner="ada")


def test_many_at_once_do_not_exceed_a_quota(tmp_path: Path, database: str) -> None:
    store = limited(tmp_path, database, max_characters=3)

    def attempt(_: int) -> bool:
        try:
            add(store, owner="ada")
        except StorageQuotaError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(attempt, range(12))) == 3
    assert store.usage("ada").characters == len(store.page(owner="ada")) == 3


def upload(orientation: int | None = None, form: str = "JPEG", mode: str = "RGB") -> bytes:
    """A picture of 96 x 64 pixels with a red subject left of the middle."""
    pixels = np.full((64, 96, 3), 230, np.uint8)
    pixels[16:48, 12:44] = (200, 20, 20)
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) << 8)
    picture.save(buffer, form, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_an_original_is_kept_as_it_came(tmp_path: Path, orientation: int | None) -> None:
    reader, store = ReferenceReader(load_config("tiny")), CharacterStore(tmp_path)
    data = upload(orientation)
    (read,) = reader.read([data], "pictures")
    character = store.create("Rob", "a robot", "robot", [read])
    (picture,) = character.pictures
    name = f"{character.id}/picture-{picture.id}.png"
    assert store.objects.read(name) == data, "the bytes that were uploaded"
    stored = store.reference(character.id)
    assert stored.picture.size == stored.mask.size == ((64, 96) if orientation in (5, 6, 7, 8) else (96, 64))
    assert np.array_equal(np.asarray(stored.picture), np.asarray(read.picture))
    assert np.array_equal(np.asarray(stored.mask), np.asarray(read.mask))
    raw = [Image.open(io.BytesIO(store.objects.read(name.replace("picture", kind)))) for kind in ("picture", "mask")]
    assert raw[0].size == raw[1].size, "an earlier release turns neither"
    # It moves with its file when the subject is found again.
    replaced = store.replace_picture(character.id, picture.id, store.reference(character.id))
    assert store.objects.read(f"{character.id}/picture-{replaced.pictures[0].id}.png") == data


@pytest.mark.parametrize(
    ("form", "mode"),
    [("PNG", "RGBA"), ("PNG", "L"), ("PNG", "LA"), ("PNG", "P"), ("PNG", "I;16"), ("JPEG", "L")],
)
def test_an_original_of_another_mode_is_kept_beside_its_picture(tmp_path: Path, form: str, mode: str) -> None:
    reader, store = ReferenceReader(load_config("tiny")), CharacterStore(tmp_path)
    data = upload(form=form, mode=mode)
    (read,) = reader.read([data], "pictures")
    character = store.create("Rob", "a robot", "robot", [read])
    (picture,) = character.pictures

    def kept(kind: str, identity: str) -> bytes:
        return store.objects.read(f"{character.id}/{kind}-{identity}.png")

    assert kept("original", picture.id) == data
    assert kept("picture", picture.id) == to_png(read.picture), "an earlier release reads it"
    assert picture.size == sum(len(kept(kind, picture.id)) for kind in ("original", "picture", "mask"))
    assert store.sweep(older_than_s=-1) == 0, "it belongs to the row"
    replaced = store.replace_picture(character.id, picture.id, store.reference(character.id))
    assert kept("original", replaced.pictures[0].id) == data
    assert not [name for name in store.objects.names() if picture.id in name]
    store.objects.discard(f"{character.id}/original-{replaced.pictures[0].id}.png")
    assert store.reference(character.id).original == to_png(read.picture), "as earlier releases store it"


def test_a_served_original_has_no_metadata_of_its_sender(tmp_path: Path) -> None:
    async def served() -> bytes:
        service = CharacterService(load_config("tiny", [f"serving.store={tmp_path}"]))
        character = await service.create("Rob", "a robot", "robot", [upload(6)], [None])
        return await service.original(character.id, character.pictures[0].id)

    shown = Image.open(io.BytesIO(asyncio.run(served())))
    assert (shown.format, shown.size) == ("PNG", (64, 96)) and not dict(shown.getexif()) and "exif" not in shown.info
