"""Where images come from, and how training shards are prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from components.config.section import Place, Section


class WorldConfig(Section):
    """The procedural toy world that `world` draws: number of identities, images of each, and where they are written."""

    identities: int = Field(400, ge=2, le=10_000)
    """Number of different subjects."""
    pictures_per_identity: int = Field(4, ge=2)
    """Images of each subject; at least two, so that each has another view as its reference."""
    picture_size: int = Field(128, ge=64)
    """Side of the images in pixels."""
    split: Literal["train", "held_out"] = "train"
    """Set of identities to draw from: those of training, or those that no training run may see."""
    output: Path = Path("runs/raw")
    """Directory that receives the images and `pairs.jsonl`."""


class DataConfig(Section):
    """What `prepare` reads and writes."""

    format: Literal["jsonl", "csv", "folder", "parquet", "webdataset", "dreambench", "datasets", "world"] = "jsonl"
    """Layout of `source`; docs/how-to/prepare_data.md describes each."""
    source: Place = Path("runs/raw")
    """Dataset to read: a file, a folder, or a URL of a filesystem that fsspec knows, such as ``s3://bucket/pairs``."""
    columns: dict[str, str] = {}
    """Names that the source uses for fields of the schema, for example ``{caption: text}``; ``""`` ignores a field."""
    limit: int | None = Field(None, ge=1)
    """Read only the first so many rows of the source, for a trial run; by default all."""
    max_rejected: float = Field(0.2, ge=0, le=1)
    """Share of rejected rows, near-duplicates aside, beyond which `prepare` fails and names the reasons."""
    output: Path = Path("runs/prepared")
    """Directory of the prepared dataset."""
    image_size: int = Field(1024, multiple_of=8)
    """Side of the square training image in pixels (reference cut-outs are twice `vision.view_size`)."""
    max_aspect: float = Field(1.0, ge=1, le=8)
    """Maximum aspect ratio of the buckets, each of about the area of the square; 1 crops every image to a square."""
    bucket_step: int = Field(64, ge=8, multiple_of=8)
    """Sides of the buckets are multiples of this many pixels."""
    region: Literal["grabcut", "rembg"] = "grabcut"
    """Segmentation of subjects without a mask or an alpha channel: OpenCV's GrabCut, or rembg (extra ``rembg``)."""
    find_faces: bool = False
    """Detect faces in images that have no `head_box` (needs the extra ``faces``)."""
    encode: Literal["all", "latents", "text"] = "all"
    """What `prepare` encodes, and what training does: ``all``; ``latents`` and text, and references in training; or
    ``text`` only, and images and references in training."""
    validation_share: float = Field(0.05, ge=0, lt=1)
    """Share of subjects (groups) that go to the validation split."""
    rows_per_shard: int = Field(256, ge=1)
    """Maximum rows of a unit of work: it is read, encoded, written and, after a failure, repeated as a whole."""
    batch_size: int = Field(32, ge=1)
    """Images that an encoder process encodes at a time."""
    encoders: int = Field(1, ge=1)
    """Maximum number of processes that encode at the same time, with one GPU each where the cluster has GPUs."""
    curators: int | None = Field(None, ge=1)
    """Maximum number of processes that read and crop images; by default the CPUs that the encoders leave."""
    in_flight_gb: float = Field(0.25, gt=0)
    """Gigabytes of decoded images that may wait for each encoder process."""
    duplicates: Literal["reject", "keep"] = "reject"
    """Reject images that nearly equal an earlier one, or keep them."""
    on_encoder_change: Literal["refuse", "reencode"] = "refuse"
    """What to do if `output` holds this source encoded by other encoders: fail, or encode it again."""
    max_bytes: int = Field(50_000_000, ge=1)
    """Maximum size of an image file in bytes; a larger one is rejected."""
    max_pixels: int = Field(50_000_000, ge=1, le=178_956_970)
    """Maximum number of pixels of an image; a larger one is rejected before it is decoded."""
    size_conditioning: Literal["original", "target"] = "original"
    """SDXL's size conditioning of a row: the ``original`` size and crop, or the ``target`` size without a crop, for a
    base model that was trained on one size."""
