"""What makes two trainings the same, and which encoders, adapters and datasets belong together."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from components.config import ConditioningConfig, Config
from components.data.manifest import MANIFEST, Manifest
from components.data.stage_versions import base_identity
from components.errors import ArtifactError, ConfigError, DataError
from components.model.adapter import RealCustomAdapter
from components.model.pipeline import RealCustomPipeline
from components.model.vision import encoder_identity
from components.training.input_checks import check_compatibility
from components.training.launch import _NOT_FINGERPRINTED, training_fingerprint
from components.training.run_directory import RunDirectory
from tests.fixtures.prepared_dataset import write_prepared


@pytest.fixture
def prepared(config: Config) -> Config:
    write_prepared(Path(config.training.dataset), {("train", "64x64"): 8})
    return config


@pytest.fixture
def manifest(prepared: Config) -> Manifest:
    """That of a dataset which the test's encoders made."""
    written = Manifest.model_validate_json((Path(prepared.training.dataset) / MANIFEST).read_bytes())
    encoders = {
        "base": base_identity(prepared.model.base),
        "vision": encoder_identity(prepared.model, prepared.vision),
    }
    return written.model_copy(update={"encoders": encoders, "columns": {"deep": "halffloat[4, 16]"}})


def changed(config: Config, **training: object) -> str:
    return training_fingerprint(config.model_copy(update={"training": config.training.model_copy(update=training)}))


def test_how_a_training_is_computed_is_not_in_its_fingerprint(prepared: Config) -> None:
    config = prepared.model_copy(
        update={"training": prepared.training.model_copy(update={"workers": 4, "accumulation": 1})}
    )
    same = training_fingerprint(config)
    for how in (
        {"workers": 2, "accumulation": 2},
        {"workers": 1, "accumulation": 4, "min_workers": 1},
        {"sharding": "fsdp", "gradient_checkpointing": True, "cpus_per_worker": 8, "use_gpu": True},
        {"checkpoint_every": 7, "checkpoints_kept": 9, "sample_every": 0, "sample_columns": 2},
        {
            "encoders": 3,
            "encoder_cpus": 2.0,
            "encoder_gpus": 0.5,
            "ingest_gb": 1.5,
            "sample_references": Path("photos"),
        },
        {"resize_every_s": 7.0, "max_failures": 9, "sample_references": Path("photos")},
    ):
        assert changed(config, **how) == same, how
    for what in (
        {"workers": 8},
        {"accumulation": 2},
        {"seed": 1},
        {"batch_size": 2},
        {"learning_rate": 0.5},
        {"optimizer": "adafactor"},
        {"min_snr": 5.0},
        {"shuffle_rows": 9},
        {"validation_rows": 0},
    ):
        assert changed(config, **what) != same, what
    half = config.model_copy(update={"model": config.model.model_copy(update={"dtype": "bfloat16"})})
    assert training_fingerprint(half) != same


def test_encoders_are_in_the_fingerprint_of_a_training_that_encodes(prepared: Config, manifest: Manifest) -> None:
    """Where features are stored, the fingerprint of the dataset holds their encoders."""
    vision = prepared.vision.model_copy(update={"siglip_block": prepared.vision.siglip_block - 1})
    other = prepared.model_copy(update={"vision": vision})
    assert training_fingerprint(prepared) == training_fingerprint(other)
    pixels = manifest.model_copy(update={"columns": {"cutout": "uint8[64, 64, 3]"}})
    (prepared.training.dataset / MANIFEST).write_text(pixels.model_dump_json())
    assert training_fingerprint(prepared) != training_fingerprint(other)


