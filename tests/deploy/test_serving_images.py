"""Pictures over HTTP as OpenAI's interface has them: formats, notes, marks, schedulers, mentions, streams, edits."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from components.characters.mention_syntax import read_mentions, replace_mentions
from components.config import Config, load_config
from components.errors import ConfigError
from components.model.official import official_scheduler
from components.model.schedulers import SAMPLERS
from components.provenance.image_files import MACHINE_MADE, NAMESPACE, ModelName
from components.provenance.manifests import picture_writer
from deploy.api.images.schema import ImageRequest
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from tests.deploy.test_serving_api import SECRET, client_of, create, error, generate, photograph, picture
from tests.fakes.pipeline import FakeNamer, FakePipeline

IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config("tiny", [f"serving.store={tmp_path}/characters"])


@pytest.fixture
def pipeline() -> FakePipeline:
    return FakePipeline()


def service(config: Config, pipeline: FakePipeline, namer: Any = FakeNamer) -> TestClient:
    characters = CharacterService(config)
    write = picture_writer(config.serving, ModelName("realcustom-tiny", "7"))
    return client_of(config, characters, GenerationService(pipeline, characters, write=write, namer=namer))


@pytest.fixture
def client(config: Config, pipeline: FakePipeline) -> Iterator[TestClient]:
    yield service(config, pipeline)


def marks(drawn: Image.Image) -> dict[str, str]:
    """What a picture's XMP says, under the names of its fields."""
    packet = drawn.info.get("xmp") or drawn.info["XML:com.adobe.xmp"].encode()
    text = packet.decode() if isinstance(packet, bytes) else packet
    root = ElementTree.fromstring(re.sub(r"<\?xpacket.*?\?>", "", text))
    return dict(root[0][0].attrib)


