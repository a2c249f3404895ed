"""Characters over HTTP: created, looked at, changed, chosen among candidates, deleted, and nobody else's."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from PIL import Image, ImageDraw, ImageFilter
from starlette.testclient import TestClient

from components.access.key import KeyLimits, Scope
from components.access.store import KeyStore
from components.characters import candidates
from components.characters.character_rows import CharacterRows
from components.config import PACKAGE_ROOT, Config, load_config
from components.database import open_database
from components.face_detector import FaceDetector
from components.object_store import open_object_store
from deploy.api.app import create_app
from deploy.api.schema import ModelResponse
from deploy.characters import references as reading
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from deploy.handles import RemoteCharacters
from deploy.interfaces.errors import BusyError
from tests.fakes.pipeline import FakePipeline
from tests.fakes.service_process import running
from tests.fixtures import error_envelope

SECRET = "sekrit-value"


@pytest.fixture
def plain(tmp_path: Path) -> Config:
    """Everything in a directory."""
    return load_config("tiny", [f"serving.store={tmp_path}/store"])


@pytest.fixture(params=["directory", "elsewhere"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Config]:
    """Everything in a directory, or files below a URL and rows on a server."""
    if request.param == "directory":
        yield load_config("tiny", [f"serving.store={tmp_path}/store"])
        return
    url = f"memory://served-{secrets.token_hex(4)}/store"
    database = request.getfixturevalue("postgres_url")
    yield load_config("tiny", [f"serving.store={url}", f"serving.database={database}"])
    open_object_store(url).clear("")


@pytest.fixture
def client(config: Config) -> TestClient:
    return client_of(config)


def client_of(config: Config, characters: CharacterService | None = None, generator: Any = None) -> TestClient:
    characters = characters or CharacterService(config)
    generator = generator or GenerationService(FakePipeline(), characters)
    model = ModelResponse(id="realcustom-tiny", version="7")
    untested = cast(Any, None)  # jobs and stories have tests of their own
    app = create_app(config, model, characters, generator, untested, untested)
    return TestClient(app, raise_server_exceptions=False)


def photograph(color: str = "red", side: int = 240, blur: float = 0) -> bytes:
    picture = Image.new("RGB", (side, side), "lightgreen")
    ImageDraw.Draw(picture).ellipse((side // 5, side // 5, side - side // 5, side - side // 5), fill=color)
    buffer = io.BytesIO()
    picture.filter(ImageFilter.GaussianBlur(blur)).save(buffer, "PNG")
    return buffer.getvalue()


def encoded(*colors: str) -> list[str]:
    return [base64.b64encode(photograph(color)).decode() for color in colors]


def create(client: Any, *colors: str, **fields: Any) -> dict[str, Any]:
    body = {"name": "Rob", "description": "a red robot with a hat", "pictures": encoded(*colors or ("red",))} | fields
    answer = client.post("/v1/characters", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def error(answer: Any, status: int) -> dict[str, Any]:
    """The envelope's content, which every error must have and which never holds the secret."""
    assert answer.status_code == status, answer.text
    assert SECRET not in answer.text
    return error_envelope.error(answer)


def files(config: Config) -> list[str]:
    """What is in the store, the default database left out."""
    return [name for name in open_object_store(config.serving.store).names() if not name.startswith("characters.db")]


