"""Exports of a service that signs: pages and documents have manifests that include those of their images."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pypdf
import pytest

from components.config import load_config
from components.provenance.image_files import MACHINE_MADE
from components.provenance.manifests import COMPOSITE
from tests.fakes.service_process import QUICK, running
from tests.fixtures.certificates import Signer, make_signer
from tests.stories.conftest import create, draw, drawn
from tests.stories.test_stories_export import bring, export

c2pa = pytest.importorskip("c2pa")


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return make_signer(tmp_path)


@pytest.fixture
def signing(tmp_path: Path, signer: Signer) -> Iterator[httpx.Client]:
    keys = [f"serving.c2pa.certificates={signer.certificates}", f"serving.c2pa.key={signer.key}"]
    config = load_config("tiny", [f"serving.store={tmp_path}/signing", "sampling.steps=3", *keys, *QUICK])
    with running(config) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def story(signing: httpx.Client) -> str:
    """A drawn story of two panels with captions, and one without."""
    made = create(signing, "one\ntwo\nthree")
    for panel in made["panels"][:2]:
        signing.patch(f"/v1/stories/{made['id']}/panels/{panel['id']}", json={"caption": panel["prompt"]})
    draw(signing, made["id"])
    drawn(signing, made["id"])
    return str(made["id"])


def manifest(data: bytes, mime: str, signer: Signer) -> dict[str, Any]:
    """The active manifest, by a reader who trusts the signer's authority."""
    trust = {"trust": {"user_anchors": signer.root}, "verify": {"verify_trust": True}}
    with c2pa.Reader(mime, io.BytesIO(data), context=c2pa.Context.from_dict(trust)) as reader:
        assert reader.get_validation_state() == "Trusted"
        found: dict[str, Any] = reader.get_active_manifest()
        for part in found.get("ingredients", []):
            found.setdefault("parts", []).append(reader.get_manifest(part["active_manifest"]))
        return found


def actions(found: dict[str, Any]) -> list[dict[str, Any]]:
    return list(found["assertions"][0]["data"]["actions"])


def check_composite(found: dict[str, Any], pictures: int) -> None:
    created, *placed = actions(found)
    assert (created["action"], created["digitalSourceType"]) == ("c2pa.created", COMPOSITE)
    assert [each["action"] for each in placed] == ["c2pa.placed"] * pictures
    assert [part["relationship"] for part in found["ingredients"]] == ["componentOf"] * pictures
    for part in found["parts"]:
        (made,) = actions(part)
        assert made["digitalSourceType"] == MACHINE_MADE
        assert made["parameters"] == {"model": "realcustom-tiny", "model_version": "7"}


def test_a_pdf_includes_the_manifests_of_its_images(signing: httpx.Client, story: str, signer: Signer) -> None:
    data = export(signing, story, "pdf").content
    check_composite(manifest(data, "application/pdf", signer), pictures=3)
    pdf = pypdf.PdfReader(io.BytesIO(data))
    assert "one" in pdf.pages[1].extract_text(), "the text can still be searched"
    xmp = pdf.trailer["/Root"]["/Metadata"].get_data().decode()  # type: ignore[index]
    assert MACHINE_MADE in xmp
    damaged = bytearray(data)
    damaged[len(data) // 8] ^= 1
    with c2pa.Reader("application/pdf", io.BytesIO(bytes(damaged))) as reader:
        assert reader.get_validation_state() == "Invalid"


def test_drawn_pages_of_a_comic_include_the_manifest_of_their_image(
    signing: httpx.Client, story: str, signer: Signer
) -> None:
    comic = zipfile.ZipFile(io.BytesIO(export(signing, story, "cbz").content))
    title, one, two, plain = (manifest(comic.read(f"{number:03}.png"), "image/png", signer) for number in range(1, 5))
    assert [each["action"] for each in actions(title)] == ["c2pa.created"], "it shows no image"
    assert actions(title)[0]["digitalSourceType"] not in (MACHINE_MADE, COMPOSITE)
    check_composite(one, pictures=1)
    check_composite(two, pictures=1)
    assert actions(plain)[0]["digitalSourceType"] == MACHINE_MADE, "the image file as it is"


def test_a_long_picture_includes_the_manifests_of_its_images(signing: httpx.Client, story: str, signer: Signer) -> None:
    check_composite(manifest(export(signing, story, "png").content, "image/png", signer), pictures=3)


def test_images_without_a_manifest_are_listed(signing: httpx.Client, client: httpx.Client, signer: Signer) -> None:
    """Those of another installation that does not sign."""
    made = create(client, "one\ntwo")
    draw(client, made["id"])
    drawn(client, made["id"])
    answer = bring(signing, export(client, made["id"], "story").content)
    data = export(signing, answer.json()["id"], "pdf").content
    trust = {"trust": {"user_anchors": signer.root}, "verify": {"verify_trust": True}}
    with c2pa.Reader("application/pdf", io.BytesIO(data), context=c2pa.Context.from_dict(trust)) as reader:
        assert reader.get_validation_state() == "Trusted"
        found = reader.get_active_manifest()
    assert [part["title"] for part in found["ingredients"]] == ["001.png", "002.png"]
    assert not any("active_manifest" in part for part in found["ingredients"])


def test_without_a_key_nothing_is_signed(client: httpx.Client) -> None:
    made = create(client, "one")
    draw(client, made["id"])
    drawn(client, made["id"])
    with pytest.raises(c2pa.C2paError, match="ManifestNotFound"):
        c2pa.Reader("application/pdf", io.BytesIO(export(client, made["id"], "pdf").content))
