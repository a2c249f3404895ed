"""Processing of a subject's picture: reading, validation, cropping to a training image, cutting out a reference."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.config import Config
from components.cut_outs import clip_mask, cut_out_with_face
from components.data.aspect_buckets import Bucket, buckets, choose_bucket
from components.data.crop import crop_to
from components.data.decode import decode_mask, decode_with_alpha
from components.data.duplicates import picture_hash
from components.data.region import find_mask
from components.data.schema import AnnotatedSubject, Box
from components.data.source_files import SourceFiles
from components.errors import DataError
from components.face_detector import FaceDetector

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class CurateSettings:
    """``buckets`` of training images, ``reference_size`` of cut-outs in pixels, and limits of source pictures."""

    store: SourceFiles
    buckets: tuple[Bucket, ...]
    reference_size: int
    max_bytes: int
    max_pixels: int
    size_conditioning: Literal["original", "target"]
    region: Literal["grabcut", "rembg"] = "grabcut"
    find_faces: bool = False

    @classmethod
    def of(cls, config: Config, store: SourceFiles) -> CurateSettings:
        data = config.data
        return cls(
            store=store,
            buckets=buckets(data.image_size, data.bucket_step, data.max_aspect),
            reference_size=2 * config.vision.view_size,
            max_bytes=data.max_bytes,
            max_pixels=data.max_pixels,
            size_conditioning=data.size_conditioning,
            region=data.region,
            find_faces=data.find_faces,
        )

    def facts(self) -> dict[str, Any]:
        """The settings that the result depends on: all but the store."""
        return {name: value for name, value in asdict(self).items() if name != "store"}


class TrainingView(NamedTuple):
    """A training image of its ``bucket``: picture uint8 [h, w, 3], mask uint8 [h, w], head likewise or None.

    ``size`` (width, height) and ``picture_hash`` refer to the whole picture; for ``time_ids`` see `Crop`.
    """

    bucket: Bucket
    size: tuple[int, int]
    picture_hash: str
    time_ids: tuple[int, ...]
    picture: Pixels
    mask: Pixels
    head: Pixels | None


class ReferenceCutOut(NamedTuple):
    """A subject on white, uint8 [r, r, 3], and the box of its face in these pixels, if one is known."""

    pixels: Pixels
    face_box: tuple[float, float, float, float] | None


class PictureRejected(Exception):
    """The picture is invalid: the ``stage`` and ``reason`` of a `Reject`."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(stage, reason)
        self.stage, self.reason = stage, reason


class LoadedSubject(NamedTuple):
    """A decoded picture, its subject's mask, and the head box, if known."""

    picture: Image.Image
    mask: Image.Image
    head_box: Box | None


def load_subject(subject: AnnotatedSubject, settings: CurateSettings) -> LoadedSubject:
    """Read ``subject``'s picture and its mask, which is segmented if not given.

    Raises:
        PictureRejected: the picture, its mask or a box is invalid.
    """
    most = settings.max_pixels
    try:
        decoded = decode_with_alpha(_read(subject["image"], settings), most)
    except DataError as error:
        raise PictureRejected("decode", str(error)) from None
    picture = decoded.picture
    for name, box in (("box", subject["box"]), ("head_box", subject["head_box"])):
        if box and (box[2] > picture.width or box[3] > picture.height):
            raise PictureRejected("region", f"{name}: it leaves the picture")
    if subject["mask"]:
        try:
            mask = decode_mask(_read(subject["mask"], settings), picture.size, most)
        except DataError as error:
            raise PictureRejected("region", str(error)) from None
    else:
        mask = find_mask(decoded, settings.region, as_tuple(subject["box"]))
    head_box = as_tuple(subject["head_box"])
    if head_box is None and settings.find_faces:
        head_box = _face_detector()(picture)
    return LoadedSubject(picture, mask, head_box)


def _read(address: str, settings: CurateSettings) -> bytes:
    return settings.store.read(address, settings.max_bytes)


def training_view(loaded: LoadedSubject, settings: CurateSettings) -> TrainingView:
    """The training image."""
    bucket = choose_bucket(loaded.picture.size, settings.buckets)
    crop = crop_to(loaded.picture, loaded.mask, bucket)
    head = None
    if loaded.head_box is not None:
        head = clip_mask(loaded.mask, loaded.head_box).resize(bucket, Image.Resampling.BOX, box=crop.box)
    target = (bucket.height, bucket.width)
    return TrainingView(
        bucket=bucket,
        size=loaded.picture.size,
        picture_hash=picture_hash(loaded.picture),
        time_ids=crop.time_ids if settings.size_conditioning == "original" else (*target, 0, 0, *target),
        picture=np.asarray(crop.picture),
        mask=np.asarray(crop.mask),
        head=None if head is None else np.asarray(head),
    )


def cut_reference(loaded: LoadedSubject, size: int) -> ReferenceCutOut:
    """The cut-out reference of ``size`` pixels."""
    found = cut_out_with_face(loaded.picture, loaded.mask, loaded.head_box, size)
    return ReferenceCutOut(np.asarray(found.picture), found.face)


def as_tuple(box: Box | None) -> Box | None:
    """Convert a box from a JSON list."""
    return None if box is None else (box[0], box[1], box[2], box[3])


@lru_cache(maxsize=1)
def _face_detector() -> FaceDetector:
    """Loaded once for each process."""
    return FaceDetector()
