"""What release 11882ae left on disk (`fixtures/make_release_fixtures.py`) is read, drawn with and gone on with."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from components.access.key import KeyLimits, Scope
from components.access.store import KeyStore
from components.characters.store import CharacterStore
from components.config import Config
from components.data.manifest import load_manifest
from components.data.prepare import prepare
from components.data.schema import SCHEMA_VERSION
from components.database import open_database
from components.jobs.job import State
from components.jobs.queue import JobQueue
from components.jobs.result_files import ResultFiles
from components.jobs.store import JobStore
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.registry import decisions, model_signature, promotion, tracking, versions
from components.registry.tracker import MlflowTracker
from components.training.dataset_rows import find_rows, read_all
from components.training.launch import train
from tests.fixtures.tolerances import LEVEL

RELEASE = Path(__file__).parent / "fixtures" / "release_11882ae"
MODEL = "models:/realcustom-tiny@champion"


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to work in; what MLflow wrote down as absolute paths is moved there."""
    copy = tmp_path / "release"
    shutil.copytree(RELEASE, copy)
    monkeypatch.chdir(copy)
    move_database(copy / "registry.db", json.loads((copy / "made.json").read_text())["directory"], str(copy))
    return copy


@pytest.fixture
def config(release: Path) -> Config:
    """The release's own configuration."""
    return Config.model_validate_json((release / "config.json").read_text())


def move_database(file: Path, old: str, new: str) -> None:
    """Write ``new`` in place of ``old`` in every text of an SQLite database."""
    with closing(sqlite3.connect(file)) as connection, connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for _, column, kind, *_ in connection.execute(f"PRAGMA table_info('{table}')").fetchall():
                if kind.startswith(("VARCHAR", "TEXT")):
                    connection.execute(
                        f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE "{column}" LIKE ?',
                        (old, new, f"%{old}%"),
                    )


def drawn(pipeline: RealCustomPipeline, config: Config) -> np.ndarray:
    """What the release drew, drawn again."""
    tokens = pipeline.encode_subject([Image.open("pictures/images/cat-red-0.png")])
    subject = Subject(tokens, "cat", mask=torch.ones(8, 8))
    arguments = config.sampling.arguments | {"generator": torch.Generator().manual_seed(0)}
    return np.asarray(pipeline("a red cat on the beach", subject, **arguments).images[0], int)


def test_a_saved_pipeline_draws_what_it_drew(config: Config) -> None:
    pipeline = RealCustomPipeline.from_pretrained("pipeline")
    before = np.asarray(Image.open("drawn.png"), int)
    assert np.ptp(before) > 50
    assert np.abs(drawn(pipeline, config) - before).max() <= LEVEL


def test_a_registered_version_is_loaded_and_draws(config: Config) -> None:
    pipeline = versions.load_pipeline(config, MODEL)
    assert np.abs(drawn(pipeline, config) - np.asarray(Image.open("drawn.png"), int)).max() <= LEVEL
    first = versions.load_pipeline(config, "models:/realcustom-tiny/1", beside=pipeline)
    assert np.abs(drawn(first, config) - drawn(pipeline, config)).max() > 10 * LEVEL


def test_mlflow_loads_a_version_by_the_script_that_was_kept_with_it(release: Path, config: Config) -> None:
    """The script imports `components.registry.picture_model.PictureModel`, which therefore stays where it is."""
    scripts = list(release.glob("artifacts/*/artifacts/model-*/model_script.py"))
    assert len(scripts) == 2
    assert all("from components.registry.picture_model import PictureModel" in s.read_text() for s in scripts)
    tracking.client(config.registry)
    parts = {name: str(release / "parts" / name) for name in ("base", "siglip", "dinov2")}
    model = mlflow.pyfunc.load_model(MODEL, model_config=parts)
    table = model.predict(model_signature.example().assign(seed=5), params={"steps": 2})
    assert table["picture"][0].startswith(b"\x89PNG") and table["word"][0] == "robot"


def test_decisions_are_read_and_gone_on_from(config: Config) -> None:
    store = tracking.client(config.registry)
    name = config.registry.model
    tags = store.get_model_version(name, "2").tags
    assert (tags[decisions.DECISION], tags[decisions.COMPARED]) == ("promoted", "1")
    assert versions.find_alias(config, name, promotion.PREVIOUS) == "1"
    assert promotion.roll_back(config).version == "1"
    assert versions.find_alias(config, name, "champion") == "1"
    newest = versions.newest(config)
    assert (newest.version, newest.tags["fingerprint"]) == ("2", "seed-2")


