"""Stories over real HTTP and the real parts in one process; only the pipeline is a fake."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from components.object_store import LocalObjectStore
from components.pictures import to_png
from tests.fixtures.error_envelope import error
from tests.stories.conftest import character, create, draw, drawn, picture, read


def panel_path(story: dict[str, Any], index: int = 0) -> str:
    return f"/v1/stories/{story['id']}/panels/{story['panels'][index]['id']}"


def test_a_script_becomes_panels_and_panels_become_pictures(client: httpx.Client) -> None:
    rob = character(client, "Rob")
    story = create(client, "1. @rob on the beach\n\n- a quiet night\n", style="watercolour")
    assert [panel["prompt"] for panel in story["panels"]] == ["@Rob on the beach", "a quiet night"]
    assert story["panels"][0]["mentions"] == [{"name": "Rob", "character": rob, "start": 0, "end": 4}]
    assert all(panel["dirty"] and panel["job"] is None and panel["takes"] == [] for panel in story["panels"])

    answer = draw(client, story["id"])
    assert [each["panel"] for each in answer["data"]] == [panel["id"] for panel in story["panels"]]
    assert answer["skipped"] == []
    first, second = drawn(client, story["id"])["panels"]
    take = first["takes"][0]
    assert first["chosen"] == take["id"] and not first["dirty"] and first["error"] is None
    assert take["settings"]["prompt"] == "@Rob on the beach, watercolour"
    assert take["settings"]["revised_prompt"] == "robot on the beach, watercolour"
    assert [each["id"] for each in take["settings"]["characters"]] == [rob]
    assert take["model_version"] == "7" and len(take["masks"]) == 1
    assert second["takes"][0]["masks"] == []

    picture = client.get(take["picture"])
    assert picture.headers["content-type"] == "image/png" and "immutable" in picture.headers["cache-control"]
    with Image.open(io.BytesIO(picture.content)) as opened:
        assert opened.size == (take["width"], take["height"])
        assert "realcustom" in opened.text  # type: ignore[attr-defined]
    again = client.get(take["picture"], headers={"If-None-Match": picture.headers["etag"]})
    assert again.status_code == 304 and again.content == b""
    assert client.get(take["masks"][0]).headers["content-type"] == "image/png"
    small = client.get(f"/v1/stories/{story['id']}/takes/{take['id']}/thumbnail.webp?size=128")
    with Image.open(io.BytesIO(small.content)) as opened:
        assert opened.format == "WEBP" and max(opened.size) <= 128
    listed = client.get("/v1/stories").json()["data"][0]
    assert listed["cover"] == take["thumbnail"] and listed["panel_count"] == 2 and "panels" not in listed
    assert draw(client, story["id"]) == {"object": "list", "data": [], "skipped": []}, "nothing has changed"


def test_only_what_has_changed_is_drawn_again(client: httpx.Client) -> None:
    character(client, "Rob")
    story = create(client, "@rob on the beach\na quiet night")
    draw(client, story["id"])
    story = drawn(client, story["id"])
    changed = client.patch(panel_path(story, 1), json={"prompt": "a loud night"})
    assert changed.status_code == 200 and changed.json()["dirty"]
    assert [each["panel"] for each in draw(client, story["id"])["data"]] == [story["panels"][1]["id"]]
    panel = drawn(client, story["id"])["panels"][1]
    assert len(panel["takes"]) == 2 and panel["chosen"] == panel["takes"][0]["id"] and not panel["dirty"]

    back = client.patch(panel_path(story, 1), json={"chosen": panel["takes"][1]["id"]}).json()
    assert back["chosen"] == panel["takes"][1]["id"] and back["dirty"], "it shows the quiet night"
    client.patch(f"/v1/stories/{story['id']}", json={"style": "ink"})
    assert [each["dirty"] for each in read(client, story["id"])["panels"]] == [True, True]


def test_renaming_a_character_breaks_nothing_and_deleting_it_keeps_the_takes(client: httpx.Client) -> None:
    rob = character(client, "Rob")
    story = create(client, "@rob waves")
    draw(client, story["id"])
    drawn(client, story["id"])
    client.patch(f"/v1/characters/{rob}", json={"name": "Robert the Second"})
    panel = read(client, story["id"])["panels"][0]
    assert panel["prompt"] == '@"Robert the Second" waves' and not panel["dirty"]
    assert panel["mentions"][0]["character"] == rob
    client.delete(f"/v1/characters/{rob}")
    panel = read(client, story["id"])["panels"][0]
    assert panel["prompt"] == '@"Robert the Second" waves' and len(panel["takes"]) == 1 and not panel["dirty"]
    assert panel["mentions"] == [{"name": "Robert the Second", "character": None, "start": 0, "end": 20}]
    assert client.get(panel["takes"][0]["picture"]).status_code == 200

    skipped = draw(client, story["id"], panels=[panel["id"]])["skipped"]
    assert skipped[0]["panel"] == panel["id"] and "no character of this name" in skipped[0]["reason"]
    panel = read(client, story["id"])["panels"][0]
    assert panel["error"]["code"] == "mention_unknown" and panel["error"]["param"] == "prompt"
    client.patch(panel_path(read(client, story["id"])), json={"with_characters": False})
    assert len(draw(client, story["id"])["data"]) == 1


def test_a_panel_is_sampled_as_it_says(client: httpx.Client) -> None:
    story = create(client, "a quiet night")
    draw(client, story["id"])
    panel = drawn(client, story["id"])["panels"][0]
    assert [panel[name] for name in ("sampler", "steps", "guidance_scale")] == [None, None, None]
    usual = panel["takes"][0]["settings"]
    assert usual["scheduler"] is None and usual["steps"] == 3

    wanted = {"sampler": "dpmpp_2m_karras", "steps": 5, "guidance_scale": 2.5}
    changed = client.patch(panel_path(story), json=wanted).json()
    assert {name: changed[name] for name in wanted} == wanted and changed["dirty"]
    draw(client, story["id"])
    panel = drawn(client, story["id"])["panels"][0]
    assert not panel["dirty"]
    settings = panel["takes"][0]["settings"]
    assert [settings[name] for name in ("scheduler", "steps", "guidance_scale")] == ["dpmpp_2m_karras", 5, 2.5]

    back = client.patch(panel_path(story), json={**dict.fromkeys(wanted), "chosen": panel["takes"][1]["id"]}).json()
    assert not back["dirty"], "the default has the digest that it had before"
    for bad in ({"sampler": "plms"}, {"steps": 0}, {"guidance_scale": 0.5}):
        refused = client.patch(panel_path(story), json=bad)
        assert refused.status_code == 400 and error(refused)["param"] == next(iter(bad))
    client.patch(panel_path(story), json={"steps": 1000})
    skipped = draw(client, story["id"])["skipped"]
    assert skipped[0]["reason"].startswith("steps: at most")


def test_a_panel_has_loras_and_its_takes_keep_them(client: httpx.Client) -> None:
    story = create(client, "a quiet night")
    assert story["panels"][0]["loras"] == []
    draw(client, story["id"])
    first = drawn(client, story["id"])["panels"][0]["takes"][0]
    assert first["settings"]["loras"] == []

    wanted = [{"name": "ink", "weight": 0.5}, {"name": "flat", "weight": -1.0}]
    changed = client.patch(panel_path(story), json={"loras": wanted}).json()
    assert changed["loras"] == wanted and changed["dirty"]
    draw(client, story["id"])
    panel = drawn(client, story["id"])["panels"][0]
    assert panel["takes"][0]["settings"]["loras"] == wanted and not panel["dirty"]
    redrawn = client.post(f"/v1/stories/{story['id']}/takes/{panel['takes'][0]['id']}/redraw", json={})
    assert redrawn.status_code == 202, redrawn.text
    assert drawn(client, story["id"])["panels"][0]["takes"][0]["settings"]["loras"] == wanted

    copy = client.post(f"{panel_path(story)}/duplicate").json()
    assert copy["loras"] == wanted
    back = client.patch(panel_path(story), json={"loras": [], "chosen": first["id"]}).json()
    assert back["loras"] == [] and not back["dirty"], "the default has the digest that it had before"

    twice = client.patch(panel_path(story), json={"loras": [{"name": "ink"}, {"name": "ink"}]})
    assert twice.status_code == 400 and error(twice)["param"] == "loras"
    assert client.patch(panel_path(story), json={"loras": [{"name": "oil"}]}).status_code == 200
    skipped = draw(client, story["id"], panels=[story["panels"][0]["id"]])["skipped"]
    assert "choose from: flat, ink" in skipped[0]["reason"]
    assert read(client, story["id"])["panels"][0]["error"]["param"] == "loras[0].name"


def test_a_picture_guides_one_panel(client: httpx.Client) -> None:
    story = create(client, "a quiet night\na loud day")
    one, other = (panel["id"] for panel in story["panels"])
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pose = base64.b64encode(to_png(Image.fromarray(noise))).decode()
    given = {"name": "pose", "image": pose, "scale": 0.5, "start": 0.1, "end": 1}
    assert len(draw(client, story["id"], panels=[one], n=2, control=given)["data"]) == 2
    panel = drawn(client, story["id"])["panels"][0]
    assert not panel["dirty"] and len(panel["takes"]) == 2
    for take in panel["takes"]:
        assert take["settings"]["control"] == {name: given[name] for name in ("name", "scale", "start", "end")}
        with Image.open(io.BytesIO(client.get(take["picture"]).content)) as shown:
            assert (np.array(shown.convert("RGB"))[:8, :8] == noise[:8, :8]).all()
    exported = client.get(f"/v1/stories/{story['id']}/export", params={"format": "story"}).content
    brought = client.post("/v1/stories/import", files={"file": ("a.zip", exported)}).json()
    assert brought["panels"][0]["takes"][0]["settings"] == panel["takes"][0]["settings"]

    for wrong, param in (
        ({"control": given}, "control"),
        ({"control": given, "panels": [one, other]}, "control"),
        ({"control": given | {"name": "oil"}, "panels": [other]}, "control.name"),
        ({"control": given | {"image": "aaaa"}, "panels": [other]}, "control.image"),
    ):
        refused = client.post(f"/v1/stories/{story['id']}/draw", json=wrong)
        told = error(refused)
        assert refused.status_code == 400 and told["param"] == param, told
    assert (
        read(client, story["id"])["panels"][1]["error"] is None and not drawn(client, story["id"])["panels"][1]["takes"]
    )


def test_panels_of_one_request_may_differ_in_what_they_set(client: httpx.Client) -> None:
    given: list[dict[str, Any]] = [{"prompt": "a"}, {"prompt": "b", "steps": 2, "loras": [{"name": "ink"}]}, {}]
    for panels in (given, given[::-1]):
        story = create(client)["id"]
        answer = client.post(f"/v1/stories/{story}/panels", json={"panels": panels})
        assert answer.status_code == 201, answer.text
        found = [(panel["prompt"], panel["steps"], len(panel["loras"])) for panel in answer.json()["data"]]
        assert sorted(found) == [("", None, 0), ("a", None, 0), ("b", 2, 1)]


def test_a_locked_seed_is_drawn_again_and_a_free_one_is_not(client: httpx.Client) -> None:
    story = create(client, "a quiet night")
    draw(client, story["id"])
    seed = drawn(client, story["id"])["panels"][0]["takes"][0]["seed"]
    locked = client.patch(panel_path(story), json={"seed_locked": True}).json()
    assert locked["seed"] == seed and not locked["dirty"]
    draw(client, story["id"], panels=[story["panels"][0]["id"]], n=3)
    panel = drawn(client, story["id"])["panels"][0]
    assert sorted(take["seed"] for take in panel["takes"]) == [seed, seed, seed + 1, seed + 2]
    assert next(take["seed"] for take in panel["takes"] if take["id"] == panel["chosen"]) == seed
    client.patch(panel_path(story), json={"seed": 7})
    assert [each["panel"] for each in draw(client, story["id"])["data"]] == [panel["id"]]
    assert drawn(client, story["id"])["panels"][0]["takes"][0]["seed"] == 7


def test_an_outdated_edit_is_refused_and_changes_nothing(client: httpx.Client) -> None:
    story = create(client, "one\ntwo")
    path, tag = f"/v1/stories/{story['id']}", story["etag"]
    renamed = client.patch(path, json={"title": "New"}, headers={"If-Match": tag})
    assert renamed.status_code == 200 and renamed.headers["etag"] == renamed.json()["etag"] != tag
    refused = client.patch(path, json={"title": "Late"}, headers={"If-Match": tag})
    assert refused.status_code == 412 and error(refused)["code"] == "revision_mismatch"
    assert refused.headers["etag"] == renamed.headers["etag"]
    assert client.delete(path, headers={"If-Match": tag}).status_code == 412
    assert client.patch(path, json={"title": "Late"}, headers={"If-Match": "nonsense"}).status_code == 412
    assert read(client, story["id"])["title"] == "New"

    panel = story["panels"][0]
    edited = client.patch(panel_path(story), json={"prompt": "three"}, headers={"If-Match": panel["etag"]})
    assert edited.status_code == 200
    refused = client.patch(panel_path(story), json={"prompt": "four"}, headers={"If-Match": panel["etag"]})
    assert refused.status_code == 412
    assert client.delete(panel_path(story), headers={"If-Match": panel["etag"]}).status_code == 412
    assert read(client, story["id"])["panels"][0]["prompt"] == "three"
    assert client.patch(path, json={"title": "Any"}, headers={"If-Match": "*"}).status_code == 200


def test_a_take_that_arrives_outdates_nobodys_edit(client: httpx.Client) -> None:
    story = create(client, "a quiet night")
    draw(client, story["id"])
    drawn(client, story["id"])
    tag = story["panels"][0]["etag"]
    assert client.patch(panel_path(story), json={"caption": "Night."}, headers={"If-Match": tag}).status_code == 200
    saved = client.patch(f"/v1/stories/{story['id']}", json={"title": "N"}, headers={"If-Match": story["etag"]})
    assert saved.status_code == 200


def test_a_hundred_panels_are_reordered_by_one_request(client: httpx.Client) -> None:
    story = create(client, "\n".join(f"panel {index}" for index in range(100)))
    path = f"/v1/stories/{story['id']}/order"
    turned = [panel["id"] for panel in reversed(story["panels"])]
    answer = client.put(path, json={"panels": turned}, headers={"If-Match": story["etag"]})
    assert answer.status_code == 200
    assert [panel["id"] for panel in read(client, story["id"])["panels"]] == turned
    assert client.put(path, json={"panels": turned}, headers={"If-Match": story["etag"]}).status_code == 412
    for wrong in (turned[1:], [*turned, turned[0]], [*turned[1:], "panel-" + "0" * 28]):
        refused = client.put(path, json={"panels": wrong})
        assert refused.status_code == 409 and error(refused)["code"] == "order_mismatch"


def test_panels_are_added_copied_and_deleted_where_they_should_be(client: httpx.Client) -> None:
    story = create(client, "one\nthree")
    path = f"/v1/stories/{story['id']}/panels"
    one = story["panels"][0]["id"]
    added = client.post(path, json={"panels": [{"prompt": "two", "hidden": True}], "after": one})
    assert added.status_code == 201 and added.json()["data"][0]["hidden"]
    client.post(path, json={"panels": [{"prompt": "zero"}], "after": "start"})
    client.post(path, json={"panels": [{"prompt": "four", "caption": "The end."}]})
    copy = client.post(f"{path}/{one}/duplicate")
    assert copy.status_code == 201
    prompts = [panel["prompt"] for panel in read(client, story["id"])["panels"]]
    assert prompts == ["zero", "one", "one", "two", "three", "four"]
    assert client.delete(f"{path}/{one}").json() == {"id": one, "object": "panel.deleted", "deleted": True}
    assert [p["prompt"] for p in read(client, story["id"])["panels"]] == ["zero", "one", "two", "three", "four"]
    assert error(client.get(f"{path}/{one}"))["code"] == "panel_not_found"
    assert error(client.post(path, json={"panels": [{}], "after": one}))["code"] == "panel_not_found"


def test_the_same_key_makes_nothing_twice(client: httpx.Client) -> None:
    def post(path: str, body: Any, key: str) -> httpx.Response:
        return client.post(path, json=body, headers={"Idempotency-Key": key})

    story = post("/v1/stories", {"title": "T", "script": "one"}, "a")
    again = post("/v1/stories", {"title": "T", "script": "one"}, "a")
    assert again.json()["id"] == story.json()["id"] and again.headers["idempotent-replayed"] == "true"
    other = post("/v1/stories", {"title": "U"}, "a")
    assert other.status_code == 409 and error(other)["code"] == "idempotency_key_reused"
    path = f"/v1/stories/{story.json()['id']}"
    added = [post(f"{path}/panels", {"panels": [{"prompt": "two"}]}, "b").json()["data"] for _ in range(2)]
    assert added[0][0]["id"] == added[1][0]["id"]
    copies = [post(f"{path}/panels/{added[0][0]['id']}/duplicate", None, "c").json()["id"] for _ in range(2)]
    assert copies[0] == copies[1]
    assert len(read(client, story.json()["id"])["panels"]) == 3
    draws = [post(f"{path}/draw", {"n": 2}, "d") for _ in range(2)]
    assert draws[0].json() == draws[1].json() and draws[1].headers["idempotent-replayed"] == "true"
    assert [len(panel["takes"]) for panel in drawn(client, story.json()["id"])["panels"]] == [2, 2, 2]


def test_stories_are_listed_newest_first_page_by_page(client: httpx.Client) -> None:
    ids = [create(client, title=f"Story {index}")["id"] for index in range(3)]
    page = client.get("/v1/stories", params={"limit": 2}).json()
    assert [story["id"] for story in page["data"]] == [ids[2], ids[1]] and page["has_more"]
    rest = client.get("/v1/stories", params={"limit": 2, "after": ids[1]}).json()
    assert [story["id"] for story in rest["data"]] == [ids[0]] and not rest["has_more"]


def test_a_deleted_story_takes_everything_with_it(client: httpx.Client, config: Any) -> None:
    story = create(client, "a quiet night")
    draw(client, story["id"])
    take = drawn(client, story["id"])["panels"][0]["takes"][0]
    files = config.serving.store / story["id"]
    assert list(files.iterdir())
    deleted = client.delete(f"/v1/stories/{story['id']}")
    assert deleted.json() == {"id": story["id"], "object": "story.deleted", "deleted": True}
    assert not files.exists()
    for path in (f"/v1/stories/{story['id']}", take["picture"], f"/v1/stories/{story['id']}/events"):
        assert error(client.get(path))["code"] == "story_not_found"


def test_a_deleted_take_gives_way_to_the_newest_other(client: httpx.Client) -> None:
    story = create(client, "a quiet night")
    draw(client, story["id"], n=2)
    panel = drawn(client, story["id"])["panels"][0]
    other = next(take for take in panel["takes"] if take["id"] != panel["chosen"])
    path = f"/v1/stories/{story['id']}/takes/{panel['chosen']}"
    assert client.delete(path).json()["object"] == "take.deleted"
    panel = drawn(client, story["id"])["panels"][0]
    assert panel["chosen"] == other["id"] and len(panel["takes"]) == 1
    assert client.get(f"{path}.png").status_code == 404 and client.delete(path).status_code == 404
    client.delete(f"/v1/stories/{story['id']}/takes/{other['id']}")
    panel = read(client, story["id"])["panels"][0]
    assert panel["chosen"] is None and panel["dirty"]


def test_what_is_being_drawn_can_be_cancelled(client: httpx.Client) -> None:
    story = create(client, "a sluggish night")
    draw(client, story["id"], n=2)
    panel = read(client, story["id"])["panels"][0]
    assert panel["job"]["left"] == 2 and panel["job"]["total"] == 3
    assert draw(client, story["id"])["skipped"] == [{"panel": panel["id"], "reason": "it is being drawn already"}]
    assert client.delete(f"{panel_path(story)}/job").status_code == 200
    assert drawn(client, story["id"])["panels"][0]["takes"] == []


def test_what_cannot_be_drawn_says_so_at_its_panel(client: httpx.Client) -> None:
    for name in ("Rob", "rob"):
        character(client, name)
    story = create(client, "@rob waves\na quiet night")
    client.patch(panel_path(story, 1), json={"size": "9999x16"})
    client.post(f"/v1/stories/{story['id']}/panels", json={"panels": [{}]})
    skipped = draw(client, story["id"])["skipped"]
    assert len(skipped) == 3
    codes = [panel["error"]["code"] for panel in read(client, story["id"])["panels"]]
    assert codes == ["mention_ambiguous", "invalid_size", "empty_prompt"]
    assert client.patch(panel_path(story, 1), json={"size": "auto"}).json()["error"] is None


def test_a_panel_that_the_model_cannot_read_is_not_drawn(client: httpx.Client) -> None:
    character(client, "小明")
    story = create(client, '@小明在海滩上\n@小明 on the beach\nby @ noon\na hat for @"')
    answer = draw(client, story["id"])
    assert len(answer["data"]) == 2
    panels = read(client, story["id"])["panels"]
    assert [panel["error"] and panel["error"]["code"] for panel in panels] == [
        "prompt_not_readable",
        None,
        None,
        "mention_unknown",
    ]
    assert [mention["name"] for panel in panels for mention in panel["mentions"]] == ["小明", "小明"]


def test_a_failed_drawing_says_why(client: httpx.Client) -> None:
    character(client, "Rob")
    story = create(client, "so many words that " + "nobody " * 20 + "sees @rob")
    draw(client, story["id"])
    panel = drawn(client, story["id"])["panels"][0]
    assert panel["takes"] == [] and panel["error"]["code"] == "target_word_not_in_prompt"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "title"),
        ({"title": " "}, "title"),
        ({"title": "T", "script": "x" * 3001}, None),
        ({"title": "T", "pages": {"panels_per_page": 7}}, "pages.panels_per_page"),
        ({"title": "T", "language": "no language"}, "language"),
        ({"title": "T\0"}, "title"),
        ({"title": "T", "colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_is_named(client: httpx.Client, body: dict[str, Any], param: str | None) -> None:
    answer = client.post("/v1/stories", json=body)
    assert answer.status_code == 400 and error(answer)["param"] == param


def test_what_a_client_has_is_not_read_again(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    rob = character(client, "Rob")
    story = create(client, "@rob on the beach")
    draw(client, story["id"])
    take = drawn(client, story["id"])["panels"][0]["takes"][0]
    kept = f"/v1/history/{take['id']}"
    paths = [take["picture"], take["thumbnail"], take["masks"][0], f"{kept}.png", f"{kept}/thumbnail.webp"]
    tags = {path: client.get(path).headers["etag"] for path in (*paths, f"/v1/characters/{rob}/thumbnail.webp")}

    def away(*_: Any) -> bytes:
        raise AssertionError("the file is read")

    monkeypatch.setattr(LocalObjectStore, "read", away)
    for path, tag in tags.items():
        held = client.get(path, headers={"If-None-Match": tag})
        assert (held.status_code, held.content, held.headers["etag"]) == (304, b"", tag), path
    monkeypatch.undo()
    assert client.delete(f"/v1/stories/{story['id']}/takes/{take['id']}").status_code == 200
    for path in paths:
        assert client.get(path, headers={"If-None-Match": tags[path]}).status_code == 404, path


def test_characters_have_thumbnails_that_follow_their_pictures(client: httpx.Client, config: Any) -> None:
    rob = character(client, "Rob")
    path = f"/v1/characters/{rob}/thumbnail.webp?size=128"
    small = client.get(path)
    with Image.open(io.BytesIO(small.content)) as opened:
        assert opened.format == "WEBP" and max(opened.size) <= 128
    assert "no-cache" in small.headers["cache-control"] and "private" in small.headers["cache-control"]
    assert client.get(path, headers={"If-None-Match": small.headers["etag"]}).status_code == 304
    assert client.get(path).content == small.content
    first = client.get(f"/v1/characters/{rob}").json()["pictures"][0]["id"]
    added = {"pictures": ("b.png", picture("blue"))}
    client.post(f"/v1/characters/{rob}/pictures", files=added)
    client.delete(f"/v1/characters/{rob}/pictures/{first}")
    assert client.get(path).headers["etag"] != small.headers["etag"]
    files = [file.name for file in (config.serving.store / rob).iterdir()]
    assert not [name for name in files if first in name], "what was removed is removed altogether"
    for wrong in ("64", "1000000", "x"):
        assert client.get(f"/v1/characters/{rob}/thumbnail.webp?size={wrong}").status_code == 400
    assert client.get(path.replace(rob, "char-" + "0" * 28)).status_code == 404


def test_ids_that_cannot_be_are_unknown(client: httpx.Client) -> None:
    story = create(client, "one")
    for path in (
        "/v1/stories/story-1",
        "/v1/stories/..%2f..%2fetc",
        f"/v1/stories/{story['id']}/takes/x.png",
        f"/v1/stories/{story['id']}/panels/panel-%00",
    ):
        assert client.get(path).status_code == 404, path
