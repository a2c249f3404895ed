"""Small files by name, in a directory and behind a URL: whole or not at all."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
import s3fs  # type: ignore[import-untyped]

from components import object_store
from components.config.section import Place
from components.jobs.job import JobNotFoundError
from components.jobs.result_files import ResultFiles
from components.object_store import LocalObjectStore, StoreUnavailableError, below, open_object_store
from tests.fixtures import character_stores
from tests.fixtures.tcp_proxy import TcpProxy


@pytest.fixture(params=["directory", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty place for files."""
    if request.param == "s3":
        yield f"{request.getfixturevalue('s3_bucket')}/store"
    else:
        yield from character_stores.empty(request.param, tmp_path)


def test_what_is_written_is_read_listed_dated_and_gone(place: Place) -> None:
    objects = open_object_store(place)
    for name, content in {"a/1": b"one", "a/2": b"", "b": b"three", "ab/1": b"four"}.items():
        objects.write(name, content)
    objects.write("a/1", b"another")
    assert objects.read("a/1") == b"another" and objects.read("a/2") == b""
    assert sorted(objects.names()) == ["a/1", "a/2", "ab/1", "b"]
    assert sorted(objects.names("a")) == ["a/1", "a/2"], "which is no prefix"
    assert 0 <= objects.age_s("a/1") < 60
    objects.discard("a/1")
    objects.discard("a/1")
    with pytest.raises(FileNotFoundError):
        objects.read("a/1")
    with pytest.raises(FileNotFoundError):
        objects.age_s("a/1")
    objects.clear("a")
    objects.clear("nothing")
    assert sorted(objects.names()) == ["ab/1", "b"]
    assert open_object_store(place).read("b") == b"three", "another process finds it"


def test_a_black_holed_store_is_an_error_in_time(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of listings and ages, too, which no library's own error leaves."""
    at = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    limits = {"connect_timeout": 1, "read_timeout": 1, "retries": {"max_attempts": 0}}
    monkeypatch.setitem(object_store._TIME_LIMITS, "s3", {"config_kwargs": limits})
    monkeypatch.setattr(object_store, "_WRITE_S", 2)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    with TcpProxy(str(at.hostname), at.port or 80) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        objects = open_object_store(f"{s3_bucket}/store")
        objects.write("a/1", b"one")
        calls = [
            lambda: objects.read("a/1"),
            lambda: objects.write("a/2", b"two"),
            objects.names,
            lambda: objects.age_s("a/1"),
        ]
        with proxy.black_hole():
            for call in calls:
                began = time.monotonic()
                with pytest.raises(StoreUnavailableError):
                    call()
                assert time.monotonic() - began < 10
        assert objects.read("a/1") == b"one"


def test_objects_of_another_process_are_seen_at_once(s3_bucket: str) -> None:
    """A listing that was read before them hides neither the objects nor their age."""
    objects = open_object_store(f"{s3_bucket}/store")
    objects.write("a/1", b"mine")
    assert objects.names("a") == ["a/1"] and objects.age_s("a/1") < 60
    client, bucket = boto3.client("s3"), s3_bucket.removeprefix("s3://")
    client.put_object(Bucket=bucket, Key="store/a/2", Body=b"theirs")
    assert objects.age_s("a/2") < 60 and objects.read("a/2") == b"theirs"
    client.delete_object(Bucket=bucket, Key="store/a/1")
    with pytest.raises(FileNotFoundError):
        objects.age_s("a/1")
    assert objects.names("a") == ["a/2"]


def test_places_below_places(tmp_path: Path) -> None:
    assert below(tmp_path, "jobs") == tmp_path / "jobs"
    assert below("s3://bucket/store/", "jobs") == "s3://bucket/store/jobs"


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = LocalObjectStore(tmp_path)
    objects.write("a/1", b"old")
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "no space left")))
        with pytest.raises(OSError, match="no space"):
            objects.write("a/1", b"new")
    assert objects.read("a/1") == b"old" and objects.names() == ["a/1"]


def test_folders_come_and_go_under_several_hands(place: Place) -> None:
    """A folder goes with its last file while others write into it, and nobody notices."""
    objects, stop = open_object_store(place), threading.Event()

    def clear() -> None:
        while not stop.is_set():
            objects.clear("a")

    with ThreadPoolExecutor(3) as pool:
        clearing = pool.submit(clear)
        writing = [pool.submit(lambda n=n: [objects.write(f"a/{n}-{i}", b"x") for i in range(50)]) for n in range(2)]
        wait(writing)
        stop.set()
        for each in (*writing, clearing):
            each.result()
    objects.clear("a")
    assert objects.names() == []


def test_a_file_in_a_folder_s_place_is_an_error(tmp_path: Path) -> None:
    objects = LocalObjectStore(tmp_path)
    objects.write("a", b"a file")
    with pytest.raises(OSError, match="a"):
        objects.write("a/1", b"below it")
    assert objects.names() == ["a"]


def test_results_of_jobs_lie_wherever_blobs_do(place: Place) -> None:
    files = ResultFiles(below(place, "jobs"))
    files.write("job-1", "token", b"pictures")
    files.write("job-2", "token", b"others")
    assert files.read("job-1", "token") == b"pictures"
    assert files.sweep({("job-1", "token")}) == 0, "what is young may still be in the making"
    assert files.sweep({("job-1", "token")}, older_than_s=0) == 1
    files.discard("job-1", "token")
    for job in ("job-1", "job-2"):
        with pytest.raises(JobNotFoundError):
            files.read(job, "token")
    assert open_object_store(place).names() == []
