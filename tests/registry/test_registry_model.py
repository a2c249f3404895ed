"""A registered version drawn with by MLflow: in any process, from a table, with files that nobody changed."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.models import validate_serving_input
from mlflow.pyfunc import PyFuncModel
from numpy.typing import NDArray
from PIL import Image

from components.config import PACKAGE_ROOT, Config, load_config
from components.errors import ArtifactError, ConfigError, DataError, RegistryError, WordError
from components.model.miniature import MiniatureLayout
from components.model.naming import WordNamer
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.registry import (
    checksums,
    dataset_runs,
    model_signature,
    origin,
    package,
    tracking,
    version_config,
    versions,
)
from components.registry.versions import CHECKSUMS, ModelVersion
from tests.fixtures.prepared_dataset import write_prepared
from tests.fixtures.tolerances import LEVEL


@dataclass(frozen=True)
class Registered:
    """A version in a registry, its files, and the adapter that they were made from."""

    config: Config
    version: ModelVersion
    run_id: str
    adapter: Path
    files: Path

    @property
    def uri(self) -> str:
        return f"models:/{self.config.registry.model}@champion"


@pytest.fixture(scope="module")
def registered(miniature: MiniatureLayout, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """An untrained miniature whose adapter changes pictures, as version 1."""
    root = tmp_path_factory.mktemp("registry")
    parts = [f"model.{name}={getattr(miniature, name)}" for name in ("base", "siglip", "dinov2")]
    store = [f"registry.tracking_uri=sqlite:///{root}/mlflow.db", f"registry.artifacts={root}/artifacts"]
    config = load_config("tiny", [*parts, *store, "model.adapter=null", "sampling.steps=4", "model.device=cpu"])
    adapter = RealCustomPipeline.from_config(config).adapter
    torch.manual_seed(0)
    for parameter in adapter.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    adapter.save_pretrained(root / "adapter")
    manifest = write_prepared(root / "dataset", {("train", "64x64"): 3})
    with tracking.run(config, "train", {"steps": 1}) as run_id:
        dataset_runs.log_dataset(tracking.client(config.registry), run_id, root / "dataset", manifest, "training")
    version = versions.register(config, root / "adapter", run_id, {"fingerprint": "aa"})
    versions.set_alias(config, version)
    source = tracking.client(config.registry).get_model_version(version.name, version.version).source
    return Registered(config, version, run_id, root / "adapter", Path(source.removeprefix("file://")))


@pytest.fixture(scope="module")
def loaded(registered: Registered) -> PyFuncModel:
    tracking.client(registered.config.registry)
    return mlflow.pyfunc.load_model(registered.uri)


def pixels(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


def row(**values: object) -> pd.DataFrame:
    return pd.DataFrame([model_signature.example().iloc[0].to_dict() | values])


# --- pictures


def test_the_model_draws_what_the_pipeline_draws(registered: Registered, loaded: PyFuncModel) -> None:
    config = registered.config
    drawn = loaded.predict(row(seed=5))
    assert list(drawn.columns) == ["picture", "prompt", "word"]
    assert (drawn["prompt"][0], drawn["word"][0]) == ("a robot on the beach", "robot")

    pipeline = versions.load_pipeline(config, registered.uri)
    reference = loaded.unwrap_python_model()._cut_out(*_order_and_reference())
    subject = Subject(pipeline.encode_subject([reference]), "robot")
    arguments = config.sampling.arguments | {"generator": torch.Generator().manual_seed(5)}
    expected = pipeline("a robot on the beach", subjects=subject, **arguments).images[0]
    assert (pixels(drawn["picture"][0]) == np.asarray(expected)).all()
    stock = loaded.predict(pd.DataFrame([{"prompt": "a robot on the beach", "seed": 5}]))
    assert stock["word"][0] is None
    assert (pixels(stock["picture"][0]) != np.asarray(expected)).any(), "the reference changes the picture"


def _order_and_reference() -> tuple[model_signature.ImageRow, bytes]:
    (order,) = model_signature.read_rows(model_signature.example())
    assert order.reference is not None
    return order, order.reference


def test_rows_drawn_together_are_the_rows_drawn_alone(loaded: PyFuncModel) -> None:
    reference = model_signature.example()["reference"][0]
    table = pd.DataFrame(
        [
            {"prompt": "a robot in the snow", "reference": reference, "word": "robot", "seed": 1},
            {"prompt": "a bird and a car at night", "reference": None, "word": None, "seed": 2},
            {"prompt": "a robot on the beach", "reference": reference, "word": "robot", "seed": 3},
        ],
        index=[7, 8, 9],
    )
    together, alone = loaded.predict(table, params={"batch_size": 3}), loaded.predict(table)
    assert list(together.index) == [7, 8, 9]
    for one, other in zip(together["picture"], alone["picture"], strict=True):
        assert np.abs(pixels(one).astype(int) - pixels(other)).max() <= LEVEL
    assert not (pixels(alone["picture"][7]) == pixels(alone["picture"][9])).all()


def test_without_a_word_it_is_found_by_the_reference(registered: Registered, loaded: PyFuncModel) -> None:
    drawn = loaded.predict(row(word=None, prompt="on the beach"))
    model = loaded.unwrap_python_model()
    namer = WordNamer.from_config(registered.config.model, registered.config.naming)
    naming = namer.name("on the beach", [model._cut_out(*_order_and_reference())])
    assert (drawn["word"][0], drawn["prompt"][0]) == (naming.word, naming.prompt)
    assert naming.word in drawn["prompt"][0]


def test_parameters_of_a_call_replace_the_versions_settings(loaded: PyFuncModel) -> None:
    wide = loaded.predict(row(), params={"width": 96, "steps": 2})
    assert pixels(wide["picture"][0]).shape == (64, 96, 3)
    with pytest.raises(ConfigError, match="params: steps"):
        loaded.predict(row(), params={"steps": 0})


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"prompt": ""}, DataError, r"column 'prompt', row 0: it is empty"),
        ({"prompt": None}, DataError, r"column 'prompt', row 0: it is empty"),
        ({"reference": "robot.png"}, DataError, r"column 'reference', row 0: expected the bytes .* not str"),
        ({"reference": b"GIF8 no"}, DataError, r"column 'reference', row 0: not a picture"),
        ({"reference": None}, WordError, r"column 'word', row 0: .* the column 'reference' is empty"),
        ({"word": "robt"}, WordError, r"column 'word', row 0: .* did you mean 'robot'"),
        ({"seed": 0.5}, MlflowException, "column seed"),
        ({"seed": "one"}, MlflowException, "column seed"),
    ],
)
def test_a_row_that_cannot_be_drawn_is_refused_by_its_column(
    loaded: PyFuncModel, columns: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        loaded.predict(row(**columns))


def test_a_missing_column_is_named(loaded: PyFuncModel) -> None:
    with pytest.raises(MlflowException, match="prompt"):
        loaded.predict(row().drop(columns="prompt"))
    assert loaded.predict(row().drop(columns="seed"))["word"][0] == "robot"
    assert list(loaded.predict(row().iloc[:0]).columns) == ["picture", "prompt", "word"]


def test_the_example_goes_in_over_json_too(registered: Registered, loaded: PyFuncModel) -> None:
    assert loaded.input_example["prompt"][0] == "a robot on the beach"
    served = (registered.files / "serving_input_example.json").read_text()
    drawn = validate_serving_input(str(registered.files), served)
    assert (pixels(drawn["picture"][0]) == pixels(loaded.predict(model_signature.example())["picture"][0])).all()


ELSEWHERE = """
import sys
import mlflow
import pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
with open(sys.argv[3], "rb") as file:
    table = pd.DataFrame([{"prompt": "a robot on the beach", "reference": file.read(), "word": "robot", "seed": 0}])