def test_images_are_not_encoded_in_the_event_loop(
    config: Config, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the event loop holds up all other requests: base64 of images, in answers and bodies."""
    loops, encoding, decoding = set[int](), set[int](), set[int]()
    encode, decode, run = base64.b64encode, base64.b64decode, asyncio.BaseEventLoop._run_once  # type: ignore[attr-defined]

    def noting(call: Any, seen: set[int]) -> Any:
        def noted(*arguments: Any, **more: Any) -> Any:
            seen.add(threading.get_ident())
            return call(*arguments, **more)

        return noted

    monkeypatch.setattr(base64, "b64encode", noting(encode, encoding))
    monkeypatch.setattr(base64, "b64decode", noting(decode, decoding))
    monkeypatch.setattr(asyncio.BaseEventLoop, "_run_once", noting(run, loops))
    with service(config, pipeline) as client:
        form = {"name": "Rob", "target_word": "robot", "pictures": [encode(photograph()).decode()]}
        made = client.post("/v1/characters", json=form)
        assert made.status_code == 201, made.text
        assert generate(client, "@rob on the beach", return_masks=True).status_code == 200
        assert generate(client, "@rob on the beach", stream=True, partial_images=2).status_code == 200
        candidates = client.post("/v1/characters/candidates", json={"prompt": "a robot"})
        assert candidates.status_code == 201, candidates.text
        assert candidates.json()["data"][0]["b64_json"]
    assert loops and encoding and decoding
    assert not loops & (encoding | decoding)


# --- formats and marks


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_picture_has_the_format_that_is_asked_for_and_says_what_made_it(client: TestClient, kind: str) -> None:
    create(client)
    body = generate(client, "@rob on the beach", seed=5, output_format=kind, steps=3, scheduler="ddim").json()
    assert (body["output_format"], body["size"], body["background"]) == (kind, "64x64", "opaque")
    drawn = picture(body["data"][0]["b64_json"])
    assert (drawn.format, drawn.size) == (kind.upper(), (64, 64))
    said = marks(drawn)
    assert said[f"{IPTC}DigitalSourceType"] == MACHINE_MADE
    own = {key.removeprefix(f"{{{NAMESPACE}}}"): value for key, value in said.items() if NAMESPACE in key}
    assert own == {
        "model": "realcustom-tiny",
        "model_version": "7",
        "seed": "5",
        "target_words": '["robot"]',
        "steps": "3",
        "guidance_scale": own["guidance_scale"],
        "scheduler": "ddim",
    }
    assert b"beach" not in json.dumps(said).encode()


def test_png_has_the_marks_as_text_too(client: TestClient) -> None:
    drawn = picture(generate(client, seed=5, n=2).json()["data"][1]["b64_json"])
    said = json.loads(drawn.info["realcustom"])
    assert (said["seed"], said["model"], said["model_version"]) == (6, "realcustom-tiny", "7")
    assert "prompt" not in said and drawn.info["Software"].startswith("RealCustom Studio ")


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_the_prompt_is_a_mark_where_the_configuration_says_so(config: Config, kind: str) -> None:
    serving = config.serving.model_copy(update={"prompt_in_pictures": True})
    client = service(config.model_copy(update={"serving": serving}), FakePipeline())
    prompt = 'a "robot" <on> the beach & \u0001 ünïcode \U0001f916'
    drawn = picture(generate(client, prompt, output_format=kind).json()["data"][0]["b64_json"])
    assert marks(drawn)[f"{{{NAMESPACE}}}prompt"] == prompt.replace("\u0001", "")


def test_a_lossy_picture_is_as_small_as_is_asked_for(client: TestClient) -> None:
    create(client)
    sizes = [
        len(generate(client, "@rob", seed=1, output_format="jpeg", output_compression=c).json()["data"][0]["b64_json"])
        for c in (5, 50, 100)
    ]
    assert sizes == sorted(sizes) and sizes[0] < sizes[2]


# --- OpenAI's fields


def test_what_has_no_effect_is_told(client: TestClient) -> None:
    body = generate(
        client,
        quality="high",
        style="vivid",
        moderation="low",
        complexity="low",
        background="opaque",
        output_compression=50,
        user="someone",
        safety_identifier="somebody",
    ).json()
    assert [note.partition(":")[0] for note in body["notes"]] == [
        "quality",
        "moderation",
        "style",
        "complexity",
        "output_compression",
    ]
    assert generate(client, quality="auto", moderation="auto", background="auto").json()["notes"] == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"response_format": "url"}, "b64_json"),
        ({"background": "transparent"}, "opaque"),
        ({"output_format": "gif"}, "'png', 'jpeg' or 'webp'"),
        ({"svg": {"model": SECRET}}, "not supported"),
        ({"frame_count": 9}, "not supported"),
        ({"quality": SECRET}, "'auto'"),
        ({"style": SECRET}, "'vivid'"),
        ({"output_compression": 101}, "100"),
        ({"partial_images": 4}, "3"),
        ({"scheduler": SECRET}, "'ddim'"),
        ({"stream": SECRET}, "boolean"),
    ],
)
def test_what_there_is_not_is_refused_by_field(client: TestClient, fields: dict[str, Any], said: str) -> None:
    answer = generate(client, **fields)
    assert answer.status_code == 400, answer.text
    (field,) = fields
    assert error(answer)["param"] == field and said in error(answer)["message"]


def test_every_seed_that_is_stated_can_be_asked_for_again(client: TestClient, pipeline: FakePipeline) -> None:
    def draw(**fields: Any) -> list[str]:
        response = client.post("/v1/images/generations", json={"prompt": "a robot", **fields})
        assert response.status_code == 200, response.text
        return [image["b64_json"] for image in response.json()["data"]]

    first, second = draw(seed=2**32 - 1, n=2)
    assert [draw(seed=2**32 - 1), draw(seed=0)] == [[first], [second]]
    streamed = client.post(
        "/v1/images/generations", json={"prompt": "a robot", "n": 2, "seed": 2**32 - 1, "stream": True}
    )
    assert {event["seed"] for _, event in events(streamed)} == {2**32 - 1, 0}


def test_nulls_stand_for_defaults(client: TestClient) -> None:
    optional = {name: None for name, field in ImageRequest.model_fields.items() if name != "prompt"}
    answer = generate(client, **optional)
    assert answer.status_code == 200, answer.text
    assert generate(client, unknown=None).status_code == 400
    assert error(generate(client, None))["param"] == "prompt"  # type: ignore[arg-type]


def test_the_answer_names_the_version_that_drew(client: TestClient) -> None:
    body = generate(client).json()
    assert (body["model"], body["model_version"]) == ("realcustom-tiny", "7")
    assert "revised_prompt" not in body["data"][0]


# --- schedulers


@pytest.mark.parametrize("field", ["sampler", "scheduler"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_scheduler_is_made_for_each_picture(
    client: TestClient, pipeline: FakePipeline, name: str, field: str
) -> None:
    assert generate(client, **{field: name}, n=2, steps=4).status_code == 200
    first, second = pipeline.schedulers
    assert type(first) is type(second) is SAMPLERS[name].kind and first is not second
    assert SAMPLERS[name].settings.items() <= first.config.items()


def test_sampler_and_scheduler_are_one_field(client: TestClient, pipeline: FakePipeline) -> None:
    assert generate(client, sampler="heun", scheduler="heun").status_code == 200
    refused = generate(client, sampler="heun", scheduler="euler")
    assert refused.status_code == 400 and "another name" in error(refused)["message"]
    too_many = generate(client, sampler="lcm", steps=51)
    assert too_many.status_code == 400 and error(too_many)["param"] == "steps"
    assert len(pipeline.schedulers) == 1


def test_without_a_name_the_models_own_scheduler_draws(client: TestClient, pipeline: FakePipeline) -> None:
    assert generate(client).status_code == 200
    assert pipeline.schedulers == [None]


def test_the_authors_scheduler_is_refused_where_the_adapter_does_not_name_it(
    client: TestClient, pipeline: FakePipeline
) -> None:
    refused = generate(client, scheduler="realcustom")
    assert refused.status_code == 400 and error(refused)["param"] == "scheduler"
    assert pipeline.calls == []
    pipeline.scheduler = official_scheduler()  # type: ignore[assignment]
    assert generate(client, scheduler="realcustom").status_code == 200


# --- how prompts are read


def test_options_of_prompts_reach_the_pipeline(client: TestClient, pipeline: FakePipeline) -> None:
    options = {"prompt_weighting": True, "clip_skip": 1, "guidance_rescale": 0.5, "target_size": [96, 64]}
    assert generate(client, "a (cat:1.2)", **options).status_code == 200
    assert generate(client).status_code == 200
    form = {name: json.dumps(value) for name, value in options.items()}
    edited = edit(client, "a robot", target_word="robot", **form)
    assert edited.status_code == 200, edited.text
    first, plain, third = pipeline.requests
    for request in (first, third):
        assert (request.prompt_weighting, request.clip_skip, request.guidance_rescale) == (True, 1, 0.5)
        assert tuple(request.target_size) == (96, 64)
    assert (plain.prompt_weighting, plain.clip_skip, plain.target_size) == (False, None, None)
    for bad in ({"guidance_rescale": 2}, {"target_size": [1]}, {"clip_skip": -1}):
        refused = generate(client, **bad)
        assert refused.status_code == 400 and error(refused)["param"].startswith(next(iter(bad)))


def test_an_option_that_the_model_lacks_is_refused_by_name(client: TestClient, pipeline: FakePipeline) -> None:
    refused = generate(client, clip_skip=30)
    assert refused.status_code == 400 and error(refused)["param"] == "clip_skip"


def test_what_was_done_with_a_prompt_is_noted(client: TestClient) -> None:
    long = "a robot on the beach " + "very " * 30
    assert generate(client, long).json()["notes"] == ["prompt: its end was not read"]
    assert generate(client, long, prompt_weighting=True).json()["notes"] == ["prompt: it was read in 2 chunks"]
    assert generate(client, "a robot").json()["notes"] == []


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_prompt_that_the_model_cannot_read_is_refused_with_its_remedy(
    client: TestClient, pipeline: FakePipeline, field: str
) -> None:
    for text, quoted in (
        ("海滩上的机器人", "海滩上的机器人"),
        ("робот on the beach", "робот"),
        ("a hat 在海滩上", "在海滩上"),
    ):
        for answer in (generate(client, **{"prompt": "a robot", field: text}), edit(client, **{field: text})):
            assert answer.status_code == 400 and error(answer)["code"] == "prompt_not_readable"
            assert (
                error(answer)["param"] == field and f"not “{quoted}”: write it in English" in error(answer)["message"]
            )
    assert pipeline.calls == []


def test_a_characters_word_is_no_part_of_what_is_read(client: TestClient, pipeline: FakePipeline) -> None:
    create(client, name="小明")
    refused = generate(client, "@小明在海滩上")
    assert refused.status_code == 400 and error(refused)["code"] == "prompt_not_readable"
    assert pipeline.calls == []
    noted = generate(client, "@小明 on the beach of the town 東京 at night")
    assert noted.status_code == 200 and "not “東京”" in noted.json()["notes"][0]


def test_a_model_with_other_text_encoders_reads_any_script(config: Config, pipeline: FakePipeline) -> None:
    other = service(
        load_config("tiny", [f"serving.store={config.serving.store}", "serving.prompt_scripts=any"]), pipeline
    )
    answer = generate(other, "海滩上的机器人")
    assert answer.status_code == 200 and answer.json()["notes"] == []


# --- mentions


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("@rob on the beach", ["rob"]),
        ("(@Rob) and @ROB's hat, @rob", ["Rob", "ROB", "rob"]),
        ('@"Ada Lovelace" meets @jean-luc', ["Ada Lovelace", "jean-luc"]),
        ("@Zoë, @李雷.", ["Zoë", "李雷"]),
        ("write to me@home.org at 5 @ the bar @", []),
        ('@"unfinished', []),
        ('@"@ROB', ["ROB"]),
        ('@"a@"ROB" @"x@home.org"', ["x@home.org"]),
        ("@O'Hara and @O’Hara's hat", ["O'Hara", "O’Hara"]),
        ("@“Ada Lovelace”, @„Ada“, @«Ada», @「李雷」, @‘Rob’", ["Ada Lovelace", "Ada", "Ada", "李雷", "Rob"]),
    ],
)
def test_mentions_are_found(prompt: str, names: list[str]) -> None:
    found = read_mentions(prompt).mentions
    assert [mention.name for mention in found] == names
    assert [prompt[mention.start] for mention in found] == ["@"] * len(names)
    again = replace_mentions(prompt, found, [prompt[m.start : m.end] for m in found])
    assert again == prompt


@pytest.mark.parametrize("prompt", ["＠rob", "＠“rob”", "看，＠rob"])
def test_a_full_width_at_is_read(prompt: str) -> None:
    assert [mention.name for mention in read_mentions(prompt).mentions] == ["rob"]


@pytest.mark.parametrize(
    "prompt", ['@"unfinished', "a cat @“unfinished", "@! hello", "@()", "＠…", '@"@ROB㐀', "a robot@home", "@@rob"]
)
def test_an_at_that_names_nobody_is_refused(client: TestClient, prompt: str) -> None:
    refused = generate(client, prompt)
    assert refused.status_code == 400 and error(refused)["code"] == "mention_unknown"
    assert f"character {prompt.replace('＠', '@').index('@') + 1} " in error(refused)["message"]


@pytest.mark.parametrize("prompt", ["write to me@home.org about a robot", "a robot @ the bar @"])
def test_an_at_that_is_no_mention_is_left(client: TestClient, prompt: str) -> None:
    assert generate(client, prompt).status_code == 200


def test_a_mentioned_character_is_drawn_under_its_word(client: TestClient) -> None:
    create(client, photograph("red"))
    create(client, photograph("blue"), name="Ada Lovelace", target_word="woman")
    body = generate(client, 'photo of @ROB and @"ada lovelace" and @rob again', return_masks=True).json()
    assert body["target_words"] == ["robot", "woman"] and body["notes"] == []
    assert body["data"][0]["revised_prompt"] == "photo of robot and woman and robot again"
    drawn = picture(body["data"][0]["b64_json"])
    assert drawn.getpixel((24, 32)) == (255, 0, 0) and drawn.getpixel((40, 32)) == (0, 0, 255)


@pytest.mark.parametrize(
    ("prompt", "drawn"),
    [
        ("@Ada Lovelace in a hat", "woman in a hat"),
        ("@Ada in a hat", "cat in a hat"),
        ("@o’hara and his hat", "man and his hat"),
        ("@‘O’Hara’ in a hat", "man in a hat"),
        ("look at a red hat on＠小明在 there", "look at a red hat on boy 在 there"),
        ("a hat for@Ada", "a hat for cat"),
        ("@Adam", None),
        ("@Ada@home", None),
    ],
)
def test_a_mention_is_the_longest_name_that_the_owner_has(client: TestClient, prompt: str, drawn: str | None) -> None:
    names = {"Ada": "cat", "Ada Lovelace": "woman", "O'Hara": "man", "小明": "boy"}
    for name, word in names.items():
        create(client, name=name, target_word=word)
    answer = generate(client, prompt)
    if drawn is None:
        assert answer.status_code == 400 and error(answer)["code"] == "mention_unknown"
    else:
        assert answer.json()["data"][0]["revised_prompt"] == drawn


def test_mentions_outside_of_the_prompt_are_refused(client: TestClient) -> None:
    create(client)
    for negative in ("@rob", "blurred @“rob"):
        refused = generate(client, negative_prompt=negative)
        assert (refused.status_code, error(refused)["param"]) == (400, "negative_prompt")
        assert error(refused)["code"] == "mention_unknown"


def test_an_edit_that_draws_nobody_else_refuses_mentions(client: TestClient) -> None:
    create(client)
    found = [error(edit(client, prompt=prompt)) for prompt in ("a robot and @rob", "a robot and @nobody", '@"robot')]
    assert [each["code"] for each in found] == ["invalid_order", "mention_unknown", "mention_unknown"]


def test_a_chosen_character_that_is_mentioned_too_is_there_once(client: TestClient) -> None:
    rob, other = create(client), create(client, name="Other", target_word="thing")
    chosen = [{"id": other["id"]}, {"id": rob["id"], "target_word": "machine", "strength": 0.5}]
    body = generate(client, "a thing beside @rob", characters=chosen).json()
    assert body["target_words"] == ["thing", "machine"]
    assert body["data"][0]["revised_prompt"] == "a thing beside machine"


def test_a_mention_that_names_nobody_or_several_is_refused_by_its_place(
    client: TestClient, pipeline: FakePipeline
) -> None:
    unknown = generate(client, f"hello @{SECRET}")
    assert unknown.status_code == 400
    assert (error(unknown)["param"], error(unknown)["code"]) == ("prompt", "mention_unknown")
    assert "character 7:" in error(unknown)["message"]
    create(client), create(client, name="ROB")
    several = generate(client, "@rob")
    assert several.status_code == 400 and error(several)["code"] == "mention_ambiguous"
    for name in ("a", "b", "c", "d", "e"):
        create(client, name=name, target_word=f"word{name}")
    refused = generate(client, "@a @b @c @d @e")
    assert refused.status_code == 400 and error(refused)["code"] == "too_many_characters"
    assert generate(client, "@a @b @c @d").status_code == 200
    assert len(pipeline.calls) > 0


def test_one_word_for_two_is_told(client: TestClient) -> None:
    create(client, name="one"), create(client, name="two")
    notes = generate(client, "@one meets @two").json()["notes"]
    assert len(notes) == 1 and notes[0].startswith("characters[1] has the word of characters[0]")


# --- streams


def events(answer: Any) -> list[tuple[str, dict[str, Any]]]:
    """The names and data of a stream's events."""
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    found = re.findall(r"^event: (.*)\ndata: (.*)$", answer.text, re.MULTILINE)
    return [(name, json.loads(data)) for name, data in found]


def test_a_stream_shows_pictures_in_the_making_and_then_the_picture(client: TestClient) -> None:
    asked = {"seed": 3, "steps": 12, "size": "64x96", "output_format": "webp"}
    told = events(generate(client, "a slow robot", stream=True, partial_images=2, **asked))
    names = [name for name, _ in told]
    assert names[-1] == "image_generation.completed" and names.count("image_generation.completed") == 1
    partial = [data for name, data in told if name == "image_generation.partial_image"]
    assert [data["partial_image_index"] for data in partial] == list(range(len(partial))) and 1 <= len(partial) <= 2
    for name, data in told:
        assert data["type"] == name and data["size"] == "64x96" and data["picture"] == 0
        assert picture(data["b64_json"]).format == "WEBP"
    final = told[-1][1]
    assert final["usage"]["total_tokens"] == 0 and final["seed"] == 3 and final["model_version"] == "7"
    whole = generate(client, "a slow robot", **asked).json()
    assert final["b64_json"] == whole["data"][0]["b64_json"]


def test_a_stream_of_several_pictures_tells_which(client: TestClient) -> None:
    create(client)
    told = events(generate(client, "@rob", stream=True, n=3, seed=7, return_masks=True))
    assert [(data["picture"], data["seed"]) for _, data in told] == [(0, 7), (1, 8), (2, 9)]
    assert all(data["revised_prompt"] == "robot" and len(data["masks_b64_json"]) == 1 for _, data in told)


def test_what_is_wrong_before_the_stream_begins_is_an_answer(client: TestClient) -> None:
    refused = generate(client, "a robot", stream=True, scheduler="realcustom")
    assert refused.status_code == 400 and error(refused)["param"] == "scheduler"


def test_what_goes_wrong_later_is_an_event(client: TestClient, pipeline: FakePipeline) -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError(SECRET)

    pipeline.finish = broken  # type: ignore[method-assign]
    told = events(generate(client, "a slow robot", stream=True))
    assert [name for name, _ in told] == ["error"]
    assert told[0][1]["error"]["message"] == "internal error" and SECRET not in json.dumps(told)


# --- edits


def edit(client: TestClient, prompt: str = "a robot on the beach", sent: Any = None, **fields: Any) -> Any:
    files = sent or [("image", ("rob.png", photograph()))]
    return client.post("/v1/images/edits", data={"prompt": prompt, **fields}, files=files)


def stored(config: Config) -> list[str]:
    return sorted(str(path) for path in Path(config.serving.store).rglob("*") if "characters.db" not in path.name)


def test_a_reference_is_used_once_and_kept_nowhere(config: Config, pipeline: FakePipeline) -> None:
    client = service(config, pipeline)
    before = stored(config)
    answer = edit(client, seed="4", size="64x64", return_masks="true", output_format="png")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["target_words"], body["seed"]) == (["robot"], 4)
    assert "revised_prompt" not in body["data"][0]
    assert picture(body["data"][0]["b64_json"]).getpixel((32, 32)) == (255, 0, 0)
    assert len(body["data"][0]["masks_b64_json"]) == 1
    assert stored(config) == before and client.get("/v1/characters").json()["data"] == []
    assert pipeline.encoded == 1


