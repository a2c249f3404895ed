"""Draw one picture with the registered model, with or without a subject."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from components.config import Config
from components.data.picture import decode_picture
from components.data.region import subject_mask
from components.errors import DataError, WordError
from components.pictures import cut_out
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
    picture = None if reference is None else _read(reference, config.data.max_pixels)
    pipeline = versions.load_pipeline(config, f"models:/{config.registry.model}@{config.registry.alias}")
    tokens = None
    if picture is not None:
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


def _read(reference: Path, max_pixels: int) -> Image.Image:
    try:
        return decode_picture(reference.read_bytes(), max_pixels)
    except OSError:
        raise DataError(f"reference {reference} cannot be read: give the path of a picture") from None
    except DataError as error:
        raise DataError(f"reference {reference}: {error}") from None


if __name__ == "__main__":
    from workflows.entry import main

    main(run)
