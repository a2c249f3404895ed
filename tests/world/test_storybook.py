"""The storybook world: the same every time, true to its ground truth, and identities that stay themselves."""

from __future__ import annotations

import json
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from torch import nn

from components.checkpoint import load_state, save_state
from components.judges.storybook import QUESTIONS, answers, load_recognizer, save_recognizer
from components.pretraining.loop import Schedule
from components.pretraining.storybook import run
from components.pretraining.storybook.base import encode, export, train_base
from components.pretraining.storybook.builders import MAX_TOKENS, build_tokenizer, build_vae
from components.pretraining.storybook.corpus import LabelledPictures, draw_pictures
from components.pretraining.storybook.loop import fit
from components.pretraining.storybook.normalization import use_channels_last, use_plain_layout
from components.pretraining.storybook.recognizer import accuracies, reliable, train_recognizer
from components.pretraining.storybook.stage_export import export_stage, import_stage
from components.pretraining.storybook.vae import train_vae
from components.world.storybook.attributes import ACTIONS, EXPRESSIONS, MODIFIERS, POSITIONS, SIZES, STYLES
from components.world.storybook.captions import caption_of
from components.world.storybook.characters import Act
from components.world.storybook.identities import CHARACTERS, COLORS, KINDS, Split, sample_identity
from components.world.storybook.identity_pictures import draw_reference, write_dataset
from components.world.storybook.places import PLACES
from components.world.storybook.scenes import SIZE, Scene, SceneOptions, render, sample_scene

_ALONE = SceneOptions(several=0, style="flat")
#: Words that only stand in a caption where the attribute is not the ordinary one.
_TOLD = {"ink": "ink drawing", "pixel art": "pixel art", "lamplight": "by lamplight"}


def scenes(count: int, seed: int = 0, options: SceneOptions | None = None) -> list[Scene]:
    rng = random.Random(seed)
    return [sample_scene(rng, options=options) for _ in range(count)]


def test_the_world_is_as_large_as_its_captions_promise() -> None:
    assert len(KINDS) >= 8 and len(CHARACTERS) >= 4 and len(PLACES) >= 8
    assert len(ACTIONS) >= 4 and len(EXPRESSIONS) - 1 >= 3 and len(STYLES) >= 4
    assert {"umbrella", "glasses", "crown"} <= set(MODIFIERS)


def test_a_seed_draws_the_same_pixels_and_another_seed_does_not() -> None:
    first, again, other = (
        [render(scene).picture for scene in scenes(20, seed)] for seed in (1, 1, 2)
    )  # fmt: skip
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not any((a == b).all() for a, b in zip(first, other, strict=True))


def test_every_subject_is_visible_and_boxed_tightly() -> None:
    for scene in scenes(200, 3):
        drawn = render(scene)
        assert drawn.picture.shape == (SIZE, SIZE, 3) and drawn.masks.shape == (len(scene.subjects), SIZE, SIZE)
        assert (drawn.masks.sum(0) <= 1).all()
        for placed, mask, (x0, y0, x1, y1), head in zip(
            scene.subjects, drawn.masks, drawn.boxes, drawn.head_boxes, strict=True
        ):
            assert mask.sum() > 150
            assert mask[y0:y1, x0:x1].sum() == mask.sum()
            assert mask[y0].any() and mask[y1 - 1].any() and mask[:, x0].any() and mask[:, x1 - 1].any()
            assert (head is not None) == placed.identity.is_character
            if head is not None:
                assert x0 <= head[0] < head[2] <= x1 and y0 <= head[1] < head[3] <= y1


def test_pixels_outside_the_mask_do_not_depend_on_the_looks() -> None:
    """Another colour changes what the mask covers and, but for smoothed edges, nothing else."""
    for scene in scenes(60, 4, _ALONE):
        placed = scene.subjects[0]
        colors = [c for c in COLORS if c not in (placed.identity.primary, placed.identity.secondary)]
        painted = replace(placed.identity, primary=colors[0], secondary=colors[1], accent=colors[2])
        drawn = render(scene)
        changed = render(replace(scene, subjects=(replace(placed, identity=painted),)))
        differs = (drawn.picture.astype(int) - changed.picture).__abs__().max(2) > 40
        assert differs[drawn.masks[0]].mean() > 0.25
        near = np.zeros_like(differs)
        near[1:-1, 1:-1] = True
        grown = drawn.masks[0].copy()
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            grown |= np.roll(drawn.masks[0], step, axis)
        assert (differs & ~grown & near).sum() <= 12


