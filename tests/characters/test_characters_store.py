"""The character store: what is kept, what changes, what deletion leaves (nothing), and whom it is shown to."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from components.characters.character import (
    MAX_PICTURES,
    Picture,
    PictureCountError,
    PictureNotFoundError,
    SubjectTokens,
)
from components.characters.store import CharacterStore
from components.config import load_config
from components.config.section import Place
from components.errors import ConfigError, NotFoundError
from components.object_store import open_object_store
from tests.fixtures.character_stores import add, color, database, place, reference, store

__all__ = ["database", "place", "store"]

RED, BLUE = (255, 0, 0), (0, 0, 255)


def left(store: CharacterStore) -> list[str]:
    """The files in the store."""
    return sorted(store.objects.names())


def tokens(value: float = 1.0) -> SubjectTokens:
    return SubjectTokens(torch.full((2, 3), value))


def test_a_character_survives_reopening_the_store(store: CharacterStore, place: Place, database: str) -> None:
    created = add(store)
    found = CharacterStore(place, database).get(created.id)
    assert found == created
    assert (found.name, found.target_word, found.word_source, len(found.pictures)) == ("Rob", "robot", "given", 1)
    assert found.pictures[0].advice == reference().advice and found.advice == list(reference().advice.sentences)


def test_pictures_come_back_unchanged_and_cut_out(store: CharacterStore) -> None:
    created = add(store, "Two", reference("red"), reference("blue"))
    kept = store.references(created.id)
    assert [r.picture.tobytes() for r in kept] == [reference(c).picture.tobytes() for c in ("red", "blue")]
    shown = store.cut_outs(created.id, 32)
    assert shown.revision == 1 and [color(c.picture) for c in shown.cut_outs] == [RED, BLUE]
    assert shown.cut_outs[0].picture.size == (32, 32)
    assert shown.cut_outs[0].picture.getpixel((0, 0)) == (255, 255, 255)
    assert color(store.reference(created.id).picture) == RED
    assert color(store.reference(created.id, created.pictures[1].id).picture) == BLUE


def test_characters_live_on_s3(s3_bucket: str, tmp_path: Path) -> None:
    store = CharacterStore(f"{s3_bucket}/characters", f"sqlite:///{tmp_path}/rows.db")
    kept, gone = add(store, "Rob", reference("red")), add(store, "Tom", reference("blue"))
    store.put_tokens(kept.id, "model", 1, tokens())
    store.objects.write("char-half/picture-0.png", b"of a process that has died")
    assert store.sweep() == 0, "what is young may still be in the making"
    assert store.sweep(older_than_s=0) == 1
    store.delete(gone.id)
    again = CharacterStore(f"{s3_bucket}/characters", f"sqlite:///{tmp_path}/rows.db")
    assert [character.id for character in again.page()] == [kept.id]
    assert color(again.cut_outs(kept.id, 32).cut_outs[0].picture) == RED
    found = again.tokens(kept.id, "model")
    assert found is not None and torch.equal(found.tokens, tokens().tokens)
    assert len(left(again)) == 3, "picture, mask and tokens"


def test_pages_are_newest_first_and_survive_deletions(store: CharacterStore) -> None:
    ids = [add(store, f"c{i}").id for i in range(5)]
    first = store.page(limit=2)
    assert [c.id for c in first] == [ids[4], ids[3]]
    store.delete(ids[3])
    assert [c.id for c in store.page(limit=2, after=first[-1].id)] == [ids[2], ids[1]]
    assert [c.id for c in store.page(limit=9, after=ids[1])] == [ids[0]]


def test_names_are_found_in_any_case(store: CharacterStore) -> None:
    ids = [add(store, name).id for name in ("Zoë", "Rob", "ZOE\u0308")]
    assert {member.id for member in store.cast().named("zoë")} == {ids[0], ids[2]}
    assert store.cast().named("nobody") == [] and store.cast("another").named("zoë") == []


def test_a_name_a_description_and_a_word_can_change(store: CharacterStore) -> None:
    created = add(store)
    store.put_tokens(created.id, "model-a", 1, tokens())
    renamed = store.describe(created.id, name="Bob")
    assert (renamed.name, renamed.description, renamed.target_word) == ("Bob", "a red robot", "robot")
    changed = store.describe(created.id, description="", target_word="machine")
    assert (changed.name, changed.description, changed.target_word) == ("Bob", "", "machine")
    assert changed == store.get(created.id)
    assert store.tokens(created.id, "model-a") is not None, "the pictures are the same"


def test_deleting_removes_every_file(store: CharacterStore) -> None:
    kept, gone = add(store), add(store, "Two", reference(), reference("blue"))
    store.put_tokens(gone.id, "model-a", 1, tokens())
    assert len([name for name in left(store) if name.startswith(gone.id)]) == 5
    store.delete(gone.id)
    assert [name for name in left(store) if not name.startswith(f"{kept.id}/")] == []
    for forbidden in (store.get, store.delete, store.references, store.describe):
        with pytest.raises(NotFoundError):
            forbidden(gone.id)
    with pytest.raises(NotFoundError):
        store.put_tokens(gone.id, "model-a", 1, tokens())
    store.delete(kept.id)
    assert left(store) == []


def test_no_folder_stays(tmp_path: Path) -> None:
    store = CharacterStore(tmp_path / "store", f"sqlite:///{tmp_path}/rows.db")
    store.delete(add(store).id)
    assert list((tmp_path / "store").iterdir()) == []


def test_ids_are_never_paths(store: CharacterStore) -> None:
    store.objects.write("tokens.safetensors", b"someone else's")
    for hostile in ("..", "../store", "", ".", "%", "\0", "char-" + "0" * 28, "char-" + "0" * 27 + "\n", "é" * 33):
        for forbidden in (store.get, store.delete, store.references, lambda i: store.tokens(i, "model-a")):
            with pytest.raises(NotFoundError):
                forbidden(hostile)
        if not hostile.startswith("char-00"):
            with pytest.raises(NotFoundError):
                store.page(after=hostile)
    created = add(store)
    for hostile in ("../tokens", "", "\0"):
        with pytest.raises(PictureNotFoundError):
            store.reference(created.id, hostile)
        with pytest.raises(PictureNotFoundError):
            store.remove_picture(created.id, hostile)
    assert "tokens.safetensors" in left(store)


def test_tokens_belong_to_the_model_that_made_them(store: CharacterStore) -> None:
    created = add(store)
    assert store.tokens(created.id, "model-a") is None
    made = torch.randn(4, 8, dtype=torch.bfloat16)
    assert store.put_tokens(created.id, "model-a", 1, SubjectTokens(made))
    found = store.tokens(created.id, "model-a")
    assert found is not None and torch.equal(found.tokens, made) and found.face is None
    assert store.tokens(created.id, "model-b") is None
    face = torch.tensor([True, False, False, True])
    assert store.put_tokens(created.id, "model-b", 1, SubjectTokens(made + 1, face))
    again = store.tokens(created.id, "model-b")
    assert again is not None and again.face is not None and torch.equal(again.face, face)
    assert torch.equal(again.tokens, made + 1)
    old = store.tokens(created.id, "model-a")
    assert old is not None and torch.equal(old.tokens, made), (
        "two versions served at the same time do not overwrite each other's tokens"
    )


def test_tokens_of_models_out_of_use_go(store: CharacterStore) -> None:
    created = add(store)
    for model in "abcdef":
        store.put_tokens(created.id, model, 1, tokens())
    kept = [model for model in "abcdef" if store.tokens(created.id, model) is not None]
    assert kept[-1] == "f" and len(kept) == 3


def test_pictures_come_and_go_and_keep_their_ids(store: CharacterStore) -> None:
    created = add(store)
    both = store.add_pictures(created.id, [reference("blue")], MAX_PICTURES)
    assert both.pictures[0] == created.pictures[0] and both.revision == 2 and both == store.get(created.id)
    first, second = both.pictures
    assert [color(c.picture) for c in store.cut_outs(created.id, 32).cut_outs] == [RED, BLUE]
    one = store.remove_picture(created.id, first.id)
    assert one.pictures == (second,) and one.revision == 3 and one == store.get(created.id)
    assert [color(c.picture) for c in store.cut_outs(created.id, 32).cut_outs] == [BLUE]
    with pytest.raises(PictureNotFoundError):
        store.reference(created.id, first.id)
    with pytest.raises(PictureNotFoundError):
        store.remove_picture(created.id, first.id)
    with pytest.raises(PictureCountError, match="at least one"):
        store.remove_picture(created.id, second.id)
    with pytest.raises(PictureCountError, match="at most 4"):
        store.add_pictures(created.id, [reference()] * 4, MAX_PICTURES)
    assert left(store) == [f"{created.id}/mask-{second.id}.png", f"{created.id}/picture-{second.id}.png"]


def test_advice_follows_the_pictures(store: CharacterStore) -> None:
    created = add(store)
    assert len(created.advice) > 0
    doubled = store.add_pictures(created.id, [reference()], MAX_PICTURES)
    assert doubled.advice == created.advice, "each sentence once"


def test_other_pictures_have_other_tokens(store: CharacterStore) -> None:
    created = add(store)
    before = store.cut_outs(created.id, 32)
    store.put_tokens(created.id, "model-a", before.revision, tokens())
    store.add_pictures(created.id, [reference("blue")], MAX_PICTURES)
    assert store.tokens(created.id, "model-a") is None
    assert not store.put_tokens(created.id, "model-a", before.revision, tokens()), "made of what is not shown any more"
    assert store.tokens(created.id, "model-a") is None
    assert not [name for name in left(store) if "tokens" in name]


@pytest.mark.parametrize("meanwhile", ["changed", "deleted"])
def test_tokens_that_are_late_do_not_stay(
    store: CharacterStore, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """Somebody else acts between the look at the row and the writing of the file."""
    created, put = add(store), store._files.put_tokens

    def late(*arguments: object) -> None:
        monkeypatch.undo()
        if meanwhile == "changed":
            store.add_pictures(created.id, [reference("blue")], MAX_PICTURES)
        else:
            store.delete(created.id)
        put(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store._files, "put_tokens", late)
    if meanwhile == "changed":
        assert not store.put_tokens(created.id, "model-a", 1, tokens())
        assert store.tokens(created.id, "model-a") is None and not [n for n in left(store) if "tokens" in n]
    else:
        with pytest.raises(NotFoundError):
            store.put_tokens(created.id, "model-a", 1, tokens())
        assert left(store) == []


def test_a_picture_for_a_character_that_is_deleted_meanwhile_does_not_stay(
    store: CharacterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    created, put = add(store), store._files.put

    def late(*arguments: object) -> Picture:
        store.delete(created.id)
        return put(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store._files, "put", late)
    with pytest.raises(NotFoundError):
        store.add_pictures(created.id, [reference("blue")], MAX_PICTURES)
    assert left(store) == []


def test_those_who_add_at_the_same_time_do_not_lose_pictures(store: CharacterStore) -> None:
    created = add(store)

    def one_more(_: int) -> bool:
        try:
            store.add_pictures(created.id, [reference("blue")], MAX_PICTURES)
        except PictureCountError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        added = sum(pool.map(one_more, range(8)))
    found = store.get(created.id)
    assert added == MAX_PICTURES - 1 and len(found.pictures) == MAX_PICTURES and found.revision == MAX_PICTURES
    assert len(store.references(created.id)) == MAX_PICTURES and len(left(store)) == 2 * MAX_PICTURES


def test_what_is_shown_is_of_one_revision(store: CharacterStore) -> None:
    """While pictures change, a reader sees the pictures of one revision, and tokens of that revision or none."""
    created, stop = add(store, "One", reference("red")), threading.Event()

    def change() -> None:
        for step in range(12):
            found = store.get(created.id)
            if step % 2:
                store.remove_picture(created.id, found.pictures[0].id)
            else:
                store.add_pictures(created.id, [reference("blue" if step % 4 else "red")], MAX_PICTURES)
        stop.set()

    def look(_: int) -> int:
        looks = 0
        while not stop.is_set() or not looks:
            shown = store.cut_outs(created.id, 16)
            sums = torch.tensor([[float(sum(color(c.picture)[::2])) for c in shown.cut_outs]])
            store.put_tokens(created.id, "model-a", shown.revision, SubjectTokens(sums))
            looks += 1
        return looks

    with ThreadPoolExecutor(3) as pool:
        changing = pool.submit(change)
        assert all(pool.map(look, range(2)))
        changing.result()
    shown = store.cut_outs(created.id, 16)
    kept = store.tokens(created.id, "model-a")
    assert kept is None or kept.tokens.shape[1] == len(shown.cut_outs)
    named = {name.split("-")[-2] for name in left(store) if "tokens" in name}
    assert named <= {str(shown.revision)}, "tokens of no other revision stay"


def test_face_boxes_follow_the_cut_out(store: CharacterStore) -> None:
    created = add(store, "Two", reference(face=(20, 10, 30, 20)), reference())
    assert [r.face for r in store.references(created.id)] == [(20, 10, 30, 20), None]
    first, second = store.cut_outs(created.id, 32).cut_outs
    assert second.face is None and first.face is not None
    x0, y0, x1, y1 = first.face
    assert 0 < x0 < 4 and 0 < y0 < 4 and 15 < x1 < 17 and 15 < y1 < 17, "the upper left quarter of the subject"


def test_owners_see_their_own(store: CharacterStore) -> None:
    mine, theirs = add(store, owner="ada"), add(store, owner="bob")
    assert [c.id for c in store.page(owner="ada")] == [mine.id] and store.page() == []
    picture = mine.pictures[0].id
    for forbidden in (
        lambda: store.get(mine.id, "bob"),
        lambda: store.describe(mine.id, "Bob's now", owner="bob"),
        lambda: store.add_pictures(mine.id, [reference()], MAX_PICTURES, "bob"),
        lambda: store.remove_picture(mine.id, picture, "bob"),
        lambda: store.reference(mine.id, picture, "bob"),
        lambda: store.delete(mine.id, "bob"),
    ):
        with pytest.raises(NotFoundError):
            forbidden()
    assert store.get(mine.id, "ada") == mine and store.get(theirs.id, "bob") == theirs
    assert len(store.references(mine.id)) == 1


def test_rows_lie_in_the_directory_by_default(tmp_path: Path) -> None:
    created = add(CharacterStore(tmp_path / "files"))
    assert (tmp_path / "files" / "characters.db").exists()
    assert CharacterStore(tmp_path / "files").get(created.id) == created


def test_a_url_needs_a_database() -> None:
    with pytest.raises(ConfigError, match=r"serving\.database"):
        CharacterStore("memory://characters")
    with pytest.raises(ConfigError, match="database"):
        load_config("tiny", ["serving.store=s3://bucket/characters"])
    config = load_config("tiny", ["serving.store=s3://bucket/characters", "serving.database=sqlite:///rows.db"])
    assert config.serving.store == "s3://bucket/characters"


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        open_object_store("nowhere://characters")
