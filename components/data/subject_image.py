"""One subject's picture as pixels: read, checked, cropped to a training picture, cut out as a reference."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.config import Config
from components.data.aspect_buckets import Bucket, buckets, choose_bucket
from components.data.crop import crop_to
from components.data.decode import decode_mask, decode_with_alpha
from components.data.duplicates import picture_hash
from components.data.region import region_finder
from components.data.schema import AnnotatedSubject, Box
from components.data.source_files import SourceFiles
from components.errors import DataError
from components.face_detector import FaceDetector
from components.pictures import clip_mask, cut_out_with_face

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class CurateSettings:
    """Sizes in pixels: ``buckets`` of training pictures, ``reference_size`` of cut-outs; limits of a picture."""

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
        """What the outcome depends on besides the files: all but where they lie."""
        return {name: value for name, value in asdict(self).items() if name != "store"}


class View(NamedTuple):
    """A training picture of its ``bucket``: picture uint8 [h, w, 3], mask uint8 [h, w], head likewise or None.

    ``size`` (width, height) and ``picture_hash`` are of the whole picture; for ``time_ids`` see `Crop`.
    """

    bucket: Bucket
    size: tuple[int, int]
    picture_hash: str
    time_ids: tuple[int, ...]
    picture: Pixels
    mask: Pixels
    head: Pixels | None


class CutOut(NamedTuple):
    """A subject on white, uint8 [r, r, 3], and the box of its face in these pixels, if one is known."""

    pixels: Pixels
    face_box: tuple[float, float, float, float] | None


class Refused(Exception):
    """A picture that cannot be used: the ``stage`` that says so, and a ``reason`` that can be counted."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(stage, reason)
        self.stage, self.reason = stage, reason


class Seen(NamedTuple):
    """A picture as it was read, its subject's mask, and the box of the head, if there is one."""

    picture: Image.Image
    mask: Image.Image
    head_box: Box | None


def see(subject: AnnotatedSubject, settings: CurateSettings) -> Seen:
    """Read ``subject``'s picture and find the subject in it.

    Raises:
        Refused: the picture, its mask or a box of it cannot be used.
    """
    most = settings.max_pixels
    try:
        picture, alpha = decode_with_alpha(_read(subject["image"], settings), most)
    except DataError as error:
        raise Refused("decode", str(error)) from None
    for name, box in (("box", subject["box"]), ("head_box", subject["head_box"])):
        if box and (box[2] > picture.width or box[3] > picture.height):
            raise Refused("region", f"{name}: it leaves the picture")
    if subject["mask"]:
        try:
            mask = decode_mask(_read(subject["mask"], settings), picture.size, most)
        except DataError as error:
            raise Refused("region", str(error)) from None
    else:
        box = as_tuple(subject["box"])
        mask = alpha if alpha is not None and box is None else region_finder(settings.region)(picture, box)
    head_box = as_tuple(subject["head_box"])
    if head_box is None and settings.find_faces:
        head_box = _face_detector()(picture)
    return Seen(picture, mask, head_box)


def _read(address: str, settings: CurateSettings) -> bytes:
    return settings.store.read(address, settings.max_bytes)


def lay_out(seen: Seen, settings: CurateSettings) -> View:
    """The training picture."""
    bucket = choose_bucket(seen.picture.size, settings.buckets)
    crop = crop_to(seen.picture, seen.mask, bucket)
    head = None
    if seen.head_box is not None:
        head = clip_mask(seen.mask, seen.head_box).resize(bucket, Image.Resampling.BOX, box=crop.box)
    target = (bucket.height, bucket.width)
    return View(
        bucket=bucket,
        size=seen.picture.size,
        picture_hash=picture_hash(seen.picture),
        time_ids=crop.time_ids if settings.size_conditioning == "original" else (*target, 0, 0, *target),
        picture=np.asarray(crop.picture),
        mask=np.asarray(crop.mask),
        head=None if head is None else np.asarray(head),
    )


def cut(seen: Seen, size: int) -> CutOut:
    """The reference of ``size`` pixels."""
    cut = cut_out_with_face(seen.picture, seen.mask, seen.head_box, size)
    return CutOut(np.asarray(cut.picture), cut.face)


def as_tuple(box: Box | None) -> Box | None:
    """A box that may have been read from JSON as a list."""
    return None if box is None else (box[0], box[1], box[2], box[3])


@lru_cache(maxsize=1)
def _face_detector() -> FaceDetector:
    """Loaded once a process."""
    return FaceDetector()
