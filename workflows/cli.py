"""`realcustom`: one command a stage, each the same as ``python -m workflows.<stage>``.

Stages are imported when they are called: `realcustom --help` needs neither torch nor Ray.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from components.config import presets as known_presets
from workflows import character, key, story
from workflows.entry import launch, one_line_errors, resolve
from workflows.options import Overrides, Preset
from workflows.service import URL, draw

app = typer.Typer(
    help="Subject-driven pictures: prepare data, train an adapter, register it, and generate with a subject.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(key.app, name="key")
app.add_typer(character.app, name="character")
app.add_typer(story.app, name="story")


def _stage(name: str, preset: str, overrides: list[str] | None, **arguments: Any) -> None:
    def run(*args: Any, **kwargs: Any) -> None:
        import_module(f"workflows.{name}").run(*args, **kwargs)

    launch(run, preset, overrides or [], **arguments)


@app.command()
def quickstart(
    preset: Preset = "tiny",
    overrides: Overrides = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service running until interrupted.")] = False,
) -> None:
    """The whole job on one machine: draw, prepare, train, register, serve, create a character, compare."""
    _stage("quickstart", preset, overrides, keep=keep)


@app.command()
def pretrain(preset: Preset = "tiny", overrides: Overrides = None) -> None:
    """Train the miniature base model and its encoders on the toy world."""
    _stage("pretrain", preset, overrides)


@app.command()
def world(preset: Preset = "tiny", overrides: Overrides = None) -> None:
    """Draw the toy world as picture files and JSON lines, like a user's own data."""
    _stage("world", preset, overrides)


@app.command()
def prepare(preset: Preset = "tiny", overrides: Overrides = None) -> None:
    """Turn subject/caption pairs into encoded training shards and a manifest, with Ray Data."""
    _stage("prepare", preset, overrides)


@app.command()
def inspect(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="The directory that `prepare` wrote.")],
) -> None:
    """Say what is in a prepared dataset: counts, buckets, sample captions, and why rows were left out."""
    with one_line_errors():
        import_module("workflows.inspect").run(dataset)


@app.command()
def train(preset: Preset = "tiny", overrides: Overrides = None) -> None:
    """Fit the adapter to prepared shards with Ray Train, and log the run to MLflow."""
    _stage("train", preset, overrides)


@app.command()
def evaluate(preset: Preset = "tiny", overrides: Overrides = None) -> None:
    """Measure subject similarity and text control with encoders that condition nothing."""
    _stage("evaluate", preset, overrides)


@app.command()
def promote(
    version: Annotated[
        int | None, typer.Option(metavar="N", help="The candidate; the newest version if not given.")
    ] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Put the champion's predecessor back.")] = False,
    preset: Preset = "tiny",
    overrides: Overrides = None,
) -> None:
    """Let a version challenge the one that the service loads, and give it its place if it measures better."""
    _stage("promote", preset, overrides, version=version, rollback=rollback)


@app.command()
def generate(
    prompt: Annotated[str | None, typer.Option(help="What the picture shows.")] = None,
    table: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Draw every row of this .jsonl, .csv or .parquet file instead."),
    ] = None,
    reference: Annotated[Path | None, typer.Option(metavar="PATH", help="A picture of the subject.")] = None,
    word: Annotated[
        str | None,
        typer.Option(help="The word of the prompt that stands for the subject; none has it found, or put in."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The PNG to write (picture.png), or a table's folder (pictures)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Where the noise starts: the same seed gives the same picture.")] = 0,
    url: Annotated[
        str | None, typer.Option(envvar=URL, help="Have a running service draw, rather than this machine.")
    ] = None,
    character: Annotated[
        list[str] | None, typer.Option(help="The id or name of a character of that service; up to four times.")
    ] = None,
    preset: Preset = "tiny",
    overrides: Overrides = None,
) -> None:
    """Draw a picture of a prompt, or of every row of a table, with the registered model or by a running service."""
    if table is not None:
        _stage("batch", preset, overrides, table=table, output=output or Path("pictures"))
        return
    if prompt is None:
        raise typer.BadParameter("say what the picture shows, or give a --table", param_hint="--prompt")
    said = {"prompt": prompt, "reference": reference, "word": word, "output": output or Path("picture.png")}
    if url is not None:
        if overrides:
            raise typer.BadParameter("the service has a configuration of its own", param_hint="--set")
        with one_line_errors():
            draw(url, **said, seed=seed, characters=character or [])  # type: ignore[arg-type]
        return
    if character:
        raise typer.BadParameter("characters are a service's: say which with --url", param_hint="--character")
    _stage("generate", preset, overrides, **said, seed=seed)


@app.command()
def serve(
    model: Annotated[
        str | None,
        typer.Option(metavar="URI", help="models:/name@alias or models:/name/version; by default the configured one."),
    ] = None,
    preset: Preset = "tiny",
    overrides: Overrides = None,
) -> None:
    """Serve a registered model on this machine until interrupted."""
    _stage("serve", preset, overrides, model=model)


@app.command()
def convert(
    source: Annotated[Path, typer.Option("--from", metavar="PATH", help="The released .pth or .safetensors file.")],
    target: Annotated[Path, typer.Option("--to", metavar="DIR", help="The adapter directory to write.")],
) -> None:
    """Turn the authors' released weights into an adapter directory, checking every name and shape."""
    with one_line_errors():
        import_module("workflows.convert").run(source, target)


@app.command()
def config(preset: Preset = "tiny", overrides: Overrides = None) -> None:
    """Print the resolved configuration as YAML."""
    import yaml

    tree = resolve(preset, overrides or []).model_dump(mode="json")
    typer.echo(yaml.safe_dump(tree, sort_keys=False), nl=False)


@app.command()
def presets() -> None:
    """List the presets."""
    for name in known_presets():
        typer.echo(name)
