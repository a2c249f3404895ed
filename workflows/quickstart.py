"""The main job end to end: toy pictures, prepared data, a trained and registered adapter, a served character.

Every stage returns at once if its result is already there, so an interrupted run goes on and a second one is quick.
"""

from __future__ import annotations

import base64
import io
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import ray
from PIL import Image
from rich.console import Console

from components.cluster import connect
from components.config import Config
from components.errors import ConfigError
from components.evaluation.toybench import Case, cases, score_subjects
from components.judges.judge import Judge
from components.pictures import rows_of_pictures
from components.registry import promotion, versions
from components.registry.tracker import MlflowTracker
from components.training.launch import train, training_fingerprint
from components.world.write import write_world
from workflows.evaluate import scores_table
from workflows.prepare import prepare_and_log

logger = logging.getLogger(__name__)
console = Console()


@dataclass(frozen=True)
class Shown:
    """What the service drew for one case."""

    reference: Image.Image
    stock: Image.Image
    ours: Image.Image
    mask: Image.Image


def run(config: Config, keep: bool = False) -> None:
    """Run all stages; with ``keep`` the service stays up until interrupted."""
    from deploy import app

    if config.evaluation.encoders is None:
        raise ConfigError("quickstart needs evaluation.encoders: use the tiny preset or name a directory")
    began = time.monotonic()
    connect(config.training.workers * config.training.cpus_per_worker + 2)
    try:
        with _stage("1/6 draw subjects and captions"):
            write_world(config.world, config.seed)
        with _stage("2/6 prepare shards with Ray Data"):
            prepare_and_log(config)
        with _stage("3/6 train the adapter with Ray Train"):
            version = _trained(config)
        with _stage(f"4/6 register {version.uri} as @{config.registry.alias}"):
            promotion.appoint(config, version, "the quickstart shows the version that it trained")
        uri = f"models:/{config.registry.model}@{config.registry.alias}"
        with _stage(f"5/6 serve {uri}, create characters and generate over HTTP"):
            url = app.start(config, uri)
            chosen = cases(config.quickstart.showcase, config.seed + 1, config)
            with httpx.Client(base_url=url, timeout=config.serving.request_timeout_s) as client:
                shown = [_show(client, config, case) for case in chosen]
            picture = _save(config, chosen, shown)
        if not keep:
            app.stop()
        with _stage("6/6 score unseen identities"):
            pipeline = versions.load_pipeline(config, uri)
            judge = Judge(config.evaluation.encoders, config.vision.view_size)
            scores = score_subjects(pipeline, judge, config, config.quickstart.scored, config.evaluation.seed)
        console.print(scores_table(scores))
        console.print(f"picture: {picture}   total: {time.monotonic() - began:.0f} s")
        if keep:
            console.print(f"serving at {url} until you press Ctrl-C")
            while True:
                time.sleep(1)
    except KeyboardInterrupt:
        console.print("interrupted; run it again to go on from here")
    finally:
        app.stop()
        ray.shutdown()


def _trained(config: Config) -> versions.ModelVersion:
    """The version of this training: found in the registry, or trained and registered now."""
    fingerprint = training_fingerprint(config)
    found = versions.find_by_tag(config, "fingerprint", fingerprint)
    if found is not None:
        logger.info("version %s was trained from the same data and settings", found.version)
        return found
    tracker = MlflowTracker(config)
    trained = train(config, tracker)
    return versions.register(config, trained.adapter, trained.run_id, {"fingerprint": fingerprint}, tracker.store)


def _show(client: httpx.Client, config: Config, case: Case) -> Shown:
    """Create a character from an unseen identity, then draw its prompt without and with it."""
    created = client.post(
        "/v1/characters",
        files={"pictures": ("reference.png", _png(case.reference), "image/png")},
        data={"name": case.identity.kind, "target_word": case.identity.kind},
    )
    created.raise_for_status()
    character = created.json()["id"]
    request = {
        "prompt": case.wanted.prompt,
        "seed": case.seed,
        "size": f"{config.sampling.width}x{config.sampling.height}",
    }
    stock = client.post("/v1/images/generations", json=request)
    stock.raise_for_status()
    ours = client.post(
        "/v1/images/generations", json=request | {"characters": [{"id": character}], "return_masks": True}
    )
    ours.raise_for_status()
    drawn = ours.json()["data"][0]
    return Shown(
        case.reference,
        _picture(stock.json()["data"][0]["b64_json"]),
        _picture(drawn["b64_json"]),
        _picture(drawn["masks_b64_json"][0]),
    )


def _save(config: Config, chosen: list[Case], shown: list[Shown]) -> Path:
    sheet = rows_of_pictures(
        [[s.reference for s in shown], [s.stock for s in shown], [s.ours for s in shown], [s.mask for s in shown]],
        labels=["reference", "without the character", "with the character", "influence mask"],
        captions=[case.wanted.prompt for case in chosen],
    )
    path = config.quickstart.output / "quickstart.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    sheet.save(partial, format="PNG")
    partial.replace(path)
    return path


class _stage:
    """Says that a stage begins, and how long it took."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        console.print(f"[bold]{self.name}[/bold]")
        self.began = time.monotonic()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            console.print(f"   {time.monotonic() - self.began:.0f} s")


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _picture(encoded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