def middle(png: bytes) -> Any:
    picture = Image.open(io.BytesIO(png))
    return picture.getpixel((picture.width // 2, picture.height // 2))


def drawn(client: Any, character: dict[str, Any]) -> Any:
    """What is in the middle of a picture with the character."""
    body = {"prompt": "a robot on the beach", "characters": [{"id": character["id"]}], "size": "64x64"}
    answer = client.post("/v1/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    return middle(base64.b64decode(answer.json()["data"][0]["b64_json"]))


def test_a_character_tells_what_its_pictures_are_like(client: TestClient) -> None:
    created = create(client, "red", "blue")
    assert (created["object"], created["target_word"], created["word_source"]) == ("character", "robot", "description")
    first, second = created["pictures"]
    assert first["id"] != second["id"] and (first["width"], first["height"], first["face"]) == (240, 240, None)
    advice = first["advice"]
    assert 135 <= advice["subject_pixels"] <= 155 and 0.25 < advice["subject_share"] < 0.33
    assert advice["sharpness"] > 0.1 > advice["background_clutter"]
    assert advice["face_found"] is None and advice["sentences"] == []
    assert [middle(client.get(shown["cutout"]).content) for shown in (first, second)] == [(255, 0, 0), (0, 0, 255)]
    assert client.get(first["cutout"]).content == client.get(created["reference"]).content
    assert client.get(f"/v1/characters/{created['id']}").json() == created
    assert client.get("/v1/characters").json()["data"] == [created]


def slow(picture: Image.Image) -> bool:
    """A content check that takes a while, and lets everything pass."""
    time.sleep(0.1)
    return True


def test_an_owner_with_many_uploads_keeps_nobody_waiting(plain: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    service = CharacterService(plain, slow)
    picture, done = photograph(), list[str]()

    async def upload(owner: str) -> None:
        await service.create("Rob", "", "robot", [picture], [None], owner)
        done.append(owner)

    async def both() -> None:
        greedy = [asyncio.create_task(upload("greedy")) for _ in range(12)]
        await asyncio.sleep(0.01)
        await upload("modest")
        assert done.count("greedy") <= 3
        await asyncio.gather(*greedy)

    asyncio.run(both())


def test_cut_outs_are_made_once_and_sent_once(client: TestClient, config: Config) -> None:
    created = create(client, "red", "blue")
    objects = open_object_store(config.serving.store)
    cut_out = client.get(created["pictures"][1]["cutout"])
    assert "immutable" in cut_out.headers["Cache-Control"] and middle(cut_out.content) == (0, 0, 255)
    assert "no-cache" in client.get(created["reference"]).headers["Cache-Control"], "another may be the first"
    for name in objects.names(created["id"]):
        if "/picture-" in name or "/mask-" in name:
            objects.discard(name)  # so that nothing can be made of it again
    assert client.get(created["pictures"][1]["cutout"]).content == cut_out.content
    for shown in ("cutout", "original", "mask"):
        path = created["pictures"][1][shown]
        tag = cut_out.headers["ETag"] if shown == "cutout" else f'"{created["pictures"][1]["id"]}-{shown}"'
        held = client.get(path, headers={"If-None-Match": f'"other", {tag}'})
        assert (held.status_code, held.content, held.headers["ETag"]) == (304, b"", tag), shown
        assert error(client.get(path.replace(created["pictures"][1]["id"], "0" * 12)), 404)
    assert error(client.get(created["pictures"][1]["original"]), 404)["code"] == "picture_not_found"
    assert client.delete(cut_out.request.url.path.removesuffix("/cutout.png")).status_code == 200
    assert not [name for name in objects.names(created["id"]) if created["pictures"][1]["id"] in name]
    assert error(client.get(cut_out.request.url.path, headers={"If-None-Match": cut_out.headers["ETag"]}), 404)


def test_advice_is_numbers_and_sentences(client: TestClient) -> None:
    blurred = base64.b64encode(photograph(blur=8)).decode()
    created = create(client, pictures=[*encoded("red"), blurred])
    sharp, soft = (picture["advice"] for picture in created["pictures"])
    assert soft["sharpness"] < 0.1 < sharp["sharpness"] and sharp["sentences"] == []
    assert any("blurred" in sentence for sentence in soft["sentences"])
    assert created["advice"] == soft["sentences"]


def test_faces_are_given_found_missed_or_not_looked_for(plain: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    box = [60, 60, 100, 100]
    given = create(client_of(plain), "red", faces=[box])["pictures"][0]
    assert (given["face"], given["advice"]["face_found"]) == (box, True)
    found: list[tuple[int, int, int, int] | None] = [(50, 50, 90, 90), None]

    class Detector:
        def __call__(self, picture: Image.Image) -> tuple[int, int, int, int] | None:
            return found.pop(0)

    monkeypatch.setattr(reading, FaceDetector.__name__, Detector)
    serving = plain.serving.model_copy(update={"find_faces": True})
    looked = create(client_of(plain.model_copy(update={"serving": serving})), "red", "blue")["pictures"]
    assert [(p["face"], p["advice"]["face_found"]) for p in looked] == [([50, 50, 90, 90], True), (None, False)]


class Namer:
    """Calls everything a ball."""

    def __init__(self, size: int) -> None:
        self.size = size

    def name(self, prompt: str, pictures: Sequence[Image.Image]) -> Any:
        assert prompt == "" and [picture.size for picture in pictures] == [(self.size, self.size)]
        return SimpleNamespace(word="ball")


def test_a_word_is_given_described_or_detected(plain: Config) -> None:
    body = {"name": "Rob", "pictures": encoded("red")}
    assert error(client_of(plain).post("/v1/characters", json=body), 400)["param"] == "target_word"
    serving = plain.serving.model_copy(update={"find_words": True})
    config = plain.model_copy(update={"serving": serving})
    client = client_of(config, CharacterService(config, namer=lambda: Namer(2 * config.vision.view_size)))
    told = [create(client, **fields) for fields in ({"target_word": "machine"}, {}, {"description": ""})]
    assert [(c["target_word"], c["word_source"]) for c in told] == [
        ("machine", "given"),
        ("robot", "description"),
        ("ball", "detected"),
    ]


def test_a_description_is_proposed_where_none_is_given(client: TestClient) -> None:
    made = create(client, "red", description="", target_word="robot")
    assert made["description"].endswith("robot") and made["word_source"] == "given"
    assert create(client, "red", target_word="robot")["description"] == "a red robot with a hat"


def test_names_descriptions_and_words_change(client: TestClient) -> None:
    path = f"/v1/characters/{create(client)['id']}"
    renamed = client.patch(path, json={"name": "Bob"}).json()
    assert (renamed["name"], renamed["description"], renamed["word_source"]) == (
        "Bob",
        "a red robot with a hat",
        "description",
    )
    changed = client.patch(path, json={"description": "☃", "target_word": " machine "}).json()
    assert (changed["name"], changed["description"]) == ("Bob", "☃")
    assert (changed["target_word"], changed["word_source"]) == ("machine", "given")
    assert client.get(path).json() == changed


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({}, None),
        ({"name": None}, None),
        ({"name": ""}, "name"),
        ({"name": "nul\0"}, "name"),
        ({"name": SECRET * 20}, "name"),
        ({"target_word": ""}, "target_word"),
        ({"target_word": "--"}, "target_word"),
        ({"description": 5}, "description"),
        ({"pictures": []}, "pictures"),
        ({SECRET[:3]: "x"}, "sek"),
    ],
)
def test_bad_changes_are_refused_by_field(plain: Config, change: dict[str, Any], param: str | None) -> None:
    client = client_of(plain)
    created = create(client)
    answer = client.patch(f"/v1/characters/{created['id']}", json=change)
    assert error(answer, 400)["param"] == param
    assert client.get(f"/v1/characters/{created['id']}").json() == created


def test_pictures_are_added_and_removed_and_drawn_as_they_are_then(client: TestClient) -> None:
    created = create(client)
    path = f"/v1/characters/{created['id']}/pictures"
    assert drawn(client, created) == (255, 0, 0)
    both = client.post(path, json={"pictures": encoded("blue"), "faces": [[60, 60, 100, 100]]})
    assert both.status_code == 201 and both.json()["pictures"][0] == created["pictures"][0]
    assert both.json()["pictures"][1]["face"] == [60, 60, 100, 100]
    assert drawn(client, created) == (127, 0, 127), "the mean of both"
    red, blue = both.json()["pictures"]
    one = client.delete(f"{path}/{red['id']}").json()
    assert one["pictures"] == [blue]
    assert drawn(client, created) == (0, 0, 255)
    assert error(client.get(red["cutout"]), 404)["code"] == "picture_not_found"
    assert error(client.delete(f"{path}/{red['id']}"), 404)["code"] == "picture_not_found"
    assert error(client.delete(f"{path}/{blue['id']}"), 409)["code"] == "picture_count"
    form = [("pictures", (f"{i}.png", photograph("yellow"))) for i in range(3)]
    assert len(client.post(path, files=form).json()["pictures"]) == 4
    assert error(client.post(path, files=form[:1]), 409)["code"] == "picture_count"
    assert client.get(f"/v1/characters/{created['id']}").json()["pictures"][0] == blue


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"pictures": []}, "pictures"),
        ({}, "pictures"),
        ({"pictures": [SECRET]}, "pictures[0]"),
        ({"pictures": [base64.b64encode(SECRET.encode()).decode()]}, "pictures"),
        ({"pictures": encoded("red"), "name": "x"}, "name"),
        ({"pictures": encoded("red") * 5}, "pictures"),
    ],
)
def test_bad_pictures_are_refused_and_nothing_changes(plain: Config, body: dict[str, Any], param: str) -> None:
    client = client_of(plain)
    created = create(client)
    assert error(client.post(f"/v1/characters/{created['id']}/pictures", json=body), 400)["param"] == param
    assert client.get(f"/v1/characters/{created['id']}").json() == created