def test_a_dataset_is_prepared_anew(ray_cluster: None, release: Path, config: Config) -> None:
    """Its rows hold two references each, while this release stores each reference once."""
    before = read_all(config.training.dataset, "train")
    found = prepare(config)
    assert (found.reused, found.encoded, found.manifest.schema_version) == (False, 12, SCHEMA_VERSION)
    assert (found.manifest.rows_in, found.manifest.rows_out, found.manifest.rows_rejected) == (13, 12, 1)
    after = read_all(config.training.dataset, "train")
    assert after.keys() == before.keys() and all(after[name].shape == before[name].shape for name in after)
    assert prepare(config).reused


def test_a_prepared_dataset_yields_its_rows(config: Config) -> None:
    manifest, rows = load_manifest(config.training.dataset), read_all(config.training.dataset, "train")
    assert len(rows["latents"]) == manifest.splits["train"] == 8
    assert all(value.float().isfinite().all() for value in rows.values())
    assert rows["face"].any(1).all(), "every subject has a head box"
    assert find_rows(config.training.dataset, config.training).counts == {"32x32": 8}


@pytest.mark.slow
def test_a_stopped_training_goes_on(ray_cluster: None, release: Path, config: Config) -> None:
    (state,) = release.glob("training/*/checkpoint_2*")
    done = json.loads((state / "progress.json").read_text())["step"]
    (run,) = release.glob("training/*.run")
    (journal,) = release.glob("training/*.journal.jsonl")
    reported = len(journal.read_text().splitlines())
    assert 0 < done < config.training.steps and reported
    trained = train(config, MlflowTracker(config))
    assert trained.run_id == run.read_text()
    assert trained.fingerprint in state.parent.name
    steps = [entry["step"] for entry in map(json.loads, journal.read_text().splitlines()[reported:]) if "step" in entry]
    assert steps and min(steps) > done, "no step was taken twice"
    ended = max(release.glob("training/*/checkpoint_2*"))
    assert json.loads((ended / "progress.json").read_text())["step"] == config.training.steps
    weights = load_file(trained.adapter / "adapter.safetensors")
    assert all(value.isfinite().all() for value in weights.values())


def test_characters_are_read_and_changed(config: Config) -> None:
    store = CharacterStore(Path(config.serving.store))
    (cat,), (robot,) = store.page(owner="alice"), store.page(owner="bob")
    assert (cat.name, cat.description, cat.target_word, cat.revision) == ("Kater", "a red cat", "cat", 1)
    assert [picture.face for picture in cat.pictures] == [(8, 10, 28, 25)] * 2
    assert store.references(cat.id)[0].picture.size == (64, 64)
    pipeline = versions.load_pipeline(config, MODEL)
    tokens = store.tokens(cat.id, pipeline.token_identity)
    assert tokens is not None and tokens.face is not None and tokens.face.any()
    expected = pipeline.encode_subject(
        [cut.picture for cut in store.cut_outs(cat.id, pipeline.reference_size).cut_outs]
    )
    torch.testing.assert_close(tokens.tokens.float(), expected)
    assert store.describe(robot.id, name="Robby").name == "Robby"
    store.delete(robot.id)
    assert store.page(owner="bob") == []


def test_jobs_are_read_and_worked_on(release: Path) -> None:
    engine, results = open_database(release / "store", None), ResultFiles(release / "store" / "jobs")
    store = JobStore(engine, results, max_queued=100)
    queued, running, cancelled, failed, done = store.page(owner="alice")
    states = [job.state for job in (queued, running, cancelled, failed, done)]
    assert states == [State.QUEUED, State.RUNNING, State.CANCELLED, State.FAILED, State.DONE]
    assert failed.error == {"message": "no such word", "param": "prompt", "code": "word_not_found"}
    assert queued.webhook is not None and queued.webhook.url == "https://example.org/told"
    assert json.loads(store.result(done.id, "alice")) == {"created": 1, "data": []}
    news = store.update_since(running.id, 0, "alice")
    assert news is not None and news.previews[0].png.startswith(b"\x89PNG")
    queue = JobQueue(engine, results, lease_s=30, max_attempts=3)
    for expected in (running.id, queued.id):  # the lease on the running one has run out long since: it is tried alone
        lease = queue.claim()
        assert lease is not None and lease.job == expected and queue.finish(lease, b"{}")


def test_keys_are_read(release: Path) -> None:
    store = KeyStore(open_database(release / "store", None))
    laptop, operator, lost = store.all()
    assert (laptop.owner, laptop.limits) == ("alice", KeyLimits(60, 10**9))
    assert laptop.scopes == {Scope.IMAGES, Scope.JOBS_READ}
    assert operator.allows(Scope.METRICS) and operator.expires is not None and lost.revoked is not None
    assert store.valid() == [laptop, operator]
