"""The DreamBench protocol: what is asked for, how it is measured, and that a killed run loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, ViTConfig, ViTModel

from components.config import PACKAGE_ROOT, Config, DreamBenchConfig, load_config
from components.errors import ArtifactError, ConfigError, DataError
from components.evaluation.dreambench.image_store import ImageStore
from components.evaluation.dreambench.protocol import read_protocol
from components.evaluation.dreambench.result_tables import BY_OTHERS, tables
from components.evaluation.dreambench.run import GALLERY, PICTURES, TABLES, Outcome, evaluate_dreambench
from components.evaluation.dreambench.score import self_similarity, similarity
from components.evaluation.encoders import PublishedEncoders, ToyEncoders, dino_pixels, load_encoders, named_answers
from components.evaluation.scores import measure
from components.evaluation.statistics import Estimate
from components.judges.judge import Judge
from components.model.miniature import build_tokenizer
from components.model.pipeline import RealCustomPipeline
from tests.fixtures.tolerances import additions, bound

DREAMBENCH = Path(__file__).parents[3] / "shared" / "dreambench" / "dataset"
needs_dreambench = pytest.mark.skipif(
    not DREAMBENCH.is_dir(), reason=f"the photographs of DreamBench are not at {DREAMBENCH}"
)

LIST = """Classes

subject_name,class
mug,mug
rex,dog
gone,toy

Prompts

Object Prompts