with open(sys.argv[4], "wb") as file:
    file.write(model.predict(table)["picture"][0])
"""


def test_another_process_in_another_place_draws_the_same(
    registered: Registered, loaded: PyFuncModel, tmp_path: Path
) -> None:
    (tmp_path / "reference.png").write_bytes(model_signature.example()["reference"][0])
    arguments = [registered.config.registry.absolute_uri, registered.uri, "reference.png", "drawn.png"]
    subprocess.run([sys.executable, "-c", ELSEWHERE, *arguments], cwd=tmp_path, check=True, timeout=300)
    expected = loaded.predict(model_signature.example())["picture"][0]
    assert (pixels((tmp_path / "drawn.png").read_bytes()) == pixels(expected)).all()


# --- files


def test_nothing_is_pickled_and_the_adapter_is_as_it_was(registered: Registered, loaded: PyFuncModel) -> None:
    names = {file.relative_to(registered.files).as_posix() for file in registered.files.rglob("*") if file.is_file()}
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".bin"))]
    flavor = mlflow.models.Model.load(str(registered.files)).flavors["python_function"]
    assert flavor["loader_module"] == "mlflow.pyfunc.loaders.code_model" and "python_model" not in flavor
    assert loaded.metadata.run_id == registered.run_id
    found = versions.resolve(registered.config, registered.uri)
    assert {f.name: f.read_bytes() for f in found.path.iterdir()} == {
        f.name: f.read_bytes() for f in registered.adapter.iterdir()
    }
    listed = json.loads((registered.files / checksums.NAME).read_text())
    assert set(listed) == names - {checksums.NAME, "registered_model_meta"}  # which MLflow adds when it loads


@pytest.fixture
def copy(registered: Registered, tmp_path: Path) -> Registered:
    """Version 1 once more, with files of its own and a registry that the others do not share."""
    shutil.copy(registered.config.registry.absolute_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    shutil.copytree(registered.files, tmp_path / "files")
    registry = registered.config.registry.model_copy(update={"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"})
    config = registered.config.model_copy(update={"registry": registry})
    store = tracking.client(registry)
    found = store.get_model_version(registered.version.name, registered.version.version)
    version = store.create_model_version(found.name, (tmp_path / "files").as_uri(), found.run_id, dict(found.tags))
    store.set_registered_model_alias(found.name, "champion", version.version)
    return Registered(config, registered.version, registered.run_id, registered.adapter, tmp_path / "files")


@pytest.mark.parametrize(
    ("name", "remedy"), [("config.json", "is missing"), ("adapter.safetensors", "does not match its sha256")]
)
def test_a_changed_or_missing_file_is_named(copy: Registered, name: str, remedy: str) -> None:
    (file,) = copy.files.rglob(f"*/adapter/{name}")
    assert versions.resolve(copy.config, copy.uri).path == file.parent
    if remedy == "is missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(RegistryError, match=f"{name} {remedy}"):
        versions.resolve(copy.config, copy.uri)
    with pytest.raises(RegistryError, match=f"{name} {remedy}"):
        mlflow.pyfunc.load_model(copy.uri)


def test_checksums_that_were_changed_with_the_file_are_refused(copy: Registered) -> None:
    (weights,) = copy.files.rglob("adapter.safetensors")
    weights.write_bytes(b"something else")
    checksums.write_checksums(copy.files)
    with pytest.raises(RegistryError, match=f"{checksums.NAME} does not match"):
        versions.resolve(copy.config, copy.uri)
    shutil.rmtree(copy.files)
    with pytest.raises(RegistryError, match="files cannot be read"):
        versions.resolve(copy.config, copy.uri)


@settings(max_examples=25, deadline=None)
@given(
    files=st.dictionaries(st.text("abc", min_size=1, max_size=3), st.binary(max_size=20), min_size=1, max_size=4),
    data=st.data(),
)
def test_checksums_tell_any_change(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("files")
    for name, content in files.items():
        (root / name).write_bytes(content)
    digest = checksums.write_checksums(root)
    (root / "came-later").write_text("")
    checksums.check_files(root, digest)
    victim, change = data.draw(st.sampled_from(sorted(files))), data.draw(st.binary(max_size=20))
    (root / victim).write_bytes(change)
    if change == files[victim]:
        checksums.check_files(root, digest)
    else:
        with pytest.raises(RegistryError, match=f"/{victim} does not match"):
            checksums.check_files(root, digest)


@pytest.mark.parametrize("listing", ["", "[]", '{"a": 1}', '{"/etc/passwd": "00"}'])
def test_a_list_that_is_none_is_refused(tmp_path: Path, listing: str) -> None:
    (tmp_path / checksums.NAME).write_text(listing)
    with pytest.raises(RegistryError, match=checksums.NAME):
        checksums.check_files(tmp_path)


def test_versions_of_one_run_do_not_overwrite_each_other(copy: Registered, tmp_path: Path) -> None:
    shutil.copytree(copy.adapter, tmp_path / "other")
    (tmp_path / "other" / "note.txt").write_text("other")
    second = versions.register(copy.config, tmp_path / "other", copy.run_id, {})
    found = versions.resolve(copy.config, second.uri)
    assert (found.path / "note.txt").read_text() == "other"
    first = versions.resolve(copy.config, f"models:/{second.name}/1")
    assert not (first.path / "note.txt").exists()
    with pytest.raises(ArtifactError, match="nowhere is no adapter"):
        versions.register(copy.config, tmp_path / "nowhere", copy.run_id, {})


def test_a_version_that_is_only_an_adapter_is_found_as_before(copy: Registered) -> None:
    store = tracking.client(copy.config.registry)
    store.log_artifacts(copy.run_id, str(copy.adapter), "adapter")
    source = f"{store.get_run(copy.run_id).info.artifact_uri}/adapter"
    old = store.create_model_version(copy.version.name, source, copy.run_id, {"fingerprint": "old"})
    found = versions.find_by_tag(copy.config, "fingerprint", "old")
    assert found is not None and found.version == str(old.version)
    assert (found.path / "adapter.safetensors").exists() and CHECKSUMS not in found.tags
    assert versions.load_pipeline(copy.config, found.uri).adapter.digest


# --- where a version comes from


def test_version_and_run_are_tagged_with_dataset_base_and_code(registered: Registered) -> None:
    tags = versions.resolve(registered.config, registered.uri).tags
    run = tracking.client(registered.config.registry).get_run(registered.run_id)
    (given,) = run.inputs.dataset_inputs
    assert tags["fingerprint"] == "aa"
    assert tags[origin.DATASET] == given.dataset.digest
    assert tags[origin.BASE] == registered.config.model.base
    assert tags[origin.BASE_IDENTITY].startswith("sha256:")
    assert tags[origin.COMMIT] == run.data.tags[origin.COMMIT]
    for key in (origin.DATASET, origin.BASE, origin.BASE_IDENTITY):
        assert run.data.tags[key] == tags[key]


def test_another_base_model_is_refused_wherever_it_lies(registered: Registered, tmp_path: Path) -> None:
    shutil.copytree(registered.config.model.base, tmp_path / "base")
    moved = {"base": str(tmp_path / "base")}
    assert mlflow.pyfunc.load_model(str(registered.files), model_config=moved) is not None
    scheduler = tmp_path / "base" / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text() + "\n")
    with pytest.raises(ArtifactError, match=r"model\.base: .* is not the model that the adapter was trained for"):
        mlflow.pyfunc.load_model(str(registered.files), model_config=moved)
    assert origin.base_identity("a/hub-name") == "a/hub-name"
    origin.check_base("a/hub-name", "sha256:00")
    with pytest.raises(ArtifactError, match=r"model\.base"):
        origin.base_identity(str(tmp_path / "nowhere"))


def test_a_packed_configuration_draws_the_same_anywhere() -> None:
    for preset in ("tiny", "sdxl"):
        config = load_config(preset, ["data.max_pixels=123456", "sampling.guidance.scope=0.3"])
        packed = version_config.pack(config)
        assert str(PACKAGE_ROOT) not in json.dumps(packed)
        unpacked = version_config.unpack(json.loads(json.dumps(packed)), {"device": "cpu"})
        for section in ("vision", "sampling", "naming"):
            assert getattr(unpacked, section) == getattr(config, section)
        assert (unpacked.model.base, unpacked.model.device) == (config.model.base, "cpu")
        assert unpacked.data.max_pixels == 123456
    with pytest.raises(RegistryError, match=r"does not fit this release: sampling\.stepz"):
        version_config.unpack(packed | {"sampling": {"stepz": 1}}, {})


def test_the_input_example_fits_every_preset() -> None:
    for preset in ("tiny", "sdxl"):
        signature = model_signature.signature(load_config(preset).sampling)
        assert signature.inputs.input_names() == ["prompt", "reference", "word", "seed"]
        assert signature.inputs.required_input_names() == ["prompt"]
    assert package.adapter_directory(Path("an-older-version")) == Path("an-older-version")
