"""The main job end to end: toy images, prepared data, a trained and registered adapter, a served character.

A stage whose result exists returns at once: an interrupted run continues, and a second run is quick.
"""

from __future__ import annotations

import io
import logging
import shutil
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray
from PIL import Image
from rich.console import Console

from components.client import Client
from components.client.fields import Options
from components.cluster import connect
from components.config import Config
from components.errors import ConfigError
from components.evaluation.toybench import Case, cases, score_subjects
from components.files import replacing_file
from components.judges.judge import Judge
from components.pictures import rows_of_pictures, to_png
from components.registry import promotion, versions
from components.registry.tracker import MlflowTracker
from components.terminal import output_in_log
from components.training.launch import train, training_fingerprint
from components.world.write import write_world
from workflows.evaluate import scores_table
from workflows.example_story import make_example
from workflows.prepare import prepare_and_log

logger = logging.getLogger(__name__)
#: Name of the file in `quickstart.output` that the libraries' output goes to.
_LOG = "quickstart.log"


@dataclass(frozen=True)
class Shown:
    """What the service generated for one case."""

    reference: Image.Image
    stock: Image.Image
    ours: Image.Image
    mask: Image.Image


def run(config: Config, keep: bool = False) -> None:
    """Run all stages; with ``keep`` the service stays up until Ctrl-C.

    What Ray, Serve and the other libraries print goes to ``quickstart.log`` in `quickstart.output`.
    """
    encoders = config.evaluation.encoders
    if encoders is None:
        raise ConfigError("quickstart needs evaluation.encoders: use the tiny preset or name a directory")
    if Path(config.data.source).absolute() != config.world.output.absolute():
        raise ConfigError(
            f"data.source {config.data.source} is not world.output: the quickstart runs on the toy world; prepare data "
            "of your own with `realcustom prepare`"
        )
    log = config.quickstart.output / _LOG
    with output_in_log(log) as terminal:
        console = Console(file=terminal.out)
        try:
            _run(config, encoders, keep, console)
        except KeyboardInterrupt:
            console.print("interrupted; run it again to continue from here")
        except Exception:
            console.print(f"failed; the output of Ray and Serve is in {log}", soft_wrap=True)
            raise


def _run(config: Config, encoders: str, keep: bool, console: Console) -> None:
    from deploy import app

    began = time.monotonic()
    connect(config.training.workers * config.training.cpus_per_worker + 2)
    try:
        with _stage(console, "1/6 draw subjects and captions"):
            write_world(config.world, config.seed)
        with _stage(console, "2/6 prepare shards with Ray Data"):
            prepare_and_log(config)
        with _stage(console, "3/6 train the adapter with Ray Train"):
            version = _trained(config)
        with _stage(console, f"4/6 register {version.uri} as @{config.registry.alias}"):
            promotion.appoint(config, version, "the quickstart shows the version that it trained")
        uri = f"models:/{config.registry.model}@{config.registry.alias}"
        with _stage(console, f"5/6 serve {uri}, create characters and generate over HTTP"):
            url = app.start(config, uri)
            chosen = cases(config.quickstart.showcase, config.seed + 1, config)
            with Client(url) as client:
                shown = [_show(client, config, case) for case in chosen]
                make_example(client, config)
            picture = _save(config, chosen, shown)
        if not keep:
            app.stop()
        with _stage(console, "6/6 score unseen identities"):
            pipeline = versions.load_pipeline(config, uri)
            judge = Judge(encoders, config.vision.view_size)
            scores = score_subjects(pipeline, judge, config, config.quickstart.scored, config.evaluation.seed)
        console.print(scores_table(scores))
        for line in _ending(config, picture, time.monotonic() - began, keep):
            console.print(line, soft_wrap=True)
        if keep:
            console.print(f"serving at {url}, the studio at {url}/studio/, until you press Ctrl-C", soft_wrap=True)
            while True:
                time.sleep(1)
    finally:
        app.stop()
        ray.shutdown()


def _ending(config: Config, picture: Path, seconds: float, keep: bool) -> list[str]:
    """Where the results are, and how to go on."""
    lines = [
        f"image: {picture}   total: {seconds:.0f} s",
        f"output of Ray and Serve: {config.quickstart.output / _LOG}",
    ]
    if shutil.which("realcustom") is None:
        scripts = Path(sysconfig.get_path("scripts"))
        scripts = scripts.relative_to(Path.cwd()) if scripts.is_relative_to(Path.cwd()) else scripts
        lines += [
            f"next: `source {scripts / 'activate'}`, then `realcustom --help` (or {scripts / 'realcustom'} --help)"
        ]
    else:
        lines += ["next: `realcustom --help`"]
    if keep:
        return lines
    lines += ["`realcustom studio` opens the example story in a browser"]
    return [*lines, "`realcustom quickstart --keep` leaves the service running at the end"]


def _trained(config: Config) -> versions.ModelVersion:
    """The version of this training: found in the registry, or trained and registered now."""
    fingerprint = training_fingerprint(config)
    found = versions.find_by_tag(config, "fingerprint", fingerprint)
    if found is not None:
        logger.info("version %s was trained from the same data and settings", found.version)
        return found
    tracker = MlflowTracker(config)
    trained = train(config, tracker)
    adapter = trained.best or trained.adapter
    return versions.register(config, adapter, trained.run_id, {"fingerprint": fingerprint}, tracker.store)


def _show(client: Client, config: Config, case: Case) -> Shown:
    """Create a character from an unseen identity, then generate its prompt without and with it."""
    kind = case.identity.kind
    character = client.characters.create(kind, to_png(case.reference), target_word=kind)
    asked: Options = {"seed": case.seed, "size": f"{config.sampling.width}x{config.sampling.height}"}
    [stock] = client.generate(case.wanted.prompt, **asked)
    [ours] = client.generate(case.wanted.prompt, [character], **asked | {"return_masks": True})
    return Shown(case.reference, _image(stock.data), _image(ours.data), _image(ours.masks[0]))


def _save(config: Config, chosen: list[Case], shown: list[Shown]) -> Path:
    sheet = rows_of_pictures(
        [[s.reference for s in shown], [s.stock for s in shown], [s.ours for s in shown], [s.mask for s in shown]],
        labels=["reference", "without the character", "with the character", "influence mask"],
        captions=[case.wanted.prompt for case in chosen],
    )
    path = config.quickstart.output / "quickstart.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(path) as partial:
        sheet.save(partial, format="PNG")
    return path


@contextmanager
def _stage(console: Console, name: str) -> Iterator[None]:
    """Print that a stage begins, and how long it took."""
    console.print(f"[bold]{name}[/bold]", soft_wrap=True)
    began = time.monotonic()
    yield
    console.print(f"   {time.monotonic() - began:.0f} s")


def _image(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
