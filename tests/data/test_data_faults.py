"""What fails while a dataset is prepared costs time, never rows: whatever is killed, the result is the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from components.config import PACKAGE_ROOT, Config, load_config
from components.data.finished_units import FinishedUnits
from components.data.manifest import Manifest, load_manifest
from components.data.prepare import Prepared, prepare
from components.errors import DataError
from components.model.miniature import MiniatureLayout
from components.world.write import write_world
from tests.fixtures.faults import (
    QUICK_DETECTION,
    children,
    environment_without_ray,
    kill_children,
    wait_for,
    wait_for_end,
)

ROWS = 48
#: Twelve units, each of which takes long enough that something can happen to it.
SETTINGS = ("data.rows_per_shard=4", "data.batch_size=4", "data.encoders=1", "data.image_size=192")


@pytest.fixture(scope="module")
def overrides(miniature: MiniatureLayout, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings, all but the output, of a preparation of the toy world, two of whose pictures cannot be read."""
    folder = tmp_path_factory.mktemp("faults")
    models = [f"model.{part}={miniature.root / part}" for part in ("base", "siglip", "dinov2")]
    world = ["world.identities=12", "world.pictures_per_identity=4", f"world.output={folder}/raw"]
    settings = [*models, "model.adapter=null", *world, f"data.source={folder}/raw", *SETTINGS]
    config = load_config("tiny", settings)
    write_world(config.world, seed=5)
    pictures = [json.loads(line)["image"] for line in (folder / "raw" / "pairs.jsonl").read_text().splitlines()]
    for picture, target in ((pictures[6], None), (pictures[30], "nowhere.png")):
        (folder / "raw" / picture).unlink()
        if target:
            (folder / "raw" / picture).symlink_to(target)
        else:
            (folder / "raw" / picture).mkdir()
    return settings


def into(overrides: list[str], output: Path) -> Config:
    return load_config("tiny", [*overrides, f"data.output={output}"])