prompt_list = [
'a {0} {1} on the beach'.format(unique_token, class_token),
'a red {0} {1} <script>'.format(unique_token, class_token),
'a {0} {1} at night'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {0} {1} in the snow'.format(unique_token, class_token),
"a {0} {1} in a chef's outfit".format(unique_token, class_token)
]
"""


#: Of a normalised pixel, none of which is larger than 3: a product, a difference, a quotient and their three constants
#: are rounded, at worst all in one direction.
PIXEL = bound(torch.float32, 6**2, 3)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects with three and two photographs, and one without any."""
    root = tmp_path_factory.mktemp("dreambench")
    (root / "prompts_and_classes.txt").write_text(LIST)
    rng = np.random.default_rng(0)
    for name, count in (("mug", 3), ("rex", 2)):
        (root / name).mkdir()
        for number in range(count):
            pixels = rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)
            pixels[30:70, 40:90] = (200, 40 * number, 30)
            Image.fromarray(pixels).save(root / name / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Directories of a ViT and a CLIP of the published classes and input sizes, small and untrained."""
    root = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    ViTModel(ViTConfig(**sizes, image_size=224, patch_size=32), add_pooling_layer=False).save_pretrained(root / "dino")
    tokenizer = build_tokenizer(["a dog in the snow", "a red mug on the beach at night"])
    text = {**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": 32}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    vision = {**sizes, "image_size": 224, "patch_size": 32}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(root / "clip")
    CLIPImageProcessorPil().save_pretrained(root / "clip")
    tokenizer.save_pretrained(root / "clip")
    return root / "dino", root / "clip"


def configured(config: Config, source: Path, **evaluation: object) -> Config:
    bench = DreamBenchConfig(source=source, seeds=1, prompts=2)
    update = {"benchmark": "dreambench", "dreambench": bench, "batch_size": 2, **evaluation}
    sampling = config.sampling.model_copy(update={"steps": 2})
    evaluated = config.evaluation.model_copy(update=update)
    return config.model_copy(update={"evaluation": evaluated, "sampling": sampling})


@pytest.fixture
def adapter(config: Config, tmp_path: Path) -> Path:
    torch.manual_seed(1)
    made = RealCustomPipeline.from_config(config).adapter
    for parameter in made.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    made.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


# --- what is asked for


def test_every_subject_gets_the_prompts_of_its_kind_without_a_pseudo_word(source: Path) -> None:
    protocol = read_protocol(DreamBenchConfig(source=source, seeds=2), seed=7)
    assert [(s.name, s.live, len(s.photographs)) for s in protocol.subjects] == [("mug", False, 3), ("rex", True, 2)]
    assert protocol.missing == ("gone",)
    assert [s.text for s in protocol.specs if s.seed == 7] == [
        "a mug on the beach",
        "a red mug <script>",
        "a mug at night",
        "a dog in the snow",
        "a dog in a chef's outfit",
    ]
    assert len({s.name for s in protocol.specs}) == len(protocol.specs) == 10
    assert all(s.word in s.text and s.seed in (7, 8) for s in protocol.specs)


def test_fewer_subjects_prompts_and_seeds_are_the_first_ones(source: Path) -> None:
    whole = read_protocol(DreamBenchConfig(source=source), seed=0).specs
    some = read_protocol(DreamBenchConfig(source=source, subjects=1, prompts=2, seeds=1), seed=0).specs
    assert some == tuple(s for s in whole if s.subject == "mug" and s.prompt < 2 and s.seed == 0)


@needs_dreambench
def test_the_real_lists_ask_for_25_prompts_and_4_pictures_of_each() -> None:
    protocol = read_protocol(DreamBenchConfig(source=DREAMBENCH), seed=0)
    assert len(protocol.subjects) + len(protocol.missing) == 30
    assert len(protocol.specs) == len(protocol.subjects) * 25 * 4
    live = {s.name for s in protocol.subjects if s.live}
    assert live == {s.name for s in protocol.subjects if s.name.startswith(("cat", "dog"))}
    hats = {s.subject for s in protocol.specs if s.text.endswith("wearing a santa hat")}
    assert hats == live


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda root: (root / "prompts_and_classes.txt").unlink(), "does not exist"),
        (lambda root: (root / "prompts_and_classes.txt").write_text(LIST.partition("Live")[0]), "lists no prompts"),
        (lambda root: (root / "mug").rename(root / "cup"), "no class for 'cup'"),
    ],
)
def test_a_source_that_is_no_dreambench_is_refused(source: Path, tmp_path: Path, damage, said: str) -> None:  # type: ignore[no-untyped-def]
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    damage(copy)
    with pytest.raises(DataError, match=rf"evaluation\.dreambench\.source.*{said}"):
        read_protocol(DreamBenchConfig(source=copy), seed=0)


# --- how it is measured


def test_dino_sees_the_middle_224_of_256_normalised() -> None:
    """By hand: columns of a gradient as wide as the picture, bicubic, then the middle, then ImageNet's statistics."""
    wide = Image.new("RGB", (512, 256))
    wide.putdata([(x // 2, 100, 255) for y in range(256) for x in range(512)])
    (pixels,) = dino_pixels([wide])  # the shorter side is 256 already: nothing is resized
    assert pixels.shape == (3, 224, 224)
    expected = (torch.arange(144, 368) // 2 / 255 - 0.485) / 0.229
    assert torch.allclose(pixels[0], expected.expand(224, 224), rtol=0, atol=PIXEL)
    assert pixels[1].unique().tolist() == pytest.approx([(100 / 255 - 0.456) / 0.224])
    assert pixels[2].unique().tolist() == pytest.approx([(1 - 0.406) / 0.225])


@pytest.mark.parametrize("size", [(64, 64), (100, 75), (333, 500)])
def test_dino_resizes_the_shorter_side_bicubically(size: tuple[int, int]) -> None:
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 255, (*size[::-1], 3), dtype=np.uint8))
    long, short = max(size), min(size)
    scaled = {short: 256, long: int(256 * long / short)}
    resized = np.asarray(picture.resize((scaled[size[0]], scaled[size[1]]), Image.Resampling.BICUBIC), dtype=np.float64)
    top, left = (round((side - 224) / 2) for side in resized.shape[:2])
    middle = resized[top : top + 224, left : left + 224] / 255
    expected = (middle - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    (pixels,) = dino_pixels([picture])
    assert np.abs(pixels.permute(1, 2, 0).numpy() - expected).max() < PIXEL


def test_published_metrics_are_cosines_of_the_models_own_vectors(published: tuple[Path, Path]) -> None:
    dino, clip = published
    encoders = PublishedEncoders(str(dino), str(clip))
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 255, (300, 260, 3), dtype=np.uint8))
    vectors = encoders.embed([picture])
    with torch.no_grad():
        vit = ViTModel.from_pretrained(dino, add_pooling_layer=False)
        cls = vit(dino_pixels([picture])).last_hidden_state[0, 0]
    assert torch.allclose(vectors["dino"][0], cls / cls.norm(), rtol=0, atol=bound(torch.float32, additions(vit)))

    pixels = CLIPImageProcessorPil()(images=[picture], return_tensors="pt").pixel_values
    by_hand = picture.resize((224, int(224 * 300 / 260)), Image.Resampling.BICUBIC)
    top = (by_hand.height - 224) // 2
    statistics = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in statistics)
    crop = torch.from_numpy(np.asarray(by_hand.crop((0, top, 224, top + 224))).copy()).permute(2, 0, 1) / 255
    assert torch.allclose(pixels[0], (crop - mean) / std, rtol=0, atol=PIXEL)

    prompt = "a dog in the snow"
    model = CLIPModel.from_pretrained(clip).eval()
    rounding = bound(torch.float32, additions(model))
    ids = build_tokens(clip, prompt)
    with torch.no_grad():
        image = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
        text = model.text_projection(model.text_model(input_ids=ids).pooler_output)
    assert torch.allclose(vectors["clip_i"], image / image.norm(), rtol=0, atol=rounding)
    expected = torch.cosine_similarity(image, text).item()
    assert encoders.agreement([picture], [prompt])[0] == pytest.approx(expected, abs=rounding)
    alone = encoders.agreement([picture, picture], [prompt, "a red mug on the beach at night"])
    assert alone[0] == pytest.approx(expected, abs=rounding)  # padding changes nothing


def build_tokens(clip: Path, prompt: str) -> torch.Tensor:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(clip)(prompt, return_tensors="pt").input_ids


def test_similarity_is_the_mean_over_all_photographs() -> None:
    real = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    assert similarity(torch.tensor([1.0, 0.0]), real) == pytest.approx((1 + 0 + 0.6) / 3)
    assert self_similarity(real) == pytest.approx((0 + 0.6 + 0.8) / 3)
    assert self_similarity(real[:1]) is None


def test_toy_judges_only_speak_of_what_they_know() -> None:
    assert named_answers("a backpack with the Eiffel Tower in the background") == []
    assert [question for question, _ in named_answers("a cat in the snow")] == ["kind", "place"]
    judge = ToyEncoders(Judge(PACKAGE_ROOT / "weights" / "tiny" / "evaluation", 64))
    scores = judge.agreement([Image.new("RGB", (64, 64))] * 2, ["a dog", "a cat in the snow"])
    assert np.isnan(scores[0]) and 0 <= scores[1] <= 1


def test_encoders_that_are_missing_are_named(config: Config, tmp_path: Path) -> None:
    without = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"encoders": None})})
    with pytest.raises(ConfigError, match=r"evaluation\.dino"):
        load_encoders(without)
    with pytest.raises(ConfigError, match="name both or neither"):
        load_config("tiny", ["evaluation.dino=somewhere"])
    with pytest.raises(ArtifactError, match=r"evaluation\.dino"):
        PublishedEncoders(str(tmp_path), str(tmp_path))