def test_a_reference_equals_a_stored_character(client: TestClient) -> None:
    create(client)
    once = edit(client, "robot", seed="4").json()["data"][0]
    kept = generate(client, "@rob", seed=4).json()["data"][0]
    assert once["b64_json"] == kept["b64_json"]


def test_a_word_that_the_prompt_does_not_have_is_put_in_and_told(client: TestClient) -> None:
    body = edit(client, "sitting on the beach").json()
    assert body["target_words"] == ["robot"]
    assert body["data"][0]["revised_prompt"] == "a robot sitting on the beach"


def test_a_word_can_be_given(client: TestClient) -> None:
    assert edit(client, "a cat on the beach", target_word="cat").json()["target_words"] == ["cat"]
    missing = edit(client, "a cat on the beach", target_word=SECRET)
    assert missing.status_code == 400
    assert (error(missing)["param"], error(missing)["code"]) == ("target_word", "target_word_not_in_prompt")
    late = edit(client, "very " * 30 + "cat", target_word="cat")
    assert late.status_code == 400 and error(late)["param"] == "target_word"


def test_without_anybody_to_find_words_one_must_be_given(config: Config, pipeline: FakePipeline) -> None:
    client = service(config, pipeline, namer=None)
    refused = edit(client)
    assert refused.status_code == 400 and error(refused)["param"] == "target_word"
    assert edit(client, target_word="robot").status_code == 200


