"""`realcustom`: one command for each stage, the same as ``python -m workflows.<stage>``.

A stage's module is imported when its command runs: `realcustom --help` imports neither torch nor Ray.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from components import __version__
from components.config import presets as known_presets
from workflows import admin, character, database, key, story, webhook
from workflows.entry import launch, log_to_stderr, one_line_errors
from workflows.model_options import CONTROL_HELP, LORA_HELP, read_control, read_loras
from workflows.options import ConfigFile, Overrides, Preset, Settings
from workflows.service import LOCAL, URL, ServiceUrl, generate_image
from workflows.subject_region import BOX_HELP, MASK_HELP, read_box

app = typer.Typer(
    help="Subject-driven image generation: prepare data, train an adapter, register it, and generate with a subject.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(admin.app, name="admin")
app.add_typer(key.app, name="key")
app.add_typer(database.app, name="database")
app.add_typer(character.app, name="character")
app.add_typer(story.app, name="story")
app.add_typer(webhook.app, name="webhook")


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"realcustom {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _stage(name: str, settings: Settings, **arguments: Any) -> None:
    def run(*args: Any, **kwargs: Any) -> None:
        import_module(f"workflows.{name}").run(*args, **kwargs)

    launch(run, settings, **arguments)


@app.command()
def quickstart(
    preset: Preset = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the service running until Ctrl-C.")] = False,
) -> None:
    """Run the whole job on this machine: draw the toy world, prepare, train, register, serve, generate, evaluate."""
    _stage("quickstart", Settings(preset, config_file, overrides), keep=keep)


@app.command()
def pretrain(preset: Preset = None, config_file: ConfigFile = None, overrides: Overrides = None) -> None:
    """Train the miniature base model and its encoders on the toy world."""
    _stage("pretrain", Settings(preset, config_file, overrides))


@app.command()
def world(preset: Preset = None, config_file: ConfigFile = None, overrides: Overrides = None) -> None:
    """Draw the toy world: image files and JSON lines, in the format of a user's own data."""
    _stage("world", Settings(preset, config_file, overrides))


@app.command()
def prepare(preset: Preset = None, config_file: ConfigFile = None, overrides: Overrides = None) -> None:
    """Prepare images with captions as encoded training shards, with Ray Data.

    For a source other than the toy world name a preset: it decides the size of the training images.
    """
    settings = Settings(preset, config_file, overrides)
    with one_line_errors():
        named = settings.names_preset
    _stage("prepare", settings, preset_named=named)


@app.command()
def inspect(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Directory that `prepare` wrote.")],
) -> None:
    """Print what a prepared dataset holds: counts, buckets, sample captions, and why rows were rejected."""
    with one_line_errors():
        import_module("workflows.inspect").run(dataset)


@app.command()
def train(preset: Preset = None, config_file: ConfigFile = None, overrides: Overrides = None) -> None:
    """Train the adapter on a prepared dataset with Ray Train, log the run to MLflow, and register the result.

    Runs on the cluster that the environment variable RAY_ADDRESS names, otherwise on a Ray of its own.
    """
    _stage("train", Settings(preset, config_file, overrides))


@app.command()
def distill(preset: Preset = None, config_file: ConfigFile = None, overrides: Overrides = None) -> None:
    """Distil the base model to an LCM-LoRA that generates in one to eight steps, on images of the toy world."""
    _stage("distill", Settings(preset, config_file, overrides))


