"""Encoding in the step: what preparation would have stored, and references that the curriculum moves."""

from __future__ import annotations

import gc
import math
import os
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st

from components.checkpoint import step_generator
from components.config import Config, CurriculumConfig
from components.data.manifest import UNCONDITIONAL, load_manifest
from components.data.prepare import prepare
from components.model.adapter import RealCustomAdapter
from components.model.face_tokens import face_tokens
from components.model.unconditional_inputs import UnconditionalInputs
from components.model.vision import VisionEncoder, encoder_channels, encoder_identity
from components.training.batches import draw_batches, waiting_bytes
from components.training.curriculum import PoseRange, pose_range
from components.training.dataset_rows import Batch, find_rows, read_all
from components.training.encoding import StepEncoder, move, sample_transforms, transformed_faces
from components.training.input_checks import check_compatibility
from components.training.learner import Learner
from components.training.reference_stage import ReferenceEncoders
from components.training.unconditional import black_features, encode_unconditional, provide_unconditional
from components.training.validation import validation_loss
from components.world.write import write_world
from tests.fakes.tracker import RecordingTracker
from tests.fixtures.tolerances import bound, stored_in_half

STILL = PoseRange(0, 0, 0)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@given(st.floats(0, 1), st.floats(0, 1))
def test_references_are_moved_further_and_further(a: float, b: float) -> None:
    curriculum = CurriculumConfig(ramp=0.5, rotation=30, scale=0.4, shift=0.1)
    low, high = (pose_range(progress, curriculum) for progress in sorted((a, b)))
    assert all(x <= y for x, y in zip(low, high, strict=True))
    assert pose_range(0, curriculum) == STILL and pose_range(0.5, curriculum) == PoseRange(30, 0.4, 0.1)


def test_nothing_moves_at_the_start() -> None:
    pixels = torch.rand(3, 3, 32, 32, generator=generator()) * 2 - 1
    moves = sample_transforms(3, STILL, generator())
    torch.testing.assert_close(move(pixels, moves), pixels)
    boxes = torch.tensor([[4.0, 6, 20, 30], [0, 0, 0, 0], [0, 0, 32, 32]])
    faces = transformed_faces(boxes, moves, 32, 8)
    given_boxes = [(4.0, 6.0, 20.0, 30.0), None, (0.0, 0.0, 32.0, 32.0)]
    assert torch.equal(faces, torch.stack([face_tokens(box, 32, 8) for box in given_boxes]))


@given(st.integers(0, 100))
def test_moves_stay_within_their_range(seed: int) -> None:
    moves = sample_transforms(16, PoseRange(40, 0.5, 0.2), torch.Generator().manual_seed(seed))
    scale = torch.linalg.det(moves[:, :, :2]).sqrt()
    assert ((scale >= 1 / 1.5 - 1e-5) & (scale <= 1.5 + 1e-5)).all()
    angle = torch.atan2(moves[:, 1, 0], moves[:, 0, 0]).abs()
    assert (angle <= math.radians(40) + 1e-5).all()
    assert (moves[:, :, 2].abs() <= 0.4 + 1e-5).all()