def test_a_character_is_drawn_chosen_and_used(client: TestClient, config: Config) -> None:
    body = {"prompt": "a blue robot", "n": 3, "seed": 5, "size": "64x64", "steps": 2}
    answer = client.post("/v1/characters/candidates", json=body)
    assert answer.status_code == 201, answer.text
    offered = answer.json()
    assert offered["object"] == "character.candidates" and offered["prompt"] == "a blue robot"
    assert time.time() < offered["expires"] < time.time() + 3700
    assert [each["seed"] for each in offered["data"]] == [5, 6, 7]
    assert all(set(each["advice"]) >= {"sharpness", "sentences"} for each in offered["data"])
    same = client.post("/v1/images/generations", json=body).json()["data"]
    shown = [base64.b64decode(each["b64_json"]) for each in offered["data"]]
    assert [middle(png) for png in shown] == [middle(base64.b64decode(each["b64_json"])) for each in same]

    chosen = {"name": "Rob", "candidates": offered["id"], "choice": 1}
    created = client.post("/v1/characters", json=chosen).json()
    assert (created["description"], created["target_word"]) == ("a blue robot", "robot")
    assert middle(client.get(created["reference"]).content) == middle(shown[1])
    form = {key: (None, value) for key, value in (chosen | {"description": "a cat", "choice": "2"}).items()}
    other = client.post("/v1/characters", files=form).json()
    assert other["target_word"] == "cat" and middle(client.get(other["reference"]).content) == middle(shown[2])
    assert client.delete(f"/v1/characters/{created['id']}").status_code == 200
    for wrong in (
        {"choice": 3},
        {"candidates": "cand-" + "0" * 28},
        {"candidates": SECRET},
        {"candidates": other["id"]},
    ):
        assert error(client.post("/v1/characters", json=chosen | wrong), 404)["code"] == "candidates_not_found"
    for wrong in ({"choice": -1}, {"choice": "x"}):
        assert error(client.post("/v1/characters", json=chosen | wrong), 400)["param"] == "choice"
    both = client.post("/v1/characters", json=chosen | {"pictures": encoded("red")})
    assert error(both, 400)["param"] == "pictures"


