"""The character store: what is kept, what deletion leaves (nothing), and what a crash leaves (nothing visible)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from components.characters.store import Character, CharacterStore, Reference, SubjectTokens
from components.errors import NotFoundError


def reference(color: str = "red") -> Reference:
    picture, mask = Image.new("RGB", (60, 40), "green"), Image.new("L", (60, 40))
    ImageDraw.Draw(picture).rectangle((20, 10, 39, 29), fill=color)
    ImageDraw.Draw(mask).rectangle((20, 10, 39, 29), fill=255)
    return Reference(picture, mask)


def add(store: CharacterStore, name: str = "Rob", *references: Reference) -> Character:
    return store.create(name, "a red robot", "robot", references or [reference()], ["Use a larger picture."])


def test_a_character_survives_reopening_the_store(tmp_path: Path) -> None:
    created = add(CharacterStore(tmp_path))
    found = CharacterStore(tmp_path).get(created.id)
    assert found == created
    assert (found.name, found.target_word, found.pictures) == ("Rob", "robot", 1)
    assert found.advice == ["Use a larger picture."]


def test_pictures_come_back_unchanged_and_cut_out(tmp_path: Path) -> None:
    store = CharacterStore(tmp_path)
    created = add(store, "Two", reference("red"), reference("blue"))
    kept = store.references(created.id)
    assert [r.picture.tobytes() for r in kept] == [reference(c).picture.tobytes() for c in ("red", "blue")]
    cut_outs = store.cut_outs(created.id, 32)
    assert [c.picture.getpixel((16, 16)) for c in cut_outs] == [(255, 0, 0), (0, 0, 255)]
    assert cut_outs[0].picture.size == (32, 32)
    assert cut_outs[0].picture.getpixel((0, 0)) == (255, 255, 255)


def test_pages_are_newest_first_and_survive_deletions(tmp_path: Path) -> None:
    store = CharacterStore(tmp_path)
    ids = [add(store, f"c{i}").id for i in range(5)]
    first = store.page(limit=2)
    assert [c.id for c in first] == [ids[4], ids[3]]
    store.delete(ids[3])
    assert [c.id for c in store.page(limit=2, after=first[-1].id)] == [ids[2], ids[1]]
    assert [c.id for c in store.page(limit=9, after=ids[1])] == [ids[0]]


def test_deleting_removes_every_file(tmp_path: Path) -> None:
    store = CharacterStore(tmp_path)
    kept, gone = add(store), add(store)
    store.put_tokens(gone.id, "model-a", SubjectTokens(torch.ones(2, 3)))
    store.delete(gone.id)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [kept.id]
    for forbidden in (store.get, store.delete, store.references):
        with pytest.raises(NotFoundError):
            forbidden(gone.id)
    with pytest.raises(NotFoundError):
        store.put_tokens(gone.id, "model-a", SubjectTokens(torch.ones(2, 3)))


def test_ids_are_never_paths(tmp_path: Path) -> None:
    store = CharacterStore(tmp_path / "store")
    (tmp_path / "tokens.safetensors").write_bytes(b"someone else's")
    for hostile in ("..", "../store", "", ".", "%"):
        with pytest.raises(NotFoundError):
            store.tokens(hostile, "model-a")
        with pytest.raises(NotFoundError):
            store.delete(hostile)
    assert (tmp_path / "tokens.safetensors").exists()


def test_tokens_belong_to_the_model_that_made_them(tmp_path: Path) -> None:
    store = CharacterStore(tmp_path)
    created = add(store)
    assert store.tokens(created.id, "model-a") is None
    tokens = torch.randn(4, 8, dtype=torch.bfloat16)
    store.put_tokens(created.id, "model-a", SubjectTokens(tokens))
    found = store.tokens(created.id, "model-a")
    assert found is not None and torch.equal(found.tokens, tokens) and found.face is None
    assert store.tokens(created.id, "model-b") is None
    face = torch.tensor([True, False, False, True])
    store.put_tokens(created.id, "model-b", SubjectTokens(tokens + 1, face))
    assert store.tokens(created.id, "model-a") is None
    again = store.tokens(created.id, "model-b")
    assert again is not None and again.face is not None and torch.equal(again.face, face)


def test_face_boxes_follow_the_cut_out(tmp_path: Path) -> None:
    store = CharacterStore(tmp_path)
    drawn = reference()
    created = add(store, "Two", Reference(drawn.picture, drawn.mask, (20, 10, 30, 20)), drawn)
    assert [r.face for r in store.references(created.id)] == [(20, 10, 30, 20), None]
    first, second = store.cut_outs(created.id, 32)
    assert second.face is None and first.face is not None
    x0, y0, x1, y1 = first.face
    assert 0 < x0 < 4 and 0 < y0 < 4 and 15 < x1 < 17 and 15 < y1 < 17, "the upper left quarter of the subject"


def test_a_crash_before_the_row_shows_nothing_and_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CharacterStore(tmp_path)
    kept = add(store)
    with monkeypatch.context() as broken:
        broken.setattr(store, "_engine", None)
        with pytest.raises(AttributeError):
            add(store)
    (tmp_path / ".char-half.partial").mkdir()
    assert [c.id for c in store.page()] == [kept.id]
    assert store.sweep() == 0, "what is young may still be in the making"
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - 7200,) * 2)
    assert store.sweep() == 2
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [kept.id]


def test_rows_can_live_in_another_database(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    created = add(CharacterStore(tmp_path / "files", database))
    assert not (tmp_path / "files" / "characters.db").exists()
    assert CharacterStore(tmp_path / "files", database).get(created.id) == created
