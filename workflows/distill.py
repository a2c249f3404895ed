"""Distil the base model to an LCM-LoRA, which generates in one to eight steps without guidance."""

from __future__ import annotations

from components.config import Config
from components.distillation.run import distill


def run(config: Config) -> None:
    """Distil into ``distillation.output``, and print where the LoRA is and how far it came."""
    result = distill(config)
    first, last = result.distances[min(result.distances)], result.distances[max(result.distances)]
    print(f"{result.lora}: distance of one-step images to the teacher's {first:.3f} before, {last:.3f} after")


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
