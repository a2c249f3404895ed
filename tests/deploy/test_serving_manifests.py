"""C2PA manifests: images are signed, their claims can be read, and a changed image is detected."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from components.config import Config, ServingConfig, for_workers, load_config
from components.errors import ConfigError
from components.provenance.image_files import MACHINE_MADE, GenerationParameters, ModelName, Output
from components.provenance.manifests import picture_writer
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from tests.deploy.test_serving_api import client_of, generate
from tests.fakes.pipeline import FakePipeline
from tests.fixtures.certificates import Signer, make_signer

c2pa = pytest.importorskip("c2pa")
MODEL = ModelName("realcustom-tiny", "7")
PARAMETERS = GenerationParameters(5, ("robot",), 4, 3.5, None, "a secret robot")


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return make_signer(tmp_path)


@pytest.fixture
def config(tmp_path: Path, signer: Signer) -> Config:
    keys = [f"serving.c2pa.certificates={signer.certificates}", f"serving.c2pa.key={signer.key}"]
    return load_config("tiny", [f"serving.store={tmp_path}/characters", *keys])


def read(picture: bytes, signer: Signer | None = None) -> Any:
    """What a picture's reader says who trusts the signer's authority; without one, nobody."""
    trust = {} if signer is None else {"trust": {"user_anchors": signer.root}, "verify": {"verify_trust": True}}
    return c2pa.Reader(None, io.BytesIO(picture), context=c2pa.Context.from_dict(trust))


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_signed_picture_says_that_a_model_made_it_and_which(config: Config, signer: Signer, kind: Any) -> None:
    write = picture_writer(config.serving, MODEL)
    signed = write(Image.new("RGB", (64, 64), "red"), Output(kind, 90), PARAMETERS)
    assert Image.open(io.BytesIO(signed)).format == kind.upper()
    with read(signed, signer) as reader:
        assert reader.get_validation_state() == "Trusted"
        manifest = reader.get_active_manifest()
    assert "secret" not in str(manifest)
    assert manifest["claim_generator_info"][0]["name"] == "RealCustom Studio"
    (actions,) = manifest["assertions"]
    (created,) = actions["data"]["actions"]
    assert (created["action"], created["digitalSourceType"]) == ("c2pa.created", MACHINE_MADE)
    assert created["softwareAgent"]["name"] == "RealCustom Studio"
    assert created["parameters"] == {"model": "realcustom-tiny", "model_version": "7"}
    with read(signed) as unknown:
        assert unknown.get_validation_state() == "Valid", "a valid signature of an unknown signer"


def test_changed_pixels_are_found_out(config: Config, signer: Signer) -> None:
    write = picture_writer(config.serving, MODEL)
    signed = bytearray(write(Image.effect_noise((64, 64), 50).convert("RGB"), Output("jpeg", 90), PARAMETERS))
    signed[-40] ^= 1
    with read(bytes(signed), signer) as reader:
        assert reader.get_validation_state() == "Invalid"
        failures = {failure["code"] for failure in reader.get_validation_results()["activeManifest"]["failure"]}
    assert "assertion.dataHash.mismatch" in failures


def test_pictures_are_signed_from_several_threads(config: Config, signer: Signer) -> None:
    write = picture_writer(config.serving, MODEL)

    def state(color: str) -> str:
        with read(write(Image.new("RGB", (32, 32), color), Output(), PARAMETERS), signer) as reader:
            return str(reader.get_validation_state())

    with ThreadPoolExecutor(4) as executor:
        assert set(executor.map(state, ["red", "green", "blue", "white"] * 5)) == {"Trusted"}


def test_pictures_over_http_are_signed(config: Config, signer: Signer) -> None:
    characters = CharacterService(config)
    write = picture_writer(config.serving, MODEL)
    client = client_of(config, characters, GenerationService(FakePipeline(), characters, write=write))
    drawn = generate(client, n=2, output_format="webp").json()["data"]
    for each in drawn:
        with read(base64.b64decode(each["b64_json"]), signer) as reader:
            assert reader.get_validation_state() == "Trusted"


def test_without_a_key_nothing_is_signed() -> None:
    plain = picture_writer(ServingConfig(), MODEL)(Image.new("RGB", (16, 16)), Output(), PARAMETERS)
    with pytest.raises(c2pa.C2paError, match="ManifestNotFound"):
        read(plain)


def test_what_cannot_sign_is_refused_at_the_start(config: Config, signer: Signer, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_signer(tmp_path / "other")
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for wrong in ({"key": other.key}, {"key": empty}, {"certificates": empty}, {"key": tmp_path / "missing.pem"}):
        keys = config.serving.c2pa.model_copy(update=wrong)
        with pytest.raises(ConfigError, match=r"serving\.c2pa"):
            picture_writer(config.serving.model_copy(update={"c2pa": keys}), MODEL)


def test_workers_find_the_keys(config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config("tiny", ["serving.c2pa.certificates=chain.pem", "serving.c2pa.key=key.pem"])
    keys = for_workers(config).serving.c2pa
    assert (keys.certificates, keys.key) == (tmp_path / "chain.pem", tmp_path / "key.pem")