@pytest.mark.parametrize("fields", [("image", "image"), ("image[]", "image[]"), ("image[0]", "image[1]")])
def test_several_references_show_one_subject(
    client: TestClient, pipeline: FakePipeline, fields: tuple[str, str]
) -> None:
    colors = ("red", "blue")
    sent = [(field, (f"{color}.png", photograph(color))) for field, color in zip(fields, colors, strict=True)]
    body = edit(client, sent=sent).json()
    assert picture(body["data"][0]["b64_json"]).getpixel((32, 32)) == (127, 0, 127)
    assert pipeline.encoded == 1 and body["target_words"] == ["robot"]


def test_edits_stream_under_their_own_names(client: TestClient) -> None:
    told = events(edit(client, "a slow robot", stream="true", partial_images="1"))
    assert {name for name, _ in told} <= {"image_edit.partial_image", "image_edit.completed"}
    assert told[-1][0] == "image_edit.completed" and told[-1][1]["target_words"] == ["robot"]


@pytest.mark.parametrize(
    ("fields", "sent", "param"),
    [
        ({}, [("image", ("x.png", SECRET.encode()))], "image"),
        ({}, [("image", ("x.png", photograph())), ("mask", ("m.png", photograph()))], "mask"),
        ({}, [("image[]", ("x.png", photograph()))] * 5, "image"),
        ({}, [("other", ("x.png", photograph()))], "image"),
        ({"n": "11"}, None, "n"),
        ({"steps": "5000"}, None, "steps"),
        ({"size": "1x1"}, None, "size"),
        ({"strength": "3"}, None, "strength"),
        ({"characters": '[{"id": "char_x"}]'}, None, "characters"),
        ({"unknown": "1"}, None, "unknown"),
        ({"model": SECRET}, None, "model"),
    ],
)
def test_bad_edits_are_refused_by_field(
    client: TestClient, pipeline: FakePipeline, fields: dict[str, Any], sent: Any, param: str
) -> None:
    answer = edit(client, sent=sent, **fields)
    assert answer.status_code in (400, 404), answer.text
    assert error(answer)["param"] == param
    assert pipeline.calls == [] and pipeline.encoded == 0


