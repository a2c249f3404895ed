"""Train the miniature on the toy world, part by part, measure it, and write its model card."""

from __future__ import annotations

from components.config import Config, load_config
from components.pretraining.run import measure, pretrain, write_card


def run(config: Config) -> None:
    """Train into ``pretraining.output``, and print the text control of the base model."""
    layout = pretrain(config)
    parts = {"base": layout.base, "siglip": layout.siglip, "dinov2": layout.dinov2}
    made = load_config(
        config.preset,
        [
            *(f"model.{k}={v.absolute()}" for k, v in parts.items()),
            f"evaluation.encoders={layout.evaluation.absolute()}",
        ],
    )
    quality = measure(made, layout.root / "samples.png")
    write_card(config, layout, quality)
    print(f"{layout.root}: kind {quality.kind}, place {quality.place}, position {quality.position}")


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