def test_candidates_go_after_an_hour(client: TestClient, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"prompt": "a blue robot", "n": 1, "size": "64x64"}
    old = client.post("/v1/characters/candidates", json=body).json()["id"]
    with monkeypatch.context() as quick:
        quick.setattr(candidates, "KEEP_S", 0.0)
        over = client.post("/v1/characters/candidates", json=body).json()["id"]
    assert client.post("/v1/characters", json={"name": "Rob", "candidates": old}).status_code == 201
    answer = client.post("/v1/characters", json={"name": "Rob", "candidates": over})
    assert error(answer, 404)["code"] == "candidates_not_found"
    new = client.post("/v1/characters/candidates", json=body).json()["id"]
    kept = {name.partition("/")[0] for name in files(config)}
    assert {name for name in kept if name.startswith("cand-")} == {old, new}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "nul\0"}, "prompt"),
        ({"prompt": SECRET * 100}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"size": SECRET}, "size"),
        ({"size": "64x65"}, "size"),
        ({"seed": -1}, "seed"),
        ({"steps": 1000}, "steps"),
        ({"characters": []}, "characters"),
    ],
)
def test_bad_candidates_are_refused_by_field(plain: Config, fields: dict[str, Any], param: str) -> None:
    answer = client_of(plain).post("/v1/characters/candidates", json={"prompt": "a robot"} | fields)
    assert error(answer, 400)["param"] == param


