"""The config file of `serve deploy`, made from the application itself.

    python -m tools.serve_config --preset sdxl --set serving.generator_gpus=1 > serve.yaml

Like `serve build`, with the builder's arguments in place of a bound application: the deployments with their options,
as they follow from the configuration. The model must be in the registry.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from ray.serve._private.build_app import build_app
from ray.serve.deployment import deployment_to_schema
from ray.serve.schema import ServeDeploySchema

from components.config import DEFAULT_PRESET, load_config, named_preset
from components.errors import RealCustomError
from deploy.app import NAME, REGISTRY, BuildArgs, build

IMPORT_PATH = "deploy.app:build"
_HEADER = """\
# The service with {settings}. From the checkout, against a running cluster: `serve deploy FILE`.
# docs/how-to/deploy.md explains it.
#
# Made by:
#   {command} > FILE
# To change a setting, run this command with other arguments; do not edit the options below, which follow from them.
# For another model give --preset sdxl, or --config FILE with settings of your own.
# Make API keys with `realcustom key create`, with the same serving.store and serving.database (docs/how-to/secure.md).
# On several machines each node needs the code: runtime_env's working_dir takes the URI of a zip of the checkout.
"""


def describe(args: BuildArgs) -> dict[str, Any]:
    """The config file's content for an application that is built with ``args``.

    Raises:
        ConfigError: keys are off, and `serving.access.open_to_network` does not allow it.
        RegistryError: the model, version or alias is unknown.
    """
    limits = load_config(args.preset, args.overrides, args.config).serving
    deployments = build_app(build(args.model_dump()), name=NAME).deployments
    http = {"host": limits.host, "port": limits.port, "request_timeout_s": limits.proxy_timeout_s}
    application = {
        "name": NAME,
        "route_prefix": "/",
        "import_path": IMPORT_PATH,
        "runtime_env": {},
        "args": args.model_dump(exclude_unset=True),
        "deployments": [deployment_to_schema(each).model_dump(mode="json", exclude_unset=True) for each in deployments],
    }
    content = {"proxy_location": "EveryNode", "http_options": http, "applications": [application]}
    ServeDeploySchema.model_validate(content)
    return content


def render(args: BuildArgs) -> str:
    """The config file, with a header that has the command that made it."""
    named = {"preset": args.preset, "config": args.config}
    words = ["python -m tools.serve_config", *(f"--{name} {value}" for name, value in named.items() if value)]
    words += [f"--set {each}" for each in args.overrides]
    command = " \\\n#     ".join([*words, *([f"--model-uri {args.model_uri}"] if args.model_uri else [])])
    settings = " and ".join(f"{name} {value}" for name, value in named.items() if value)
    return _HEADER.format(settings=settings, command=command) + yaml.safe_dump(
        describe(args), sort_keys=False, width=120
    )


def main(
    preset: Annotated[str | None, typer.Option(help="Preset; by default the one that --config names, or tiny.")] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML file of settings; the cluster's head node must have it.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace one configuration key. Repeatable.")
    ] = None,
    model_uri: Annotated[str | None, typer.Option(help="models:/name@alias or models:/name/version")] = None,
    registry: Annotated[str, typer.Option(help="Module that finds the model.")] = REGISTRY,
) -> None:
    """Print the config file of `serve deploy`."""
    file = None if config is None else str(config.absolute())
    given: dict[str, Any] = {"config": file, "overrides": overrides or [], "model_uri": model_uri}
    given |= {} if registry == REGISTRY else {"registry": registry}
    try:
        given["preset"] = named_preset(preset, config) or DEFAULT_PRESET
        typer.echo(render(BuildArgs(**{name: value for name, value in given.items() if value is not None})), nl=False)
    except RealCustomError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    typer.run(main)
