"""The store: every address gives its own bytes, from a folder and from elsewhere, and nothing beyond the root."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.cloudpickle
from hypothesis import given
from hypothesis import strategies as st

from components.data import cells
from components.data.address import Cell, Span, member, parse
from components.data.source_files import SourceFiles
from components.errors import DataError

FILES = {"a.png": b"first", "folder/b.png": b"second", "folder/deep/c.png": bytes(1000)}


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SourceFiles]:
    """The same files in a folder and in a remote filesystem."""
    memory = fsspec.filesystem("memory")
    for name, data in FILES.items():
        put(SourceFiles.at(tmp_path) if request.param == "local" else SourceFiles.at("memory://store"), name, data)
    yield SourceFiles.at(tmp_path if request.param == "local" else "memory://store")
    memory.rm("/", recursive=True)


def put(store: SourceFiles, name: str, data: bytes) -> None:
    if store.local:
        path = Path(store.url) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    else:
        store.filesystem.pipe(f"{store.root}/{name}", data)


def parquet(pictures: list[bytes | None], rows_per_group: int = 4) -> bytes:
    table = pa.table(
        {"image": [None if p is None else {"bytes": p, "path": None} for p in pictures], "plain": pictures}
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=rows_per_group)
    return buffer.getvalue()


# -- addresses


@given(st.text("ab!@+:0.", min_size=1), st.integers(0), st.integers(0), st.booleans())
def test_addresses_of_members_are_read_back(name: str, a: int, b: int, spans: bool) -> None:
    place = Span(name, a, b) if spans else Cell(name, a, b)
    assert parse(member("x.tar", place)) == ("x.tar", place)
    assert parse(member("x.parquet", Cell(name, a))) == ("x.parquet", Cell(name, a))


@pytest.mark.parametrize("path", ["a.png", "folder/a b.png", "x@y.png", "what!.png", "a!b@c.png", "!@1.png"])
def test_ordinary_paths_are_files(path: str) -> None:
    assert parse(path) == (path, None)


# -- reading


def test_files_are_found_in_order_and_read(store: SourceFiles) -> None:
    assert store.files() == ["a.png", "folder/b.png", "folder/deep/c.png"]
    assert {name: store.read(name) for name in store.files()} == FILES


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("absent.png", "the file does not exist"),
        ("absent.tar!a@0+5", "the file does not exist"),
        ("absent.parquet!image@0", "the file does not exist"),
        ("../a.png", "the path leaves the source's folder"),
        ("/etc/passwd", "the path leaves the source's folder"),
        ("folder/../../a.png", "the path leaves the source's folder"),
        ("../x.tar!a.png@0+5", "the path leaves the source's folder"),
        ("../x.parquet!image@0", "the path leaves the source's folder"),
        ("a\0.png", "the path leaves the source's folder"),
        ("a.png!inner@3+9", "the container is cut short"),
        ("a.png!inner@99+9", "the container is cut short"),
        ("a.png!image@0", "the table is damaged, or does not hold the cell"),
        ("a.png!image@0:0", "the table is damaged, or does not hold the cell"),
        ("a.png!image@9999999999999999999999:0", "the table is damaged, or does not hold the cell"),
    ],
)
def test_what_cannot_be_read_has_a_reason_without_names(store: SourceFiles, address: str, reason: str) -> None:
    with pytest.raises(DataError) as refused:
        store.read(address)
    assert str(refused.value) == reason


def test_limit_is_the_most_that_is_read(store: SourceFiles) -> None:
    put(store, "p.parquet", parquet([bytes(100)]))
    whole = len(FILES["folder/deep/c.png"])
    assert len(store.read("folder/deep/c.png", whole)) == whole
    for address, most in [
        ("folder/deep/c.png", whole - 1),
        ("folder/deep/c.png!inner@0+500", 499),
        ("p.parquet!image.bytes@0", 99),
    ]:
        with pytest.raises(DataError, match=r"^more bytes than data\.max_bytes$"):
            store.read(address, most)
        store.read(address, most + 1)


def test_limit_holds_for_a_file_that_is_far_too_large(tmp_path: Path) -> None:
    """A sparse file of 1 TiB: reading it whole would fail otherwise."""
    with (tmp_path / "huge.png").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(DataError, match="more bytes"):
        SourceFiles.at(tmp_path).read("huge.png", 1000)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch(mode=0)
    with pytest.raises(DataError, match=r"^the file cannot be read: Permission denied$"):
        SourceFiles.at(tmp_path).read("a.png")


def test_links_and_special_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "a.png").write_bytes(b"mine")
    (root / "within").symlink_to("a.png")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "round").symlink_to("round")
    (root / "up").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(root / "pipe")
    store = SourceFiles.at(root)
    assert store.read("within") == b"mine"
    for address, reason in {
        "out": "leaves the source's folder",
        "up/secret": "leaves the source's folder",
        "round": "the file cannot be read: Too many levels",
        "pipe": "neither a file nor a folder",
        ".": "leaves the source's folder",
    }.items():
        with pytest.raises(DataError, match=reason):
            store.read(address)
    assert not any(name.startswith("up/") for name in store.files())


def test_store_travels_to_workers_and_file_urls_are_local(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"mine")
    store = SourceFiles.at(f"file://{tmp_path}")
    sent = ray.cloudpickle.dumps(store)
    assert ray.cloudpickle.loads(sent) == store == SourceFiles.at(tmp_path) and len(sent) < 1000
    assert ray.cloudpickle.loads(sent).read("a.png") == b"mine"


@pytest.mark.parametrize("url", ["s4://bucket/pictures", "dropbox://pictures"])
def test_protocol_that_is_not_installed_is_named(url: str) -> None:
    with pytest.raises(DataError, match=rf"{url} cannot be opened: .*package"):
        SourceFiles.at(url)


# -- containers


def test_member_of_a_tar_is_read_by_its_place(store: SourceFiles) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("a.png", "b.png"):
            info = tarfile.TarInfo(name)
            info.size = 600
            archive.addfile(info, io.BytesIO(name.encode() * 120))
    put(store, "x.tar", buffer.getvalue())
    with store.open("x.tar") as stream, tarfile.open(fileobj=stream) as archive:
        places = [member("x.tar", Span(info.name, info.offset_data, info.size)) for info in archive]
    assert [store.read(place) for place in places] == [b"a.png" * 120, b"b.png" * 120]


@pytest.mark.parametrize("column", ["image.bytes", "plain"])
def test_cells_of_parquet_are_read_in_any_order(store: SourceFiles, column: str) -> None:
    pictures = [bytes([n]) * (n + 1) for n in range(11)]
    put(store, "p.parquet", parquet(pictures))
    for row in [*range(11), 10, 0, 5, 3, 4]:
        assert store.read(f"p.parquet!{column}@{row}") == pictures[row]
    for missing in (f"{column}@11", "absent@0", "image.absent@0"):
        with pytest.raises(DataError, match="does not hold the cell"):
            store.read(f"p.parquet!{missing}")


def test_empty_cells_have_a_reason(store: SourceFiles) -> None:
    put(store, "p.parquet", parquet([None, b"x"]))
    with pytest.raises(DataError, match="the cell is empty"):
        store.read("p.parquet!image.bytes@0")


def test_row_group_is_read_once_for_rows_in_order(store: SourceFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "p.parquet", parquet([bytes([n]) for n in range(12)]))
    opened: list[str] = []
    open_arrow = SourceFiles.open_arrow
    monkeypatch.setattr(SourceFiles, "open_arrow", lambda self, file: (opened.append(file), open_arrow(self, file))[1])
    assert [store.read(f"p.parquet!plain@{row}") for row in range(12)] == [bytes([n]) for n in range(12)]
    assert len(opened) == 4  # the footer and three groups


def test_row_group_larger_than_memory_allows_is_read_in_parts(
    store: SourceFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [os.urandom(1000) for _ in range(40)]
    put(store, "p.parquet", parquet(pictures, rows_per_group=40))
    monkeypatch.setattr(cells, "WINDOW", 5000)
    held: list[int] = []
    window = cells._window.__wrapped__
    monkeypatch.setattr(cells, "_window", lambda *key: (part := window(*key), held.append(part.nbytes))[0])
    assert [store.read(f"p.parquet!plain@{row}") for row in (0, 7, 39, 20)] == [pictures[n] for n in (0, 7, 39, 20)]
    assert max(held) < 2 * 5000


def test_changed_table_is_not_answered_from_memory(store: SourceFiles) -> None:
    put(store, "p.parquet", parquet([b"old"]))
    assert store.read("p.parquet!plain@0") == b"old"
    if store.local:
        (Path(store.url) / "p.parquet").unlink()  # the old file may still be mapped
    put(store, "p.parquet", parquet([b"new"]))
    assert SourceFiles.at(store.url).read("p.parquet!plain@0") == b"new"


def test_cells_of_arrow_streams_are_read_by_batch(store: SourceFiles) -> None:
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in range(3):
            images = [{"bytes": bytes([batch, row]), "path": None} for row in range(2)]
            writer.write_batch(pa.record_batch([pa.array(images, schema.field(0).type)], schema=schema))
    put(store, "d.arrow", sink.getvalue())
    stream = pa.BufferReader(sink.getvalue())
    pa.ipc.read_schema(stream)
    for batch in range(3):
        assert store.read(f"d.arrow!image.bytes@{stream.tell()}:1") == bytes([batch, 1])
        pa.ipc.read_message(stream)


# -- marks


def test_marks_follow_content_and_survive_unreadable_files(store: SourceFiles) -> None:
    put(store, "x.tar", b"container")
    wanted = ["a.png", "folder/b.png", "x.tar!one@0+4", "x.tar!two@4+5", "absent.png", "../a.png"]
    before = store.marks(wanted)
    assert before == store.marks(wanted) == SourceFiles.at(store.url).marks(reversed(wanted))
    assert (before["absent.png"], before["../a.png"]) == ("FileNotFoundError", "DataError")
    assert len({before[name] for name in wanted[:4]}) == 4 and max(map(len, before.values())) < 40
    put(store, "a.png", b"other")
    put(store, "x.tar", b"contained")
    changed = {name for name, mark in store.marks(wanted).items() if mark != before[name]}
    assert changed == {"a.png", "x.tar!one@0+4", "x.tar!two@4+5"}


def test_marks_of_local_files_are_their_content_alone(tmp_path: Path) -> None:
    marks = []
    for folder in ("one", "two"):
        put(SourceFiles.at(tmp_path / folder), "a.png", b"same")
        os.utime(tmp_path / folder / "a.png", (1, 1 + len(marks)))
        marks.append(SourceFiles.at(tmp_path / folder).marks(["a.png"]))
    assert marks[0] == marks[1]