@pytest.mark.parametrize("style", ["ink", "pixel art", "lamplight"])
def test_an_identity_keeps_its_colors_in_every_style(style: str) -> None:
    """The colour under the mask stays nearest to what it is in the flat style."""
    kept = []
    for scene in scenes(60, 5, _ALONE):
        mask = render(scene).masks[0]
        flat, styled = (_names(render(replace(scene, style=s)).picture[mask]) for s in ("flat", style))
        kept.append(sum(min(flat.get(n, 0.0), styled.get(n, 0.0)) for n in flat))
    assert np.mean(kept) > (0.5 if style == "lamplight" else 0.75)


def test_an_identity_keeps_its_colors_in_every_action() -> None:
    rng = random.Random(6)
    for kind in CHARACTERS:
        for _ in range(4):
            identity = sample_identity(rng, kind=kind)
            for action in ACTIONS:
                options = SceneOptions(several=0, style="flat", act=Act(action))
                drawn = render(sample_scene(rng, identity, options=options))
                found = _names(drawn.picture[drawn.masks[0]])
                assert found.get(identity.primary, 0) > 0.08, (identity.key, action, found)


def _names(pixels: np.ndarray) -> dict[str, float]:
    palette = np.array(list(COLORS.values()))
    nearest = np.abs(pixels[:, None].astype(int) - palette).sum(2).argmin(1)
    return {name: float((nearest == i).mean()) for i, name in enumerate(COLORS) if (nearest == i).any()}


def test_expressions_and_things_worn_change_the_picture() -> None:
    rng = random.Random(7)
    for kind in CHARACTERS:
        scene = sample_scene(rng, sample_identity(rng, kind=kind), options=replace(_ALONE, act=Act()))
        acts = [Act(expression=e) for e in EXPRESSIONS] + [Act(modifier=m) for m in MODIFIERS[1:]]
        pictures = [
            render(replace(scene, subjects=(replace(scene.subjects[0], act=act),))).picture.astype(int) for act in acts
        ]
        for i, one in enumerate(pictures):
            for other in pictures[:i]:
                assert (np.abs(one - other).max(2) > 60).sum() >= 10


def test_captions_tell_what_is_there() -> None:
    rng = random.Random(8)
    for scene in scenes(400, 8):
        caption = caption_of(scene, rng)
        assert PLACES[scene.place] in caption
        for style, words in _TOLD.items():
            assert (words in caption) == (scene.style == style)
        for placed in scene.subjects:
            assert placed.identity.kind in caption.replace(",", "").split()
            if placed.act.action != "standing":
                assert placed.act.action in caption
            if placed.act.expression != "calm":
                assert placed.act.expression in caption.split()
            if placed.act.modifier != "none":
                assert placed.act.modifier in caption
        order = [caption.index(f" {p.identity.kind}") for p in sorted(scene.subjects, key=lambda p: p.x)]
        assert order == sorted(order)


def test_positions_and_sizes_told_are_true() -> None:
    rng, told = random.Random(9), 0
    for scene in scenes(400, 9, _ALONE):
        words = caption_of(scene, rng)
        x0, _, x1, _ = render(scene).boxes[0]
        middle = (x0 + x1) / 2 / SIZE
        for position in POSITIONS:
            if f"{position} " in words.replace("the middle", "middle "):
                told += 1
                low, high = {"left": (0.0, 0.45), "middle": (0.36, 0.64), "right": (0.55, 1.0)}[position]
                assert low <= middle <= high, (words, middle)
        for size in SIZES:
            if words.split()[1].startswith(size):
                assert scene.size == size
    assert told > 100


def test_colors_are_told_half_of_the_time_to_the_base_and_never_to_the_adapter() -> None:
    rng = random.Random(10)
    drawn = scenes(600, 10)

    def colored(chance: float) -> float:
        return float(np.mean([bool(set(caption_of(s, rng, chance).split()) & set(COLORS)) for s in drawn]))

    assert colored(0.0) == 0.0
    assert 0.42 < colored(0.5) < 0.58


def test_a_quarter_of_the_scenes_hold_several_subjects_of_different_kinds() -> None:
    several = [s for s in scenes(1000, 11) if len(s.subjects) > 1]
    assert 200 < len(several) < 300
    assert all(len({p.identity.kind for p in s.subjects}) == len(s.subjects) for s in several)


