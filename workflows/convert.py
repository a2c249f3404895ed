"""Convert the authors' released weights to an adapter directory."""

from __future__ import annotations

from pathlib import Path

from components.model.official import convert


def run(source: Path, target: Path) -> None:
    """Check every parameter of ``source`` by name and shape, and write the adapter to ``target``."""
    adapter = convert(source, target)
    count = sum(parameter.numel() for parameter in adapter.parameters())
    tensors = len(adapter.official_state_dict())
    print(f"{target}: {adapter.config.projector} adapter, {tensors} tensors, {count / 1e6:.1f} M parameters")


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
