"""Where pictures come from, and what training shards are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from components.config.section import Place, Section


class WorldConfig(Section):
    """The embedded data source: how many identities to draw, and how often each."""

    identities: int = Field(400, ge=2, le=10_000)
    pictures_per_identity: int = Field(4, ge=2)
    picture_size: int = Field(128, ge=64)
    split: Literal["train", "held_out"] = "train"
    output: Path = Path("runs/raw")


class DataConfig(Section):
    """What `prepare` reads and writes."""

    #: What `source` holds; docs/how-to/prepare_data.md describes each.
    format: Literal["jsonl", "csv", "folder", "parquet", "webdataset", "dreambench", "datasets", "world"] = "jsonl"
    source: Place = Path("runs/raw")
    #: Names that the source has for the schema's fields, for example ``{caption: text}``; "" leaves a field out.
    columns: dict[str, str] = {}
    output: Path = Path("runs/prepared")
    #: Side of the training pictures in pixels (reference cut-outs are twice `vision.view_size`).
    image_size: int = Field(1024, multiple_of=8)
    #: Training pictures keep shapes up to this aspect ratio, in buckets about as large as the square; 1 leaves squares.
    max_aspect: float = Field(1.0, ge=1, le=8)
    #: Sides of the buckets are multiples of so many pixels.
    bucket_step: int = Field(64, ge=8, multiple_of=8)
    #: What finds a subject that has neither mask nor alpha channel: GrabCut, or rembg's networks (extra ``rembg``).
    region: Literal["grabcut", "rembg"] = "grabcut"
    #: Find faces in pictures that come without a head box (needs the extra ``faces``).
    find_faces: bool = False
    #: What is encoded now: ``all``, or ``text`` alone, and pictures and references in every step of the training.
    encode: Literal["all", "text"] = "all"
    validation_share: float = Field(0.05, ge=0, lt=1)
    rows_per_shard: int = Field(256, ge=1)
    batch_size: int = Field(32, ge=1)
    #: Most processes that encode at the same time, and most that read and cut pictures (none given: all other cores).
    encoders: int = Field(1, ge=1)
    curators: int | None = Field(None, ge=1)
    #: Gigabytes of pictures that may wait for each process that encodes.
    in_flight_gb: float = Field(0.25, gt=0)
    #: Leave out pictures that nearly equal an earlier one, or keep them.
    duplicates: Literal["reject", "keep"] = "reject"
    #: What to do when `output` holds this source as other encoders encoded it.
    on_encoder_change: Literal["refuse", "reencode"] = "refuse"
    #: Largest picture file in bytes, and largest picture in pixels.
    max_bytes: int = Field(50_000_000, ge=1)
    max_pixels: int = Field(50_000_000, ge=1, le=178_956_970)
    #: Size conditioning of a row: its ``original`` size and crop, as SDXL was taught them, or the ``target`` size
    #: without a crop, for a base that was trained on one size only.
    size_conditioning: Literal["original", "target"] = "original"
