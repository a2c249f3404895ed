"""Jobs become pixels: pictures are read, checked, cropped, and their subjects cut out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from components.data.crop import crop_square
from components.data.picture import decode_mask, decode_picture
from components.data.plan import Job
from components.data.region import subject_mask
from components.data.schema import Reject, Subject
from components.data.store import Store
from components.errors import DataError
from components.pictures import clip_mask, cut_out_with_face


@dataclass(frozen=True)
class CurateSettings:
    """Sizes in pixels: ``image_size`` of training pictures, ``reference_size`` of cut-outs; limits of a picture."""

    store: Store
    image_size: int
    reference_size: int
    max_bytes: int
    max_pixels: int
    size_conditioning: Literal["original", "target"]


class Curated(NamedTuple):
    """Rows that hold pixels, as columns (see `curate`), and those that were left out."""

    columns: dict[str, Any]
    rejects: list[Reject]


def curate(jobs: list[Job], settings: CurateSettings) -> Curated:
    """Read the pictures of ``jobs`` (b of them kept), each one once.

    Columns: id, group, caption, word, source, split; picture uint8 [b, s, s, 3], mask and head uint8 [b, s, s] of
    ``image_size``; time_ids float32 [b, 6]; cutout uint8 [b, r, r, 3] of ``reference_size`` and face_box float32
    [b, 4] in its pixels, all 0 without one; other_id, other_cutout and other_face_box likewise. Empty when no row is
    kept.
    """
    desk = _Desk(settings)
    rejects: list[Reject] = []
    kept: list[tuple[Job, dict[str, Any]]] = []
    for job in jobs:
        row = job["row"]
        try:
            kept.append((job, desk.lay_out(row["subject"])))
        except _Refused as refused:
            rejects.append(Reject(row["subject"]["id"], row["source"], refused.stage, refused.reason))
    rows = [_describe(job) | pixels | desk.other_view(job) for job, pixels in kept]
    columns = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]} if rows else {}
    return Curated(columns, rejects)


class _Refused(Exception):
    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(stage, reason)
        self.stage, self.reason = stage, reason


class _CutOut(NamedTuple):
    """Pixels uint8 [r, r, 3], and the face box float32 [4] in them."""

    pixels: np.ndarray
    face_box: np.ndarray


@dataclass
class _Desk:
    """Cut-outs made so far, by subject id; a picture that could not be read is remembered as None."""

    settings: CurateSettings
    cutouts: dict[str, _CutOut | None] = field(default_factory=dict)

    def lay_out(self, subject: Subject) -> dict[str, Any]:
        """The pixels of a row's own picture."""
        size = self.settings.image_size
        self.cutouts.setdefault(subject["id"], None)
        picture, mask = self._open(subject)
        square = crop_square(picture, mask, size)
        head = clip_mask(mask, subject["head_box"] or (0, 0, 0, 0)).resize(
            (size, size), Image.Resampling.BOX, box=square.box
        )
        time_ids = square.time_ids if self.settings.size_conditioning == "original" else (size, size, 0, 0, size, size)
        cutout = self._cut(subject, picture, mask)
        return {
            "picture": square.picture,
            "mask": square.mask,
            "head": head,
            "time_ids": np.asarray(time_ids, np.float32),
            "cutout": cutout.pixels,
            "face_box": cutout.face_box,
        }

    def other_view(self, job: Job) -> dict[str, Any]:
        """The first of the job's others that can be read, or else its own subject."""
        own = job["row"]["subject"]
        for subject in [*job["others"], own]:
            cutout = self._cutout(subject)
            if cutout is not None:
                return {
                    "other_id": subject["id"],
                    "other_cutout": cutout.pixels,
                    "other_face_box": cutout.face_box,
                }
        raise AssertionError("a row that was laid out has a cut-out of its own")

    def _cutout(self, subject: Subject) -> _CutOut | None:
        if subject["id"] not in self.cutouts:
            try:
                self._cut(subject, *self._open(subject))
            except _Refused:
                self.cutouts[subject["id"]] = None
        return self.cutouts[subject["id"]]

    def _cut(self, subject: Subject, picture: Image.Image, mask: Image.Image) -> _CutOut:
        seen = cut_out_with_face(picture, mask, subject["head_box"], self.settings.reference_size)
        cutout = _CutOut(np.asarray(seen.picture), np.asarray(seen.face or (0, 0, 0, 0), np.float32))
        self.cutouts[subject["id"]] = cutout
        return cutout

    def _open(self, subject: Subject) -> tuple[Image.Image, Image.Image]:
        """The picture and its subject's mask."""
        most = self.settings.max_pixels
        try:
            picture = decode_picture(self._read(subject["image"]), most)
        except DataError as error:
            raise _Refused("decode", str(error)) from None
        for name, box in (("box", subject["box"]), ("head_box", subject["head_box"])):
            if box and (box[2] > picture.width or box[3] > picture.height):
                raise _Refused("region", f"{name}: it leaves the picture")
        try:
            if subject["mask"]:
                return picture, decode_mask(self._read(subject["mask"]), picture.size, most)
        except DataError as error:
            raise _Refused("region", str(error)) from None
        return picture, subject_mask(picture, subject["box"])

    def _read(self, address: str) -> bytes:
        return self.settings.store.read(address, self.settings.max_bytes)


def _describe(job: Job) -> dict[str, Any]:
    row = job["row"]
    return {
        "id": row["subject"]["id"],
        "group": row["group"],
        "caption": row["caption"],
        "word": row["word"],
        "source": row["source"],
        "split": job["split"],
    }