def test_the_runs_of_earlier_releases_go_on(prepared: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their fingerprints held the number of workers (0.2.0), and where the base model lies."""
    seen: list[str] = []
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: seen.append(path.name) or exists(path))
    now = training_fingerprint(prepared)
    names = [name.removesuffix(".run") for name in seen if name.endswith(".run")]
    monkeypatch.undo()
    assert len(set(names)) == 2
    for earlier in names:
        run = RunDirectory(prepared.training.output, earlier).run
        run.parent.mkdir(parents=True, exist_ok=True)
        run.touch()
        assert earlier.endswith(training_fingerprint(prepared)) and not earlier.endswith(now)
        assert not earlier.endswith(changed(prepared, workers=prepared.training.workers + 1))
        run.unlink()
    manifest = Manifest.model_validate_json((Path(prepared.training.dataset) / MANIFEST).read_bytes())
    training = prepared.training.model_dump(mode="json", exclude=_NOT_FINGERPRINTED)
    adapter, settings = prepared.adapter.model_dump(), training | {"lanes": prepared.training.lanes}
    facts = [manifest.fingerprint, "untrained", prepared.model.base, adapter, settings, prepared.model.dtype]
    written = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    assert names[1].endswith(written), "the key under which runs were stored before"


def test_the_base_model_counts_by_its_files_and_not_by_its_path(prepared: Config, tmp_path: Path) -> None:
    def of(base: Path) -> str:
        return training_fingerprint(prepared.model_copy(update={"model": model.model_copy(update={"base": str(base)})}))

    model = prepared.model
    same = training_fingerprint(prepared)
    moved = Path(shutil.copytree(model.base, tmp_path / "moved"))
    assert of(moved) == same, "a moved base model goes on with its run"
    for part in ("unet/diffusion_pytorch_model.safetensors", "unet/config.json", "scheduler/scheduler_config.json"):
        file = moved / part
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        assert of(moved) != same, f"another {part} at the same path is another training"
        file.write_bytes(content)
    assert of(moved) == same
    assert of(Path("a/hub-name")) != same


def test_a_dataset_of_other_encoders_is_refused(prepared: Config, manifest: Manifest) -> None:
    check_compatibility(prepared, manifest)
    for name, said in (("base", r"another base model than model\.base"), ("vision", "other vision encoders or blocks")):
        other = manifest.model_copy(update={"encoders": manifest.encoders | {name: "another"}})
        with pytest.raises(DataError, match=said):
            check_compatibility(prepared, other)
    pixels = manifest.model_copy(update={"columns": {"cutout": "uint8[64, 64, 3]"}})
    check_compatibility(prepared, pixels.model_copy(update={"encoders": manifest.encoders | {"vision": "another"}}))
    wider = pixels.model_copy(update={"config": {"vision": {"view_size": 384}}})
    with pytest.raises(DataError, match=r"vision\.view_size=384, not 64"):
        check_compatibility(prepared, wider)


@pytest.mark.parametrize("moves", [{"rotation": 20.0}, {"scale": 0.2, "shift": 0.1}])
def test_stored_features_cannot_be_moved(prepared: Config, manifest: Manifest, moves: dict[str, float]) -> None:
    curriculum = prepared.training.curriculum.model_copy(update=moves)
    moving = prepared.model_copy(update={"training": prepared.training.model_copy(update={"curriculum": curriculum})})
    named = " and ".join(rf"training\.curriculum\.{name}" for name in moves)
    with pytest.raises(ConfigError, match=rf"^{named} cannot move .* set {named} to 0, or .* data\.encode=latents"):
        check_compatibility(moving, manifest)
    check_compatibility(moving, manifest.model_copy(update={"columns": {"cutout": "uint8[64, 64, 3]"}}))


def test_the_adapter_that_goes_on_decides(prepared: Config, manifest: Manifest, tmp_path: Path) -> None:
    def continuing(adapter: RealCustomAdapter) -> Config:
        adapter.save_pretrained(tmp_path / "adapter")
        model = prepared.model.model_copy(update={"adapter": str(tmp_path / "adapter")})
        return prepared.model_copy(update={"model": model})

    pipeline = RealCustomPipeline.from_config(prepared)
    identity = encoder_identity(prepared.model, prepared.vision)

    def adapter(
        encoder: str | None = identity, channels: int = pipeline.vision_encoder.channels, **settings: object
    ) -> RealCustomAdapter:
        conditioning = ConditioningConfig.model_validate({k: v for k, v in settings.items() if k == "text_pooling"})
        kind = prepared.adapter.model_copy(update={k: v for k, v in settings.items() if k == "projector"})
        return RealCustomAdapter.for_unet(pipeline.unet, channels, kind, encoder, conditioning)

    check_compatibility(continuing(adapter()), manifest)
    check_compatibility(continuing(adapter(None)), manifest)
    with pytest.raises(ArtifactError, match="trained with other vision encoders"):
        check_compatibility(continuing(adapter("another")), manifest)
    with pytest.raises(ArtifactError, match="reads 16 vision channels"):
        check_compatibility(continuing(adapter(None, 16)), manifest)

    unprojected = continuing(adapter(text_pooling="unprojected"))
    with pytest.raises(DataError, match="holds projected text vectors, the adapter reads unprojected"):
        check_compatibility(unprojected, manifest)
    check_compatibility(unprojected, manifest.model_copy(update={"text_pooling": "unprojected"}))

    shallow = continuing(adapter(projector="shallow"))
    with pytest.raises(ConfigError, match=r"set vision\.siglip_shallow"):
        check_compatibility(shallow, manifest)
    blocks = prepared.vision.model_copy(update={"siglip_shallow": (0,), "dinov2_shallow": (0,)})
    seen = shallow.model_copy(update={"vision": blocks})
    made = manifest.model_copy(
        update={"encoders": manifest.encoders | {"vision": encoder_identity(seen.model, seen.vision)}}
    )
    with pytest.raises(ArtifactError, match="other vision encoders or blocks"):
        check_compatibility(seen, made)  # the adapter says which blocks it was trained with
    unknown = continuing(adapter(None, projector="shallow")).model_copy(update={"vision": blocks})
    with pytest.raises(DataError, match="no features at earlier blocks"):
        check_compatibility(unknown, made)
    check_compatibility(unknown, made.model_copy(update={"columns": {"deep": "", "shallow": ""}}))