def test_other_bodies_of_edits_are_refused(client: TestClient) -> None:
    answer = client.post("/v1/images/edits", json={"prompt": "a robot"})
    assert answer.status_code == 400 and error(answer)["code"] == "content_type"
    broken = client.post("/v1/images/edits", content=b"--x", headers={"content-type": "multipart/form-data"})
    assert broken.status_code == 400 and error(broken)


def test_notes_of_edits(client: TestClient) -> None:
    notes = edit(client, input_fidelity="high", face_strength="0.5").json()["notes"]
    assert [note.partition(":")[0] for note in notes] == ["input_fidelity", "face_strength"]


def test_certificates_and_key_belong_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="belong together"):
        load_config("tiny", [f"serving.c2pa.key={tmp_path}/key.pem"])


def test_names_are_an_owners_own(config: Config) -> None:
    characters = CharacterService(config)

    async def found() -> list[list[str]]:
        for owner, name in (("ada", "Zoë"), ("bob", "Zoë"), ("ada", "other")):
            await characters.create(name, "", "robot", [photograph()], [], owner)
        names = ("zoë", "ZOE\u0308", "zoe", "Zoë ")
        cast = await characters.cast("ada")
        return [[member.name for member in cast.named(name)] for name in names]

    assert asyncio.run(found()) == [["Zoë"], ["Zoë"], [], ["Zoë"]]