@pytest.fixture(scope="module")
def undisturbed(overrides: list[str], tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Prepared:
    return prepare(into(overrides, tmp_path_factory.mktemp("undisturbed") / "prepared"))


def contents(directory: Path) -> dict[str, bytes]:
    """Every parquet file of a dataset; the manifest and the report name the output."""
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*.parquet")}


def check(directory: Path, undisturbed: Prepared) -> Manifest:
    """The books balance, and the dataset is the one that nothing had disturbed."""
    manifest = load_manifest(directory)
    assert manifest.rows_in == ROWS == manifest.rows_out + manifest.rows_rejected
    assert manifest.rows_rejected == 2 == sum(manifest.reasons.values())
    assert manifest.model_copy(update={"config": {}}) == undisturbed.manifest.model_copy(update={"config": {}})
    assert contents(directory) == contents(undisturbed.directory)
    return manifest


def parts_of(output: Path) -> FinishedUnits:
    return FinishedUnits(output.with_name(f"{output.name}.parts"))


def written(parts: FinishedUnits) -> dict[str, int]:
    """When each finished unit was written."""
    return {file.name: file.stat().st_mtime_ns for file in parts.directory.glob("*.json")}


def some_units(parts: FinishedUnits, number: int = 2) -> Callable[[], bool]:
    return lambda: parts.directory.is_dir() and len(written(parts)) >= number


def test_sources_that_cannot_be_read_are_listed(undisturbed: Prepared) -> None:
    assert undisturbed.manifest.reasons == {
        "decode: the file cannot be read: Is a directory": 1,
        "decode: the file does not exist": 1,
    }
    assert undisturbed.encoded == ROWS


def test_half_finished_work_is_resumed_by_unit(undisturbed: Prepared, overrides: list[str], tmp_path: Path) -> None:
    """Of the finished units one lost its record, one its shard, one was cut short, and one lost its references."""
    parts = parts_of(tmp_path / "prepared")
    shutil.copytree(parts_of(undisturbed.directory).directory, parts.directory)
    records = sorted(parts.finished(), key=lambda record: record.key)
    parts.record(records[0].key).unlink()
    parts.shard(records[1].key, "192x192").unlink()
    os.truncate(parts.shard(records[2].key, "192x192"), 1000)
    parts.references(records[3].key).unlink()
    (parts.directory / f".{records[3].key}.192x192.parquet.1.partial").write_bytes(b"half")
    kept = {name: when for name, when in written(parts).items() if name.split(".")[0] in {r.key for r in records[4:]}}
    again = prepare(into(overrides, tmp_path / "prepared"))
    assert again.encoded == sum(len(record.marks) for record in records[:4])
    assert kept.items() <= written(parts).items() and not list(parts.directory.glob(".*"))
    check(again.directory, undisturbed)


# -- processes that die


def preparing(overrides: list[str], output: Path) -> Future[Prepared]:
    threads = ThreadPoolExecutor(1)
    future = threads.submit(prepare, into(overrides, output))
    threads.shutdown(wait=False)
    return future


def kill(stage: str) -> int:
    """Kill the processes of this Ray that are at work on ``stage`` and no other; says how many there were."""
    return kill_children(at_work_on(stage))


def running(stage: str) -> bool:
    """Whether a process of this Ray is at work on ``stage`` and no other."""
    return bool(children(at_work_on(stage)))


def at_work_on(stage: str) -> Callable[[str], bool]:
    return lambda command: f"MapBatches({stage})" in command and "->" not in command


@pytest.mark.slow
def test_killed_workers_cost_no_row(undisturbed: Prepared, overrides: list[str], tmp_path: Path) -> None:
    """First one that reads pictures, then the only one that encodes."""
    output = tmp_path / "prepared"
    future = preparing(overrides, output)
    parts = parts_of(output)
    wait_for(lambda: kill("curate_units"))
    wait_for(some_units(parts))
    before = written(parts)
    assert kill("EncodeUnits") and len(before) < 12 and not future.done()
    assert future.result(timeout=300).encoded == ROWS
    assert before.items() <= written(parts).items()
    check(output, undisturbed)


@contextmanager
def command(overrides: list[str], output: Path) -> Iterator[subprocess.Popen[str]]:
    """`workflows.prepare` in a process of its own, with a Ray of its own."""
    sets = [word for setting in (*overrides, f"data.output={output}") for word in ("--set", setting)]
    process = subprocess.Popen(
        [sys.executable, "-m", "workflows.prepare", "--preset", "tiny", *sets],
        cwd=PACKAGE_ROOT, env=environment_without_ray(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_killed_driver_is_followed_by_one_that_goes_on(
    undisturbed: Prepared, overrides: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "prepared"
    parts = parts_of(output)
    with command(overrides, output) as process:
        wait_for(some_units(parts, 3))
        encoders = children(lambda command: "EncodeUnits" in command)
        assert encoders
        process.kill()
    wait_for_end(encoders)
    before = written(parts)
    assert 3 <= len(before) < 12 and not output.exists()
    done = sum(len(record.marks) for record in parts.finished())
    again = prepare(into(overrides, output))
    assert again.encoded == ROWS - done
    assert before.items() <= written(parts).items()
    check(output, undisturbed)


# -- machines


_NODES = """
import os, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from components.config import load_config
from components.data.prepare import prepare

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
ray.init(address=cluster.address, log_to_driver=False)
cluster.wait_for_nodes()
config = load_config("tiny", sys.argv[1:])
done = []
thread = threading.Thread(target=lambda: done.append(prepare(config)))
thread.start()
records = Path(f"{config.data.output}.parts")
while thread.is_alive() and len(list(records.glob("*.json"))) < 3:
    time.sleep(0.01)
finished = len(list(records.glob("*.json")))
cluster.remove_node(nodes[1], allow_graceful=False)
thread.join()
print("killed after", finished, "encoded", done[0].encoded)
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.slow
def test_killed_node_costs_no_row(undisturbed: Prepared, overrides: list[str], tmp_path: Path) -> None:
    output = tmp_path / "prepared"
    settings = [*overrides, f"data.output={output}", "data.encoders=2"]
    with tempfile.TemporaryDirectory(prefix="ray") as apart:  # or else other tests would join these nodes
        ended = subprocess.run(
            [sys.executable, "-c", _NODES, *settings],
            cwd=PACKAGE_ROOT, env=os.environ | QUICK_DETECTION | {"RAY_TMPDIR": apart}, capture_output=True, text=True,
            timeout=600,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    finished = int(ended.stdout.split("killed after")[1].split()[0])
    assert 3 <= finished < 12
    check(output, undisturbed)


# -- disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that holds a few units."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.slow
def test_full_disk_is_one_error_and_room_is_all_it_needs(
    undisturbed: Prepared, overrides: list[str], small_disk: Path
) -> None:
    config = into(overrides, small_disk / "prepared")
    parts = parts_of(config.data.output)
    with pytest.raises(DataError, match=r"no space left for .*: free some and run again"):
        prepare(config)
    wait_for(lambda: not running("EncodeUnits"), 30)  # until the encoder has ended its last unit too
    before = written(parts)
    assert 0 < len(before) < 12 and not config.data.output.exists()
    done = sum(len(record.marks) for record in parts.finished())
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    again = prepare(config)
    assert again.encoded == ROWS - done
    assert before.items() <= written(parts).items()
    check(config.data.output, undisturbed)