def test_the_face_moves_with_the_picture() -> None:
    """A box drawn black, moved with its reference, is where its face group says."""
    box, size, grid = (20, 12, 44, 40), 64, 16
    pixels = torch.ones(20, 3, size, size)
    pixels[:, :, box[1] : box[3], box[0] : box[2]] = -1
    moves = sample_transforms(20, PoseRange(45, 0.3, 0.2), generator())
    faces = transformed_faces(torch.tensor([box]).repeat(20, 1), moves, size, grid).view(20, grid, grid)
    dark = torch.nn.functional.avg_pool2d(move(pixels, moves)[:, 0], size // grid) < 0
    assert (faces ^ dark).float().mean() < 0.03
    assert faces.any((1, 2)).all()
    off = move(pixels, sample_transforms(20, PoseRange(0, 0, 0.5), generator()))
    assert off.max() <= 1 + 1e-5  # what comes into view is white


@pytest.fixture(scope="module")
def datasets(miniature: object, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> dict[str, Config]:
    """The same small world, prepared whole and with its texts alone."""
    from components.config import load_config

    folder = tmp_path_factory.mktemp("encoding")
    root = miniature.root  # type: ignore[attr-defined]
    models = [f"model.{part}={root / part}" for part in ("base", "siglip", "dinov2")]
    world = ["world.identities=4", "world.pictures_per_identity=2", f"world.output={folder}/raw"]
    common = [*models, "model.adapter=null", *world, f"data.source={folder}/raw", "data.validation_share=0"]
    found = {}
    for kind in ("all", "latents", "text"):
        output = folder / kind
        more = [f"data.encode={kind}", f"data.output={output}", f"training.dataset={output}", "training.workers=1"]
        found[kind] = load_config("tiny", [*common, *more, "training.batch_size=4", "training.steps=4"])
    write_world(found["all"].world, seed=3)
    for config in found.values():
        prepare(config)
    return found


@pytest.mark.slow
def test_rows_of_pixels_are_encoded_as_preparation_would_have_done(datasets: dict[str, Config]) -> None:
    stored, pixels = (read_all(datasets[kind].training.dataset, "train") for kind in ("all", "text"))
    assert pixels["picture"].dtype == torch.uint8 and "latents" not in pixels
    learner = Learner(datasets["text"], torch.device("cpu"))
    encode = StepEncoder(datasets["text"], learner.load_vision(), torch.device("cpu"))
    stored_close = stored_in_half(encode.vae, encode.vision, largest=10)
    for other, prefix in ((False, ""), (True, "other_")):
        chosen = torch.full((len(pixels["time_ids"]),), other)
        encoded = encode(pixels, chosen, 0.0, generator())
        torch.testing.assert_close(encoded["latents"], stored["latents"].float(), **stored_close)
        for name in ("deep", "local", "face"):
            expected = stored[f"{prefix}{name}"].float()
            torch.testing.assert_close(encoded[f"{prefix}{name}"], expected, **stored_close)
        assert torch.equal(encoded["text_tokens"], stored["text_tokens"])


@pytest.mark.slow
def test_a_step_on_pixels_is_a_step_on_what_they_encode(datasets: dict[str, Config]) -> None:
    """In float32, so that features stored in half precision are all the difference: twice, for the loss is a square."""
    losses = {}
    for kind, config in datasets.items():
        training = config.training.model_copy(update={"bf16": False})
        learner = Learner(config.model_copy(update={"training": training}), torch.device("cpu"))
        losses[kind] = learner.train_step(0, [(0, first(read_all(config.training.dataset, "train"), 4))]).loss
    close = 2 * bound(torch.float16, 2)  # latents and features
    assert losses["text"] == pytest.approx(losses["all"], rel=close)
    assert losses["latents"] == pytest.approx(losses["all"], rel=close)


def batch_bytes(batch: Batch) -> int:
    return sum(values.nbytes for values in batch.values())


@pytest.mark.slow
def test_references_that_were_encoded_on_the_way_are_those_of_the_step(datasets: dict[str, Config]) -> None:
    """Encoder processes choose and move the same references as the step would, and leave it the same noise."""
    curriculum = CurriculumConfig(start=0.5, end=0.5, rotation=30, scale=0.3, shift=0.1)
    config = datasets["latents"]
    training = config.training.model_copy(update={"bf16": False, "curriculum": curriculum, "encoders": 1})
    config = config.model_copy(update={"training": training})
    rows = find_rows(training.dataset, training)
    learner = Learner(config, torch.device("cpu"))
    encoders = ReferenceEncoders.of(config, learner.absent.vision)
    on_the_way = draw_batches(rows, 0, 3, encoders=encoders)
    close = stored_in_half(learner.load_vision(), largest=10)
    for step, ([(lane, encoded)], [(_, pixels)]) in enumerate(zip(on_the_way, draw_batches(rows, 0, 3), strict=True)):
        assert "cutout" in pixels and "cutout" not in encoded and "other_deep" not in encoded
        for batch, by in ((encoded, encoders), (pixels, None)):
            counted = waiting_bytes(next(iter(rows.row_bytes.values())), by)
            assert counted == pytest.approx(batch_bytes(batch) / len(batch["time_ids"]), rel=0.02)
        generators = [step_generator(training.seed, step, lane) for _ in range(2)]
        ways = [
            learner.example(batch, training, step / training.steps, generator)
            for batch, generator in zip((encoded, pixels), generators, strict=True)
        ]
        torch.testing.assert_close(ways[0].reference.deep, ways[1].reference.deep, **close)
        assert torch.equal(ways[0].latents, ways[1].latents)
        assert torch.equal(ways[0].text_tokens, ways[1].text_tokens)
        assert (ways[0].gain is None) == (ways[1].gain is None)
        assert torch.equal(*(torch.rand(4, generator=generator) for generator in generators))


@pytest.mark.slow
@pytest.mark.parametrize("encoders", [0, 1])
def test_a_trainer_holds_no_encoder_after_the_validation_if_others_encode(
    datasets: dict[str, Config], tmp_path: Path, encoders: int
) -> None:
    output = tmp_path / "held_out"
    data = datasets["latents"].data.model_copy(update={"output": output, "validation_share": 0.999})
    config = datasets["latents"].model_copy(update={"data": data})
    assert prepare(config).manifest.splits["validation"] > 0
    training = config.training.model_copy(update={"encoders": encoders})
    learner = Learner(config.model_copy(update={"training": training}), torch.device("cpu"))
    assert validation_loss(learner, output) is not None
    held = [
        each for each in gc.get_objects() if isinstance(each, StepEncoder) and each.curriculum is training.curriculum
    ]
    assert len(held) == (not encoders)


@pytest.mark.slow
def test_moved_references_are_other_features(datasets: dict[str, Config]) -> None:
    config = datasets["text"]
    curriculum = CurriculumConfig(rotation=30, scale=0.3, shift=0.1)
    moved = config.model_copy(update={"training": config.training.model_copy(update={"curriculum": curriculum})})
    rows = first(read_all(config.training.dataset, "train"), 2)
    learner = Learner(moved, torch.device("cpu"))
    start, end = (learner.example(rows, moved.training, p, step_generator(0, 0)) for p in (0.0, 1.0))
    assert torch.equal(start.latents, end.latents)
    assert not torch.allclose(start.reference.deep, end.reference.deep)


@pytest.mark.parametrize("blocks", [{"siglip_block": 0}, {"siglip_shallow": (0,), "dinov2_shallow": (0,)}])
def test_black_features_are_those_of_the_encoders_that_train(
    datasets: dict[str, Config], tmp_path: Path, blocks: dict[str, object]
) -> None:
    """The dataset's own are used with its encoders alone: one of pixels may be trained on with others."""
    config = datasets["latents"]
    manifest, file = load_manifest(config.training.dataset), tmp_path / "unconditional.safetensors"
    provide_unconditional(config, manifest, file)
    assert file.read_bytes() == (config.training.dataset / UNCONDITIONAL).read_bytes()
    file.unlink()
    other = config.model_copy(update={"vision": config.vision.model_copy(update=blocks)})
    check_compatibility(other, manifest)
    provide_unconditional(other, manifest, file)
    found, expected = UnconditionalInputs.read(file), encode_unconditional(other)
    tensors = [[*vars(each.vision).values(), each.text_tokens, each.text_pooled] for each in (found, expected)]
    torch.testing.assert_close(*tensors)
    stored = UnconditionalInputs.read(config.training.dataset / UNCONDITIONAL)
    assert len(found.vision.shallow) == len(other.vision.siglip_shallow)
    assert torch.equal(found.vision.deep, stored.vision.deep) == ("siglip_shallow" in blocks)
    assert torch.equal(found.text_tokens, stored.text_tokens)


@pytest.mark.slow
def test_an_adapter_of_another_kind_goes_on_over_pixels_to_its_end(datasets: dict[str, Config], tmp_path: Path) -> None:
    """Its own configuration decides, not `adapter`; the encoders give blocks that the preparation did not ask for.

    Its encoders were unknown, as those of converted weights are; they are known after the training.
    """
    from components.training.launch import train

    config = datasets["latents"]
    blocks = config.vision.model_copy(update={"siglip_shallow": (0,), "dinov2_shallow": (0,)})
    identity = encoder_identity(config.model, blocks)
    unet = UNet2DConditionModel.from_pretrained(config.model.base, subfolder="unet")
    kind = config.adapter.model_copy(update={"projector": "shallow"})
    start = RealCustomAdapter.for_unet(unet, encoder_channels(config.model), kind, None)
    start.save_pretrained(tmp_path / "start")
    training = config.training.model_copy(
        update={"output": tmp_path / "training", "checkpoint_every": 2, "sample_every": 0, "bf16": False}
    )
    model = config.model.model_copy(update={"adapter": str(tmp_path / "start")})
    assert config.adapter.projector != "shallow"
    tracker = RecordingTracker(tmp_path / "calls.jsonl")
    trained = train(config.model_copy(update={"training": training, "model": model, "vision": blocks}), tracker)

    ended = RealCustomAdapter.from_pretrained(trained.adapter)
    assert (ended.projector_config, ended.encoder_identity) == (start.projector_config, identity)
    moved = [name for name, value in ended.state_dict().items() if not torch.equal(value, start.state_dict()[name])]
    assert any(name.startswith("projector.min_attention2") for name in moved)
    vision = VisionEncoder.load(config.model, blocks)
    with torch.no_grad():
        black = ended(black_features(vision)).flatten(0, 1)
    stored = ended.no_subject_tokens(identity)
    assert stored is not None
    torch.testing.assert_close(stored, black)
    assert not {"log_artifact"} & set(tracker.names()), "without `training.sample_every` no grid is drawn"
    assert not list(training.output.glob("*.samples"))


def first(rows: Batch, count: int) -> Batch:
    return {name: column[:count] for name, column in rows.items()}


@pytest.mark.slow
def test_a_run_over_pixels_ends_like_any_other(datasets: dict[str, Config], tmp_path: Path) -> None:
    from components.training.launch import train

    config = datasets["text"]
    training = config.training.model_copy(
        update={"output": tmp_path / "training", "checkpoint_every": 2, "sample_every": 4}
    )
    sampling = config.sampling.model_copy(update={"steps": 2})
    tracker = RecordingTracker(tmp_path / "calls.jsonl")
    trained = train(config.model_copy(update={"training": training, "sampling": sampling}), tracker)
    assert trained.adapter.is_dir() and trained.best is None
    calls = tracker.calls
    processes = [call["process"] for call in calls if call["call"] == "created"]
    assert len(processes) == len(set(processes)) == 2, "the driver and the worker have a tracker each"
    assert [c["call"] for c in calls if c["process"] == os.getpid()] == [
        "created", "start_run", "log_figure", "finish_run",
    ]  # fmt: skip
    by_worker = {c["call"] for c in calls if c["process"] != os.getpid()}
    assert by_worker == {"created", "system_metrics", "log_metrics", "log_artifact"}