@app.command()
def register(
    adapter: Annotated[Path, typer.Option(metavar="DIR", help="Adapter directory: converted, or trained elsewhere.")],
    alias: Annotated[
        str | None, typer.Option(help="Alias to point at the new version, for example champion, which is served.")
    ] = None,
    preset: Preset = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Register an adapter directory as a new version, after checking it against the base model and the encoders."""
    _stage("register", Settings(preset, config_file, overrides), adapter=adapter, alias=alias)


@app.command()
def evaluate(preset: Preset = None, config_file: ConfigFile = None, overrides: Overrides = None) -> None:
    """Measure subject similarity and text control with encoders that do not condition the model."""
    _stage("evaluate", Settings(preset, config_file, overrides))


@app.command()
def promote(
    version: Annotated[
        int | None, typer.Option(metavar="N", help="Version to compare with the champion. Default: the newest.")
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Point the alias back at the champion's predecessor.")
    ] = False,
    preset: Preset = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Compare a version with the champion, and promote it if it passes the gates; exit status 3 if it does not."""
    _stage("promote", Settings(preset, config_file, overrides), version=version, rollback=rollback)


@app.command()
def generate(
    prompt: Annotated[str | None, typer.Option(help="Text that describes the image.")] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Redraw this image instead of generating one from noise.")
    ] = None,
    image_mask: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Image of the size of --image: redraw where it is transparent, no more."),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="Share of the steps that redraw --image. Default: 0.8."),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Generate every row of this .jsonl, .csv or .parquet file instead."),
    ] = None,
    reference: Annotated[Path | None, typer.Option(metavar="PATH", help="Image of the subject.")] = None,
    box: Annotated[str | None, typer.Option(metavar="BOX", help=BOX_HELP)] = None,
    mask: Annotated[Path | None, typer.Option(metavar="PATH", help=MASK_HELP.replace(", or none", ""))] = None,
    word: Annotated[
        str | None,
        typer.Option(help="Word that names the subject. Omit it to detect or insert one."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="File to write (default: picture.png), or the folder of a table (default: pictures)."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise: the same seed gives the same image.")] = 0,
    sampler: Annotated[
        str | None, typer.Option(help="Sampler, such as euler_a or dpmpp_2m_karras. Default: the model's own.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps. Default: as configured.")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(min=1, help="Weight of the prompt; 1 is none. Default: as configured.")
    ] = None,
    lora: Annotated[list[str] | None, typer.Option(metavar="NAME=WEIGHT", help=LORA_HELP)] = None,
    control: Annotated[str | None, typer.Option(metavar="NAME=PICTURE", help=CONTROL_HELP)] = None,
    control_scale: Annotated[float, typer.Option(min=0, max=2, help="Factor of the influence of --control.")] = 1.0,
    control_start: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the steps after which --control acts.")
    ] = 0.0,
    control_end: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the steps after which it acts no more.")
    ] = 1.0,
    url: Annotated[
        str | None, typer.Option(envvar=URL, help="Generate with the running service at this URL, not on this machine.")
    ] = None,
    character: Annotated[
        list[str] | None,
        typer.Option(help="Id or name of a character of that service. Repeatable, up to four times."),
    ] = None,
    preset: Preset = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Generate an image from a prompt, or from every row of a table, with the registered model or a running service."""
    settings = Settings(preset, config_file, overrides)
    if table is not None:
        _stage("batch", settings, table=table, output=output or Path("pictures"))
        return
    if prompt is None:
        raise typer.BadParameter("give a prompt, or a --table", param_hint="--prompt")
    if reference is None and (box is not None or mask is not None):
        raise typer.BadParameter(
            "it says where the subject of the --reference is: give one", param_hint="--box, --mask"
        )
    if image is None and (image_mask is not None or strength is not None):
        raise typer.BadParameter("it says how --image is redrawn: give one", param_hint="--image-mask, --strength")
    with one_line_errors():
        region = {"box": None if box is None else read_box(box), "mask": mask}
        loras, controlled = read_loras(lora), read_control(control, control_scale, control_start, control_end)
    request = {
        "prompt": prompt,
        "reference": reference,
        "word": word,
        "output": output or Path("picture.png"),
        **region,
        "image": image,
        "image_mask": image_mask,
        "strength": 0.8 if strength is None else strength,
        "sampler": sampler,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "loras": loras,
        "control": controlled,
    }
    if url is not None:
        if overrides or config_file:
            raise typer.BadParameter(
                "the service has its own configuration", param_hint="--set" if overrides else "--config"
            )
        with one_line_errors():
            generate_image(url, **request, seed=seed, characters=character or [])  # type: ignore[arg-type]
        return
    if character:
        raise typer.BadParameter("characters belong to a service: give its --url", param_hint="--character")
    _stage("generate", settings, **request, seed=seed)


@app.command()
def serve(
    model: Annotated[
        str | None,
        typer.Option(metavar="URI", help="models:/name@alias or models:/name/version. Default: as configured."),
    ] = None,
    preset: Preset = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Serve a registered model on this machine until Ctrl-C."""
    _stage("serve", Settings(preset, config_file, overrides), model=model)


@app.command()
def studio(
    model: Annotated[
        str | None,
        typer.Option(metavar="URI", help="models:/name@alias or models:/name/version. Default: as configured."),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the studio in this machine's browser.")] = True,
    preset: Preset = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Serve a registered model on this machine and open the studio in a browser, until Ctrl-C."""
    _stage("studio", Settings(preset, config_file, overrides), model=model, browser=browser)


@app.command()
def convert(
    source: Annotated[Path, typer.Option("--from", metavar="PATH", help="Released .pth or .safetensors file.")],
    target: Annotated[Path, typer.Option("--to", metavar="DIR", help="Adapter directory to write.")],
) -> None:
    """Convert the authors' released weights to an adapter directory, checking every name and shape."""
    with one_line_errors():
        import_module("workflows.convert").run(source, target)


@app.command()
def rehearse(
    preset: Annotated[str, typer.Option(help="Preset whose models are rehearsed; sdxl is made with random weights.")],
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Directory of the rehearsal: data, runs and reports.")
    ] = Path("runs/rehearsal"),
    weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory of the random weights. Default: below --output.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="STAGE", help="Run only this stage. Repeatable.")] = None,
    overrides: Overrides = None,
) -> None:
    """Take a preset through all commands on a Ray of its own, and report seconds and memory of each stage.

    Stages that this commit has finished are not run again.
    """
    with one_line_errors():
        log_to_stderr()
        import_module("workflows.rehearse").run(preset, output, weights, overrides or [], only or [])


@app.command()
def usage(
    url: ServiceUrl = LOCAL,
    days: Annotated[int, typer.Option(min=1, max=366, help="Number of days, up to today.")] = 30,
) -> None:
    """Show what the owner of the API key has used by day, and what is stored, at a running service."""
    with one_line_errors():
        import_module("workflows.service_usage").show(url, days)


@app.command()
def config(preset: Preset = None, config_file: ConfigFile = None, overrides: Overrides = None) -> None:
    """Print the resolved configuration as YAML, which --config reads."""
    import yaml

    with one_line_errors():
        tree = Settings(preset, config_file, overrides).load().model_dump(mode="json")
    typer.echo(yaml.safe_dump(tree, sort_keys=False), nl=False)


@app.command()
def presets() -> None:
    """List the presets."""
    for name in known_presets():
        typer.echo(name)
