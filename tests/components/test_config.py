"""The configuration tree: presets, overrides, and mistakes refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from components.config import (
    PACKAGE_ROOT,
    Config,
    GateConfig,
    TrainingConfig,
    for_workers,
    load_config,
    named_preset,
    presets,
)
from components.errors import ConfigError


def test_every_preset_loads_under_its_own_name() -> None:
    assert {"tiny", "sdxl"} <= set(presets())
    for name in presets():
        assert load_config(name).preset == name


def _sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for nested in (field.annotation, *get_args(field.annotation)):
            if isinstance(nested, type) and issubclass(nested, BaseModel):
                yield from _sections(nested)


def test_every_key_and_section_has_a_description() -> None:
    sections = set(_sections(Config))
    assert {GateConfig, TrainingConfig} <= sections
    lacking = [
        f"{section.__name__}.{name}"
        for section in sections
        for name, field in section.model_fields.items()
        if not (field.description or "").strip().endswith((".", ")"))
    ]
    lacking += [section.__name__ for section in sections if not section.__doc__]
    assert lacking == []


def test_overrides_replace_values_and_leave_the_rest() -> None:
    plain = load_config("tiny")
    changed = load_config("tiny", ["training.steps=7", "sampling.guidance.scope=0.5", "data.source=pictures"])
    assert (changed.training.steps, changed.sampling.guidance.scope) == (7, 0.5)
    assert changed.data.source == Path("pictures")
    assert changed.sampling.guidance.steps == plain.sampling.guidance.steps
    assert changed.training.workers == plain.training.workers
    assert changed.model == plain.model


def test_the_last_of_two_overrides_wins() -> None:
    assert load_config("tiny", ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("text", "value"), [("null", None), ("models/adapter", "models/adapter"), ("'null'", "null"), ("a=b", "a=b")]
)
def test_override_values_are_yaml(text: str, value: str | None) -> None:
    assert load_config("tiny", [f"model.adapter={text}"]).model.adapter == value


def test_package_paths_lie_in_the_checkout() -> None:
    assert load_config("tiny").model.base == str(PACKAGE_ROOT / "weights/tiny/base")
    assert load_config("tiny", ["model.base=package://elsewhere"]).model.base == str(PACKAGE_ROOT / "elsewhere")
    assert load_config("sdxl").model.base == "stabilityai/stable-diffusion-xl-base-1.0"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("nonsense.key=1", "'nonsense'"),
        ("training.stepz=1", "'training.stepz'"),
        ("sampling.guidance.reach=1", "'sampling.guidance.reach'"),
        ("training.steps=many", "'training.steps'"),
        ("training.steps=0", "'training.steps'"),
        ("sampling.guidance.scope=1.5", "'sampling.guidance.scope'"),
        ("sampling.height=63", "'sampling.height'"),
        ("model.dtype=int8", "'model.dtype'"),
        ("training.name=a/b", "'training.name'"),
        ("training.steps", "'training.steps'"),
        ("=1", "'=1'"),
        ("seed.deep=1", "'seed'"),
        ("model.base.path=x", "'base'"),
        ("training.steps=[1", "training.steps"),
        ("training=3", "'training'"),
    ],
)
def test_a_mistake_is_refused_with_the_name_of_the_field(override: str, named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config("tiny", [override])
    assert named in str(refused.value)


def test_an_unknown_key_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"known here are .*scope.*steps"):
        load_config("tiny", ["sampling.guidance.reach=1"])


def test_an_unknown_preset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'huge'.*sdxl, tiny"):
        load_config("huge")


@pytest.mark.parametrize("name", ["../presets/tiny", "", "tiny.yaml"])
def test_a_preset_is_a_name_and_not_a_path(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown preset"):
        load_config(name)


def test_the_tree_cannot_be_changed_after_it_was_read() -> None:
    config = load_config("tiny")
    with pytest.raises(ValidationError, match="frozen"):
        config.training.steps = 3


@pytest.mark.parametrize("name", ["tiny", "sdxl"])
def test_the_tree_survives_json_and_yaml(name: str) -> None:
    config = load_config(name)
    tree = config.model_dump(mode="json")
    assert Config(**json.loads(json.dumps(tree))) == config
    assert Config(**yaml.safe_load(yaml.safe_dump(tree))) == config


def test_workers_are_given_absolute_places() -> None:
    """A Ray worker has a working directory of its own."""
    config = for_workers(load_config("tiny", ["training.dataset=runs/prepared", "training.output=runs/training"]))
    assert config.training.dataset.is_absolute() and config.training.output.is_absolute()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


def test_a_file_is_merged_key_by_key(file: Path) -> None:
    file.write_text("training:\n  steps: 5\nsampling: {guidance: {scope: 0.5}}\ndata: {}\n")
    plain, config = load_config("tiny"), load_config("tiny", ["training.warmup=3"], file)
    assert (config.training.steps, config.training.warmup, config.sampling.guidance.scope) == (5, 3, 0.5)
    assert config.sampling.guidance.steps == plain.sampling.guidance.steps
    assert config.data == plain.data
    assert load_config("tiny", ["training.steps=9"], file).training.steps == 9


def test_an_empty_file_changes_nothing(file: Path) -> None:
    file.write_text("# nothing yet\n")
    assert load_config("tiny", file=file) == load_config("tiny")


def test_a_file_can_name_its_preset(file: Path) -> None:
    assert (load_config().preset, named_preset(None, None), named_preset("tiny", None)) == ("tiny", None, "tiny")
    file.write_text("seed: 1\n")
    assert (load_config(file=file).preset, named_preset(None, file)) == ("tiny", None)
    file.write_text("preset: sdxl\n")
    assert (load_config(file=file).preset, named_preset(None, file)) == ("sdxl", "sdxl")
    assert load_config("sdxl", file=file).preset == "sdxl"
    with pytest.raises(ConfigError, match=r"mine\.yaml: preset 'sdxl' is not the requested 'tiny'"):
        load_config("tiny", file=file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("preset: huge", "unknown preset 'huge'"),
        ("training: {stepz: 1}", "unknown configuration key 'training.stepz': known here are .*steps"),
        ("nonsense: 1", "unknown configuration key 'nonsense'"),
        ("training.steps: 1", r"unknown configuration key 'training\.steps'"),
        ("training: {steps: many}", "'training.steps'"),
        ("training: {steps: {a: 1}}", "'training.steps'"),
        ("training: 3", "'training'"),
        ("training:", "'training'"),
        ("registry: {gates: [{metrik: x}]}", r"registry\.gates\.0"),
        ("serving: {min_replicas: 5}", "'serving': .*max_replicas"),
        ("training: [1", "line 1: not valid YAML"),
        ("seed: 1\ntraining: {steps: 1}\nseed: 2", "line 3: .*'seed' occurs twice"),
        ("- 1", "sections"),
    ],
)
def test_a_mistake_in_a_file_names_the_file_and_the_key(text: str, said: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.yaml.*" + said):
        load_config("tiny", file=file) if "preset" not in text else load_config(file=file)


def test_a_mistake_of_an_override_does_not_name_the_file(file: Path) -> None:
    file.write_text("training: {steps: 5}\n")
    for override in ("training.steps=many", "training.stepz=1", "sampling.height=63"):
        with pytest.raises(ConfigError) as refused:
            load_config("tiny", [override], file)
        assert "mine.yaml" not in str(refused.value)


def test_an_override_can_complete_a_file(file: Path) -> None:
    file.write_text("serving: {store: 's3://bucket/store'}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: .*'serving'.*database"):
        load_config("tiny", file=file)
    assert (
        load_config("tiny", ["serving.database=postgresql+psycopg://db/x"], file).serving.store == "s3://bucket/store"
    )


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: there is no such file"):
        load_config("tiny", file=tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config("tiny", file=tmp_path)
    (tmp_path / "image.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match=r"image\.yaml: cannot be read"):
        load_config("tiny", file=tmp_path / "image.yaml")
