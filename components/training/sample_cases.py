"""The subjects and prompts of sample grids: rows of the dataset, or a folder in the DreamBench layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from components.config import Config
from components.data.sources.dreambench import CLASSES, list_photographs, read_classes, read_prompts
from components.data.sources.read import read_source
from components.data.sources.record import read_text
from components.data.subject_image import CurateSettings, PictureRejected, cut_reference, load_subject
from components.errors import DataError
from components.model.vision import VisionEncoder, VisionFeatures
from components.training.dataset_rows import split_pieces
from components.training.partners import Piece
from components.training.window_reader import load_piece


@dataclass(frozen=True)
class SampleCase:
    """A prompt with its target word, the features of the reference, and what is shown of the reference.

    Args:
        shown: an image, or the scaled latents [4, h, w] of the row's own picture.
    """

    prompt: str
    word: str
    features: VisionFeatures
    shown: Image.Image | Tensor


def sample_cases(config: Config, load_vision: Callable[[], VisionEncoder]) -> list[SampleCase]:
    """The first ``training.sample_columns`` cases. Without a folder, those of the validation split come first.

    Args:
        load_vision: called if references have to be encoded.

    Raises:
        DataError: ``training.sample_references`` is no DreamBench folder.
    """
    training = config.training
    if training.sample_references is None:
        rows = chain.from_iterable(split_pieces(training.dataset, split) for split in ("validation", "train"))
        found = _dataset_rows(rows, load_vision)
    else:
        found = _dreambench(config, training.sample_references, load_vision())
    return list(islice(found, training.sample_columns))


def _dataset_rows(pieces: Iterable[Piece], load_vision: Callable[[], VisionEncoder]) -> Iterator[SampleCase]:
    """One row of every subject, with its own picture as reference."""
    seen, vision = set(), None
    for piece in pieces:
        with pq.ParquetFile(piece.file) as file:
            texts = file.read_row_group(piece.group, columns=["group", "caption", "word"]).to_pylist()
        columns = load_piece(piece)
        for row, text in enumerate(texts):
            if text["group"] in seen:
                continue
            seen.add(text["group"])
            if "cutout" in columns:
                image = Image.fromarray(columns["cutout"][row])
                vision = vision or load_vision()
                yield SampleCase(text["caption"], text["word"], vision.encode_images([image]), image)
                continue
            tensors = {name: torch.from_numpy(values[row : row + 1].copy()) for name, values in columns.items()}
            shallow = tensors["shallow"].unbind(1) if "shallow" in tensors else ()
            features = VisionFeatures(tensors["deep"], tensors["local"], shallow)
            yield SampleCase(text["caption"], text["word"], features, tensors["latents"][0])


def _dreambench(config: Config, folder: Path, vision: VisionEncoder) -> Iterator[SampleCase]:
    """Each subject's first photograph with the prompt of the subject's number."""
    data = config.data.model_copy(update={"format": "dreambench", "source": folder, "columns": {}, "limit": None})
    try:
        source = read_source(data)
        text = read_text(source.store, CLASSES)
        classes, prompts = read_classes(text), read_prompts(text)[0]
        photographs = list_photographs(source.store)
        if not prompts:
            raise DataError(f"{CLASSES} lists no prompts for objects")
    except DataError as error:
        raise DataError(f"training.sample_references: {str(error).removeprefix('data.source: ')}") from None
    settings = CurateSettings.of(config, source.store)
    rows = {row["subject"]["image"]: row["subject"] for row in source.rows}
    for number, (name, own) in enumerate(photographs.items()):
        try:
            loaded = load_subject(rows[own[0]], settings)
        except PictureRejected as refused:
            raise DataError(f"training.sample_references: {own[0]}: {refused.reason}") from None
        image = Image.fromarray(cut_reference(loaded, settings.reference_size).pixels)
        prompt = " ".join(prompts[number % len(prompts)].format("", classes[name]).split())
        yield SampleCase(prompt, classes[name], vision.encode_images([image]), image)
