"""The configuration tree: presets, overrides, and mistakes refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from components.config import PACKAGE_ROOT, Config, GateConfig, TrainingConfig, for_workers, load_config, presets
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