# --- tables


def test_variants_have_tables_of_their_own_and_others_are_marked() -> None:
    row = {"dino_whole": 0.6, "clip_i_whole": 0.7, "dino_masked": 0.5, "clip_i_masked": 0.8, "clip_t": 0.3}
    rows = {"a": [row, {**row, "dino_whole": 0.8}], "b": [{**row, "dino_whole": 0.2}]}
    whole, masked = tables(rows, {name: row for name in rows}, "clip_t")
    assert (whole.variant, whole.metrics) == ("whole", ("dino_whole", "clip_i_whole", "clip_t"))
    assert (masked.variant, masked.metrics) == ("masked", ("dino_masked", "clip_i_masked", "clip_t"))
    ours = whole.rows[0].cells["dino_whole"]
    assert isinstance(ours, Estimate)
    assert (ours.value, ours.low, ours.high) == pytest.approx((0.45, 0.2, 0.7))  # subjects count alike
    assert whole.rows[1].cells["clip_t"] is None  # photographs have no prompts
    published_rows = [row for row in (*whole.rows, *masked.rows) if row.by_others]
    assert {row.name for row in masked.rows if row.by_others} == {
        "RealCustom (its paper: its own prompts, subjects segmented)"
    }
    assert len(published_rows) == 7
    assert not any(isinstance(cell, Estimate) for row in published_rows for cell in row.cells.values())