def test_held_out_identities_are_never_drawn_for_training() -> None:
    assert all(p.identity.split == "train" for s in scenes(300, 12) for p in s.subjects)


def test_a_core_draws_thousands_of_pictures_a_minute() -> None:
    batch = scenes(100, 13)
    for scene in batch[:10]:
        render(scene)
    start = time.process_time()
    for scene in batch:
        render(scene)
    assert 100 / (time.process_time() - start) * 60 > 3000


def test_captions_fit_into_the_tokens() -> None:
    rng = random.Random(14)
    captions = [caption_of(s, rng, 1.0) for s in scenes(400, 14)]
    tokenizer = build_tokenizer(captions)
    assert tokenizer.model_max_length == MAX_TOKENS == 77
    assert max(len(tokenizer(c).input_ids) for c in captions) <= MAX_TOKENS
    assert tokenizer.tokenize("umbrella") == ["umbrella</w>"]


@pytest.mark.parametrize("shape", [(3, 16, 5, 7), (2, 16, 9)])
def test_the_channels_last_norm_is_group_norm(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm = nn.GroupNorm(4, 16)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x, gradient = torch.randn(shape) * 2 + 1, torch.randn(shape)
    results = []
    for change in (use_plain_layout, use_channels_last):
        change(norm).zero_grad()
        given = x.clone().requires_grad_()
        out = norm(given)
        out.backward(gradient)
        assert given.grad is not None and norm.weight.grad is not None and norm.bias.grad is not None
        results.append([out.detach(), given.grad, norm.weight.grad.clone(), norm.bias.grad.clone()])
    for plain, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=2e-5)


def test_a_stage_goes_on_from_weights_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {"module": nn.Linear(3, 2), "ema": nn.Linear(3, 2)}
    optimizer = torch.optim.AdamW(modules["module"].parameters(), 1e-3)
    modules["module"](torch.ones(1, 3)).sum().backward()
    optimizer.step()
    save_state(tmp_path / "old", modules, optimizer, {"step": 7})
    assert export_stage(tmp_path / "old", tmp_path / "weights.safetensors") == 7
    assert import_stage(tmp_path / "weights.safetensors", tmp_path / "new") == 7
    others: dict[str, nn.Module] = {"module": nn.Linear(3, 2), "ema": nn.Linear(3, 2)}
    fresh = torch.optim.AdamW(others["module"].parameters(), 1e-3)
    assert load_state(tmp_path / "new", others, fresh)["step"] == 7
    for name in modules:
        torch.testing.assert_close(others[name].state_dict(), modules[name].state_dict(), rtol=1e-3, atol=1e-3)
    others["module"](torch.ones(1, 3)).sum().backward()
    fresh.step()


def test_answers_are_what_the_scene_says() -> None:
    for scene in scenes(200, 15):
        found = {name: QUESTIONS[name][index] for name, index in answers(scene).items() if name in QUESTIONS}
        assert found["place"] == scene.place and found["style"] == scene.style
        if len(scene.subjects) > 1:
            assert "kind" not in found
            continue
        placed = scene.subjects[0]
        assert found["kind"] == placed.identity.kind and found["primary"] == placed.identity.primary
        assert ("action" in found) == placed.identity.is_character
        assert ("expression" in found) == (placed.identity.is_character and placed.act.action != "sleeping")


def test_the_recognizer_learns_and_is_read_back(tmp_path: Path) -> None:
    pictures = draw_pictures(96, seed=3)
    schedule = Schedule(steps=30, learning_rate=2e-3, batch_size=24, warmup=3, ema=0.8, checkpoint_every=30)
    model = train_recognizer(pictures, schedule, tmp_path / "state")
    assert model is not None
    found = accuracies(model.eval(), pictures)
    assert found["style"] > 0.5 and set(found) >= set(QUESTIONS)
    assert reliable({"kind": 0.99, "size": 0.96}) == ["kind"]
    save_recognizer(model, tmp_path / "saved")
    assert accuracies(load_recognizer(tmp_path / "saved"), pictures)["style"] == pytest.approx(found["style"], abs=0.03)


