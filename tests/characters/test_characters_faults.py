"""What crashes leave of characters (nothing visible), and databases and directories of an earlier release."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import torch

from components.characters.character import MAX_PICTURES, Picture, SubjectTokens
from components.characters.store import CharacterStore
from components.characters.tables import characters
from components.config import PACKAGE_ROOT
from components.config.section import Place
from components.database import connect_database, open_database
from components.object_store import LocalObjectStore, open_object_store
from components.pictures import to_png
from tests.fakes.characters_process import MODEL, colors_of
from tests.fixtures.character_stores import add, color, database, place, reference, store

__all__ = ["database", "place", "store"]

#: The table of the first release.
_OLD = sa.Table(
    "characters",
    sa.MetaData(),
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("target_word", sa.Text, nullable=False),
    sa.Column("pictures", sa.Integer, nullable=False),
    sa.Column("advice", sa.JSON, nullable=False),
)


def wanted(store: CharacterStore) -> set[str]:
    """The files that rows stand for, tokens left out."""
    return {
        f"{character.id}/{kind}-{picture.id}.png"
        for character in store.page(limit=1000)
        for picture in character.pictures
        for kind in ("picture", "mask")
    }


def without_tokens(store: CharacterStore) -> set[str]:
    return {name for name in store.objects.names() if "/tokens-" not in name and name.startswith(("char-", "."))}


def test_a_crash_before_the_row_shows_nothing_and_is_swept(
    store: CharacterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = add(store)
    with monkeypatch.context() as broken:
        broken.setattr(store._rows, "_engine", None)
        with pytest.raises(AttributeError):
            add(store)
    store.objects.write(".char-half.partial/picture-0.png", b"of an earlier release")
    store.objects.write(f"{kept.id}/tokens-7-{'0' * 32}.safetensors", b"of pictures that have never been")
    store.objects.write("jobs/job-1.token", b"somebody else's")
    assert [c.id for c in store.page()] == [kept.id]
    assert store.sweep() == 0, "what is young may still be in the making"
    assert store.sweep(older_than_s=0) == 4
    assert set(store.objects.names()) == wanted(store) | {"jobs/job-1.token"}
    assert len(store.references(kept.id)) == 1


def test_age_is_what_the_file_system_says(tmp_path: Path) -> None:
    objects = LocalObjectStore(tmp_path / "store")
    store = CharacterStore(tmp_path / "store", f"sqlite:///{tmp_path}/rows.db")
    for name in ("char-old", "char-young"):
        objects.write(f"{name}/picture-0.png", b"")
    os.utime(tmp_path / "store/char-old/picture-0.png", (time.time() - 7200,) * 2)
    (tmp_path / "store/char-empty").mkdir()
    assert store.sweep() == 1
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["char-young"]


def test_killed_processes_leave_rows_that_can_be_trusted(tmp_path: Path) -> None:
    """Six processes change the same characters and are killed one after the other, each in the middle of something."""
    directory, rows = tmp_path / "store", f"sqlite:///{tmp_path}/rows.db"
    store, chance = CharacterStore(directory, rows), random.Random(0)
    command = [sys.executable, "-m", "tests.fakes.characters_process", str(directory), rows]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, str(seed)], cwd=PACKAGE_ROOT, **pipes) for seed in range(6)]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 6  # type: ignore[union-attr]
        for process in processes:
            process.stdin.write("\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        for process in processes:
            time.sleep(chance.uniform(0.2, 0.6))
            assert process.poll() is None, "it ended by itself"
            process.kill()
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    known = store.page(limit=1000)
    assert len(known) >= 4
    kept = 0
    for character in known:
        shown = store.cut_outs(character.id, 16)
        assert len(shown.cut_outs) == len(character.pictures) and shown.revision == character.revision
        tokens = store.tokens(character.id, MODEL)
        if tokens is not None:
            kept += 1
            assert torch.equal(tokens.tokens, colors_of(shown).tokens), "tokens of other pictures"
        store.put_tokens(character.id, MODEL, shown.revision, colors_of(shown))
    left = without_tokens(store)
    assert wanted(store) <= left
    swept = store.sweep(older_than_s=0)
    assert without_tokens(store) == wanted(store) and len(store.objects.names()) == len(wanted(store)) + len(known)
    folders = {path.name for path in directory.iterdir()}
    assert folders == {character.id for character in known}
    orphans = len(left - wanted(store))
    print(f"{len(known)} characters, {kept} with tokens; the dead left {orphans} files, and {swept} were swept away")


def test_an_earlier_release_s_characters_go_on(place: Place, database: str) -> None:
    """Without owners and revisions, their pictures numbered and their faces in a file."""
    objects, identifier, faceless = open_object_store(place), "char-" + "1" * 28, "char-" + "2" * 28
    engine = connect_database(Path(place) if isinstance(place, Path) else place, database)
    _OLD.create(engine)
    row = {"created": 5.0, "name": "Rob", "description": "a robot", "target_word": "robot", "advice": ["Closer."]}
    with engine.begin() as connection:
        connection.execute(_OLD.insert().values(id=identifier, pictures=2, **row))
        connection.execute(_OLD.insert().values(id=faceless, pictures=1, **row))
    for owner, index, shown in ((identifier, 0, "red"), (identifier, 1, "blue"), (faceless, 0, "red")):
        objects.write(f"{owner}/picture-{index}.png", to_png(reference(shown).picture))
        objects.write(f"{owner}/mask-{index}.png", to_png(reference(shown).mask))
    objects.write(f"{identifier}/faces.json", json.dumps([[20, 10, 30, 20], None]).encode())
    objects.write(f"{identifier}/tokens.safetensors", b"in a format of their own")

    for _ in range(2):
        store = CharacterStore(place, database)
        found = store.get(identifier, "")
        assert found.pictures == (Picture("0", (20, 10, 30, 20)), Picture("1"))
        assert (found.revision, found.word_source, found.advice, found.owner) == (1, None, ["Closer."], "")
        assert [r.face for r in store.references(identifier)] == [(20, 10, 30, 20), None]
        assert store.get(faceless).pictures == (Picture("0"),)
        assert store.tokens(identifier, "model-a") is None
    assert [c.id for c in store.page()] == [faceless, identifier]
    assert store.put_tokens(identifier, "model-a", 1, SubjectTokens(torch.ones(2, 3)))
    changed = store.add_pictures(identifier, [reference("yellow")], MAX_PICTURES)
    assert [p.id for p in changed.pictures][:2] == ["0", "1"] and changed.revision == 2
    assert [color(c.picture) for c in store.cut_outs(identifier, 16).cut_outs] == [
        (255, 0, 0),
        (0, 0, 255),
        (255, 255, 0),
    ]
    store.sweep(older_than_s=0)
    assert set(store.objects.names()) == wanted(store), "the old tokens and the faces are in nobody's way"
    add(store, owner="ada")
    store.delete(identifier)
    store.delete(faceless)
    assert len(store.objects.names()) == 2


def test_missing_columns_are_added_once(database: str, tmp_path: Path) -> None:
    _OLD.create(connect_database(tmp_path, database))
    for _ in range(2):
        engine = open_database(tmp_path, database)
    with engine.connect() as connection:
        found = sa.inspect(connection)
        names = [column["name"] for column in found.get_columns("characters")]
        assert sorted(names) == sorted(column.name for column in characters.columns)
        assert "characters_by_owner" in {index["name"] for index in found.get_indexes("characters")}
