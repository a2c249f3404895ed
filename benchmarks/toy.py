"""Common set-up of benchmarks of the trained miniature: options, pipeline and judge."""

from __future__ import annotations

import argparse

from components.config import Config, load_config
from components.judges.judge import Judge
from components.model.pipeline import RealCustomPipeline
from components.progress import quiet_libraries


def toy_parser(description: str | None, subjects: int, seed: int) -> argparse.ArgumentParser:
    """The common options, with the default number of unseen identities and seed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--adapter", help="adapter directory in place of the preset's")
    parser.add_argument("--subjects", type=int, default=subjects, help="unseen identities")
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="configuration override")
    return parser


def load_toy(arguments: argparse.Namespace) -> tuple[Config, RealCustomPipeline, Judge]:
    """The miniature of ``arguments``, and its judge."""
    quiet_libraries()
    config = load_config("tiny", arguments.set)
    assert config.evaluation.encoders is not None
    pipeline = RealCustomPipeline.from_config(config, adapter=arguments.adapter)
    return config, pipeline, Judge(config.evaluation.encoders, config.vision.view_size)