def test_training_stops_at_its_deadline_and_goes_on(tmp_path: Path) -> None:
    pictures = draw_pictures(8, seed=4)
    schedule = Schedule(steps=2, learning_rate=1e-3, batch_size=2, checkpoint_every=10)
    assert train_vae(pictures, schedule, tmp_path / "vae", deadline=time.time() - 1) is None
    vae = train_vae(pictures, schedule, tmp_path / "vae")
    assert vae is not None
    latents = encode(vae, pictures.pixels)
    assert latents.shape == (8, 4, SIZE // 8, SIZE // 8)


def test_the_base_trains_shows_and_ships(tmp_path: Path) -> None:
    pictures = draw_pictures(8, seed=5)
    tokenizer = build_tokenizer(pictures.captions)
    vae, latents = build_vae(), torch.randn(8, 4, SIZE // 8, SIZE // 8).half()
    schedule = Schedule(steps=2, learning_rate=1e-3, batch_size=2, checkpoint_every=10)
    prompts = pictures.captions[:2]
    trained = train_base(latents, pictures.captions, vae, tokenizer, schedule, tmp_path / "base", prompts)
    assert trained.step == 2
    export(vae, trained, tokenizer, tmp_path / "out")
    pipeline = StableDiffusionXLPipeline.from_pretrained(tmp_path / "out" / "base", torch_dtype=torch.float32)
    drawn = pipeline(prompts, num_inference_steps=1, height=SIZE, width=SIZE, output_type="np").images
    assert drawn.shape == (2, SIZE, SIZE, 3) and np.isfinite(drawn).all()


def test_one_command_makes_everything_and_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = dict.fromkeys(("--vae-steps", "--judge-steps", "--steps"), "1") | {"--pictures": "4", "--batch": "2"}
    few |= {"--work": str(tmp_path / "work"), "--output": str(tmp_path / "out")}
    monkeypatch.setattr("sys.argv", ["run", *(part for pair in few.items() for part in pair)])
    monkeypatch.setattr(run, "_CHUNK", 4)
    drawn: list[int] = []

    def fewer(
        count: int, seed: int, split: Split = "train", colors: float = 0.5, processes: int = 1
    ) -> LabelledPictures:
        drawn.append(seed)
        return draw_pictures(min(count, 20), seed, split, colors, processes)

    monkeypatch.setattr(run, "draw_pictures", fewer)
    run.main()
    assert (tmp_path / "out" / "base" / "model_index.json").exists()
    assert (tmp_path / "out" / "evaluation" / "recognizer.safetensors").exists()
    assert drawn == [1, 1000, 21, 22]
    run.main()
    assert drawn == [1, 1000, 21, 22]


def test_albums_tell_everything_but_the_looks(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "raw", identities=12, pictures=4, seed=1)
    rows = [json.loads(line) for line in (root / "pairs.jsonl").read_text().splitlines()]
    assert len(rows) == 48 and len({row["group"] for row in rows}) == 12
    for row in rows:
        assert not set(row["caption"].replace(",", "").split()) & set(COLORS)
        assert row["word"] in row["caption"] and row["group"].startswith(row["word"])
        mask = np.asarray(Image.open(root / row["mask"]))
        x0, y0, x1, y1 = row["box"]
        assert (mask[y0:y1, x0:x1] > 0).sum() == (mask > 0).sum() > 150
        groups = {other["group"] for other in rows if other["image"] in row["references"]}
        assert groups == {row["group"]} and len(row["references"]) == 3 and row["image"] not in row["references"]
    again = write_dataset(tmp_path / "again", identities=12, pictures=4, seed=1)
    for file in root.rglob("*.*"):
        assert file.read_bytes() == (again / file.relative_to(root)).read_bytes()


def test_references_differ_in_act_place_and_crop() -> None:
    rng = random.Random(16)
    identity = sample_identity(rng, kind="cat")
    drawn = [np.asarray(draw_reference(identity, 96, rng)) for _ in range(40)]
    assert all(picture.shape == (96, 96, 3) for picture in drawn)
    white = [bool((picture[[0, 0, -1, -1], [0, -1, 0, -1]] > 250).all()) for picture in drawn]
    assert 8 < sum(white) < 32
    assert len({picture.tobytes() for picture in drawn}) == 40


def test_sigterm_goes_back_to_whom_it_belonged_when_a_step_fails(tmp_path: Path) -> None:
    def fails(generator: torch.Generator) -> torch.Tensor:
        raise ZeroDivisionError

    before = signal.getsignal(signal.SIGTERM)
    schedule = Schedule(steps=2, learning_rate=1e-3, batch_size=1)
    with pytest.raises(ZeroDivisionError):
        fit(nn.Linear(1, 1), fails, schedule, tmp_path / "state")
    assert signal.getsignal(signal.SIGTERM) is before