def test_candidates_wait_in_the_same_queue(plain: Config) -> None:
    class Full:
        async def generate(self, _: Any) -> Any:
            raise BusyError("too many requests are waiting; try again later")

    answer = client_of(plain, generator=Full()).post("/v1/characters/candidates", json={"prompt": "a robot"})
    assert error(answer, 503)["type"] == "server_error" and answer.headers["retry-after"]


def test_deleting_leaves_nothing(client: TestClient, config: Config) -> None:
    created = create(client, "red", "blue")
    drawn(client, created)
    names = files(config)
    assert len(names) == 5 and len([name for name in names if "/tokens-" in name]) == 1
    assert client.delete(f"/v1/characters/{created['id']}").json()["deleted"] is True
    assert files(config) == []
    for path in (f"/v1/characters/{created['id']}", created["reference"], created["pictures"][0]["cutout"]):
        assert error(client.get(path), 404)["code"] == "character_not_found"


class Handle:
    """A deployment's handle over the part itself; it tells which methods were called."""

    def __init__(self, part: CharacterService) -> None:
        self._part, self.called = part, list[str]()

    def __getattr__(self, method: str) -> Any:
        def remote(*arguments: Any, log_context: dict[str, str]) -> Any:
            self.called.append(method)
            return getattr(self._part, method)(*arguments)

        return SimpleNamespace(remote=remote)


def test_the_gateway_reads_rows_itself_and_leaves_the_rest_to_the_part(config: Config) -> None:
    part = CharacterService(config)
    handle = Handle(part)
    rows = CharacterRows(open_database(config.serving.store, config.serving.database))
    near = cast(CharacterService, RemoteCharacters(cast(Any, handle), rows))
    client = client_of(config, near, GenerationService(FakePipeline(), part))
    created = create(client, "red", name="Rob")
    other = client_of(config, part)
    for path in ("/v1/characters", f"/v1/characters/{created['id']}", "/v1/characters/char_unknown"):
        assert client.get(path).json() == other.get(path).json()
    mentioned = client.post("/v1/images/generations", json={"prompt": "@Rob on the beach", "seed": 1})
    assert mentioned.json()["target_words"] == [created["target_word"]]
    other.delete(f"/v1/characters/{created['id']}")
    assert error(client.get(f"/v1/characters/{created['id']}"), 404)["code"] == "character_not_found"
    assert handle.called == ["create"]


def test_pages_hold_together(client: TestClient) -> None:
    names = [create(client, name=f"c{i}")["name"] for i in range(5)]
    seen, after = [], None
    while True:
        page = client.get("/v1/characters", params={"limit": 2} | ({} if after is None else {"after": after})).json()
        seen += [c["name"] for c in page["data"]]
        after = page["data"][-1]["id"]
        client.delete(f"/v1/characters/{after}")
        if not page["has_more"]:
            break
    assert seen == names[::-1], "a page's end may be gone by the time of the next"
    assert error(client.get("/v1/characters", params={"after": SECRET}), 404)["code"] == "character_not_found"
    assert error(client.get("/v1/characters", params={"limit": 101}), 400)["param"] == "limit"


@pytest.fixture
def keyed(config: Config) -> tuple[TestClient, KeyStore]:
    access = config.serving.access.model_copy(update={"keys": "required", "refresh_s": 0.01})
    config = config.model_copy(update={"serving": config.serving.model_copy(update={"access": access})})
    store = KeyStore(open_database(config.serving.store, config.serving.database))
    return client_of(config), store


