"""Write the SDXL family at full size with random weights, for runs of the preset ``sdxl`` without released ones."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from components.pretraining.random_sdxl import save_random_sdxl
from components.world.identities import KINDS
from components.world.places import PLACES
from components.world.scenes import write_caption


def main(
    output: Annotated[Path, typer.Argument(help="Directory to write `base`, `siglip` and `dinov2` into.")],
    seed: Annotated[int, typer.Option(help="Seed of the weights.")] = 0,
) -> None:
    """Write the weights in bfloat16, 9.3 GB, and say how to use them."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    captions = [write_caption(kind, place) for kind in KINDS for place in PLACES]
    layout = save_random_sdxl(output, captions, seed)
    parts = " ".join(f"--set model.{name}={getattr(layout, name)}" for name in ("base", "siglip", "dinov2"))
    print(f"realcustom ... --preset sdxl {parts}")


if __name__ == "__main__":
    typer.run(main)