def test_published_numbers_do_not_stand_beside_metrics_of_other_encoders() -> None:
    row = {"toy_identity_whole": 0.6, "toy_identity_masked": 0.5, "toy_text": None}
    whole, masked = tables({"a": [row]}, {"a": row}, "toy_text")
    assert not any(r.by_others for table in (whole, masked) for r in table.rows)
    assert whole.rows[0].cells["toy_text"] is None


# --- the whole protocol


class Parsed(HTMLParser):
    """Tags and addresses of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def files_of(outcome: Outcome) -> dict[Path, int]:
    root = outcome.directory.parent.parent
    kept = [*root.glob("pictures/**/*.png"), *root.glob("masks/**/*.png"), *root.glob("scores/**/*.json")]
    return {file: file.stat().st_mtime_ns for file in kept}


@pytest.mark.slow
def test_the_whole_protocol_with_published_encoders(
    ray_cluster: None, config: Config, source: Path, published: tuple[Path, Path], adapter: Path
) -> None:
    dino, clip = published
    with pytest.raises(ArtifactError, match=r"evaluation\.dino"):  # from a worker, and still one error
        evaluate_dreambench(configured(config, source, dino=str(dino / "no"), clip=str(clip)), adapter)
    config = configured(config, source, dino=str(dino), clip=str(clip))
    outcome = evaluate_dreambench(config, adapter)
    assert (outcome.generated, outcome.scored) == (0, 4)  # what was drawn before the error has stayed
    table = pq.read_table(outcome.directory / PICTURES)
    metrics = ["dino_whole", "clip_i_whole", "dino_masked", "clip_i_masked", "clip_t"]
    assert table.column_names == ["subject", "prompt", "text", "word", "seed", "live", "picture", *metrics]
    assert all((np.abs(table[name].to_numpy()) <= 1.0001).all() for name in metrics)
    assert table["subject"].to_pylist() == ["mug", "mug", "rex", "rex"]
    root = outcome.directory.parent.parent
    assert {Image.open(root / picture).size for picture in table["picture"].to_pylist()} == {(64, 64)}

    # One score by hand, from the files.
    encoders = PublishedEncoders(str(dino), str(clip))
    drawn = encoders.embed([Image.open(root / table["picture"][2].as_py())])
    real = encoders.embed([Image.open(file) for file in sorted((source / "rex").glob("*.png"))])
    for name in ("dino", "clip_i"):
        by_hand = float((real[name] @ drawn[name][0]).mean())
        assert table[f"{name}_whole"][2].as_py() == pytest.approx(by_hand, abs=1e-5)

    text = (outcome.directory / TABLES).read_text()
    assert "without photographs: gone" in text and text.count(BY_OTHERS) == 7
    page = (outcome.directory / GALLERY).read_text()
    parsed = Parsed(page)
    assert "script" not in parsed.names and "&lt;script&gt;" in page
    assert len(parsed.addresses) == 6 and all(a.startswith("data:image/") for a in parsed.addresses)
    assert len(page) < 3_000_000

    # Again: nothing is redone. As scores for promotion: cases are pictures, groups are subjects.
    before = files_of(outcome)
    again = evaluate_dreambench(config, adapter)
    assert (again.generated, again.scored, again.rows, again.tables) == (0, 0, outcome.rows, outcome.tables)
    assert files_of(outcome) == before
    scores = measure(config, adapter)
    assert set(scores.groups) == {"mug", "rex"} and len(set(scores.cases)) == 4
    assert set(scores.metrics) == set(metrics)


@pytest.mark.slow
def test_only_what_depends_on_a_change_is_done_again(
    ray_cluster: None, config: Config, source: Path, published: tuple[Path, Path], adapter: Path
) -> None:
    named = {"dino": str(published[0]), "clip": str(published[1])}
    first = evaluate_dreambench(configured(config, source, **named), adapter)
    before = files_of(first)
    other = evaluate_dreambench(configured(config, source), adapter)
    assert (other.generated, other.scored) == (0, 4)  # other judges look at the same pictures
    assert other.metrics == ("toy_identity_whole", "toy_identity_masked", "toy_text")
    bench = DreamBenchConfig(source=source, seeds=2, subjects=1, prompts=2)
    more = evaluate_dreambench(configured(config, source, **named, dreambench=bench), adapter)
    assert (more.generated, more.scored, len(more.rows)) == (2, 2, 4)
    influence = bench.model_copy(update={"mask": "influence"})
    masked = evaluate_dreambench(configured(config, source, **named, dreambench=influence), adapter)
    assert (masked.generated, masked.scored) == (0, 4)
    assert [row["dino_whole"] for row in masked.rows] == [row["dino_whole"] for row in more.rows]
    assert [row["dino_masked"] for row in masked.rows] != [row["dino_masked"] for row in more.rows]
    assert before.items() <= files_of(first).items()
    sampling = config.sampling.model_copy(update={"guidance_scale": 2.0})
    changed = configured(config, source, **named).model_copy(update={"sampling": sampling})
    assert evaluate_dreambench(changed, adapter).generated == 4


@ray.remote(num_cpus=0)
def _kill_a_pool_worker(root: str) -> int:
    """Kill the process that draws, once it has finished a picture; returns its id."""
    import psutil

    while not list(Path(root).glob("dreambench/*/pictures/*/*.png")):
        time.sleep(0.02)
    workers = [p for p in psutil.process_iter(["cmdline"]) if "MapWorker" in " ".join(p.info["cmdline"] or [])]
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
    return len(workers)


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(ray_cluster: None, config: Config, source: Path, adapter: Path) -> None:
    config = configured(config, source, batch_size=1)
    config = config.model_copy(update={"sampling": config.sampling.model_copy(update={"steps": 12})})
    killed = _kill_a_pool_worker.remote(str(config.evaluation.output))
    outcome = evaluate_dreambench(config, adapter)
    assert ray.get(killed) >= 1
    assert len(outcome.rows) == 4
    calm = config.evaluation.model_copy(update={"output": config.evaluation.output.with_name("calm")})
    assert evaluate_dreambench(config.model_copy(update={"evaluation": calm}), adapter).rows == outcome.rows


DRIVER = """
import sys
from pathlib import Path
from components.config import Config
from components.evaluation.dreambench.run import evaluate_dreambench

