"""Draw one picture with the registered model, with or without a subject."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError

from components.config import Config
from components.data.cutout import cut_out
from components.data.region import subject_mask
from components.errors import DataError, WordError
from components.registry import versions


def run(
    config: Config,
    prompt: str,
    reference: Path | None = None,
    word: str | None = None,
    output: Path = Path("picture.png"),
    seed: int = 0,
) -> None:
    """Draw ``prompt`` into ``output``, with the subject of ``reference`` where ``word`` stands."""
    if (reference is None) != (word is None):
        raise WordError("reference and word go together: give a picture and the word of the prompt it stands for")
    pipeline = versions.load_pipeline(config, f"models:/{config.registry.model}@{config.registry.alias}")
    tokens = None
    if reference is not None:
        try:
            picture = Image.open(reference).convert("RGB")
        except (OSError, UnidentifiedImageError):
            raise DataError(f"reference {reference} is not a readable picture") from None
        tokens = pipeline.encode_subject([cut_out(picture, subject_mask(picture), pipeline.reference_size)])
    sampling = config.sampling
    drawn = pipeline(
        prompt,
        subject_tokens=tokens,
        target_word=word,
        num_inference_steps=sampling.steps,
        guidance_scale=sampling.guidance_scale,
        height=sampling.height,
        width=sampling.width,
        generator=torch.Generator().manual_seed(seed),
    )
    partial = output.with_name(f".{output.name}.partial")
    drawn.images[0].save(partial, format="PNG")
    partial.replace(output)
    print(f"wrote {output}")


if __name__ == "__main__":
    from workflows.entry import main

    main(run)