def test_another_owner_finds_nothing(keyed: tuple[TestClient, KeyStore]) -> None:
    client, keys = keyed
    ada, bob = (Holder(client, keys, owner) for owner in ("ada", "bob"))
    mine = create(ada)
    offered = ada.post("/v1/characters/candidates", json={"prompt": "a robot", "n": 1, "size": "64x64"}).json()
    path, picture = f"/v1/characters/{mine['id']}", mine["pictures"][0]
    requests: list[tuple[str, str, Any]] = [
        ("GET", path, None),
        ("PATCH", path, {"name": "Bob's"}),
        ("GET", mine["reference"], None),
        ("GET", picture["cutout"], None),
        ("POST", f"{path}/pictures", {"pictures": encoded("blue")}),
        ("DELETE", f"{path}/pictures/{picture['id']}", None),
        ("DELETE", path, None),
        ("POST", "/v1/characters", {"name": "Rob", "candidates": offered["id"]}),
        ("POST", "/v1/images/generations", {"prompt": "a robot", "characters": [{"id": mine["id"]}]}),
    ]
    for method, where, body in requests:
        theirs = error(bob.request(method, where, json=body), 404)
        unknown = where.replace(mine["id"], "char-" + "0" * 28)
        assert body or error(bob.request(method, unknown), 404) == theirs, "no telling whether it is somebody's"
    assert bob.get("/v1/characters").json()["data"] == []
    assert [c["id"] for c in bob.get("/v1/characters", params={"after": mine["id"]}).json()["data"]] == []
    assert ada.get(path).json() == mine and len(ada.get("/v1/characters").json()["data"]) == 1
    assert ada.post("/v1/characters", json={"name": "Rob", "candidates": offered["id"]}).status_code == 201


def test_who_may_not_draw_gets_no_candidates(keyed: tuple[TestClient, KeyStore]) -> None:
    client, keys = keyed
    writer = Holder(client, keys, "ada", Scope.CHARACTERS_READ, Scope.CHARACTERS_WRITE)
    answer = writer.post("/v1/characters/candidates", json={"prompt": "a robot"})
    assert error(answer, 403)["code"] == "missing_scope"
    spender = Holder(client, keys, "ada", Scope.IMAGES, pixel_steps_per_day=64 * 64)
    small = {"prompt": "a robot", "n": 1, "size": "64x64", "steps": 1}
    assert spender.post("/v1/characters/candidates", json=small).status_code == 201
    assert error(spender.post("/v1/characters/candidates", json=small), 429)["code"] == "insufficient_quota"


class Holder:
    """A client with a new key."""

    def __init__(self, client: TestClient, keys: KeyStore, owner: str, *scopes: Scope, **limits: int) -> None:
        _, text = keys.create(owner, "test", scopes or [Scope.ADMIN], KeyLimits(**limits))
        time.sleep(0.02)
        self._client, self._headers = client, {"Authorization": f"Bearer {text}"}

    def request(self, method: str, path: str, **sent: Any) -> httpx.Response:
        return self._client.request(method, path, headers=self._headers, **sent)

    def get(self, path: str, **sent: Any) -> httpx.Response:
        return self.request("GET", path, **sent)

    def post(self, path: str, **sent: Any) -> httpx.Response:
        return self.request("POST", path, **sent)


def test_the_documented_example_runs(tmp_path: Path) -> None:
    """The script of docs/how-to/use_the_service.md runs, and the answer that the page shows has the real fields."""
    page = (PACKAGE_ROOT / "docs/how-to/use_the_service.md").read_text()
    section = page[page.index("\n## Characters\n") : page.index("\n## Images\n")]
    script = re.search(r"^    import base64\n(?:    .*\n|\n)+", section, re.MULTILINE)
    assert script is not None
    (tmp_path / "rob.png").write_bytes(photograph())
    (tmp_path / "rob-from-behind.png").write_bytes(photograph("blue"))
    config = load_config("tiny", [f"serving.store={tmp_path}/store"])
    with running(config) as url, pytest.MonkeyPatch.context() as here:
        here.chdir(tmp_path)
        code = "\n".join(line[4:] for line in script[0].splitlines()).replace("http://127.0.0.1:8000", url)
        found: dict[str, Any] = {}
        exec(compile(code, "serving.md", "exec"), found)
        answered = httpx.get(f"{url}/v1/characters/{found['rob']['id']}").json()
    shown = re.search(r"```json\n(\{.*?\})\n```", section, re.DOTALL)
    assert shown is not None
    documented = json.loads(shown[1])
    assert set(documented) == set(answered)
    assert set(documented["pictures"][0]) == set(answered["pictures"][0])
    assert set(documented["pictures"][0]["advice"]) == set(answered["pictures"][0]["advice"])