outcome = evaluate_dreambench(Config.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
print(outcome.generated, outcome.scored)
"""


@pytest.mark.slow
def test_a_killed_driver_goes_on_where_it_was(
    ray_cluster: None, config: Config, source: Path, adapter: Path, tmp_path: Path
) -> None:
    bench = DreamBenchConfig(source=source, seeds=3)
    config = configured(config, source, batch_size=1, dreambench=bench)
    config = config.model_copy(update={"sampling": config.sampling.model_copy(update={"steps": 12})})
    (tmp_path / "config.json").write_text(config.model_dump_json())
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "config.json"), str(adapter)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    log = tmp_path / "driver.log"
    with log.open("w") as said:
        driver = subprocess.Popen(
            command, cwd=PACKAGE_ROOT, env=environment, start_new_session=True, stdout=said, stderr=said
        )
    pictures = config.evaluation.output / "dreambench"
    while len(list(pictures.glob("*/pictures/*/*.png"))) < 3:
        assert driver.poll() is None, log.read_text()
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    time.sleep(5)  # its workers notice and end
    kept = {file: file.stat().st_mtime_ns for file in pictures.glob("*/pictures/*/*.png")}
    assert 3 <= len(kept) < 15
    outcome = evaluate_dreambench(config, adapter)
    assert outcome.generated == 15 - len(kept)
    assert kept.items() <= {file: file.stat().st_mtime_ns for file in pictures.glob("*/pictures/*/*.png")}.items()
    calm = config.evaluation.model_copy(update={"output": tmp_path / "calm"})
    assert evaluate_dreambench(config.model_copy(update={"evaluation": calm}), adapter).rows == outcome.rows


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    album = ImageStore(tmp_path, "s")
    album.save_row("mug/00-1", {"m": 1.0})
    assert album.row("mug/00-1") == {"m": 1.0}
    file = tmp_path / "scores" / "s" / "mug" / "00-1.json"
    assert json.loads(file.read_text()) == {"m": 1.0}
    file.write_text("{")
    with pytest.raises(ArtifactError, match="delete it"):
        album.row("mug/00-1")
