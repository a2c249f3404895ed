"""Curation: reads each picture once into pixels; an invalid picture rejects only its own rows."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import NamedTuple

from components.data.plan import PlannedRow, WordOrigin
from components.data.rejects import Reject
from components.data.schema import AnnotatedSubject, Box
from components.data.subject_image import (
    CurateSettings,
    PictureRejected,
    ReferenceCutOut,
    TrainingView,
    as_tuple,
    cut_reference,
    load_subject,
    training_view,
)
from components.errors import RealCustomError

logger = logging.getLogger(__name__)


class Row(NamedTuple):
    """An accepted row. ``view``, ``cutout`` and ``other_cutout`` are indices into the lists of `Curated`."""

    id: str
    group: str
    caption: str
    #: None: to be detected.
    word: str | None
    word_from: WordOrigin
    source: str
    licence: str | None
    image: str
    view: int
    cutout: int
    other_id: str
    other_cutout: int


class Curated(NamedTuple):
    """Accepted rows with the pixels of their pictures, without repetitions, and rejected rows."""

    rows: list[Row]
    views: list[TrainingView]
    cutouts: list[ReferenceCutOut]
    rejects: list[Reject]


def curate(jobs: list[PlannedRow], settings: CurateSettings) -> Curated:
    """Read the pictures of ``jobs``, and crop and cut out the valid ones.

    Raises:
        ConfigError: a stage needs an extra that is not installed.
    """
    cache = _PictureCache(settings)
    kept: list[tuple[PlannedRow, int, int]] = []
    rejects: list[Reject] = []
    for job in jobs:
        subject = job["row"]["subject"]
        try:
            kept.append((job, cache.view(subject), cache.cutout(subject)))
        except PictureRejected as refused:
            rejects.append(Reject(subject["id"], job["row"]["source"], refused.stage, refused.reason))
    # In a second pass, so that pictures of other rows are in the cache.
    rows = [_row(job, view, cutout, cache.other(job["others"])) for job, view, cutout in kept]
    return Curated(rows, cache.views, cache.cutouts, rejects)


def _row(job: PlannedRow, view: int, cutout: int, other: tuple[str, int] | None) -> Row:
    row, subject = job["row"], job["row"]["subject"]
    other_id, other_cutout = other or (subject["id"], cutout)
    return Row(
        id=subject["id"],
        group=row["group"],
        caption=row["caption"],
        word=row["word"],
        word_from=job["word_from"],
        source=row["source"],
        licence=row["licence"],
        image=subject["image"],
        view=view,
        cutout=cutout,
        other_id=other_id,
        other_cutout=other_cutout,
    )


#: Everything that a subject's pixels depend on: a cache key.
_SubjectKey = tuple[str, str | None, Box | None, Box | None]


@dataclass
class _PictureCache:
    """Processed pictures by the annotations that they depend on; rejected ones with their reasons."""

    settings: CurateSettings
    views: list[TrainingView] = field(default_factory=list)
    cutouts: list[ReferenceCutOut] = field(default_factory=list)
    _view_of: dict[_SubjectKey, int] = field(default_factory=dict)
    _cutout_of: dict[_SubjectKey, int | PictureRejected] = field(default_factory=dict)

    def view(self, subject: AnnotatedSubject) -> int:
        """The index of the training image of ``subject``; its cut-out is made at the same time."""
        key = _subject_key(subject)
        if key not in self._view_of:
            if key in self._cutout_of:
                self.cutout(subject)  # raises: a cut-out without a view was rejected
            self._make(subject, key, wanted=True)
        return self._view_of[key]

    def cutout(self, subject: AnnotatedSubject) -> int:
        """The index of the cut-out of ``subject``."""
        key = _subject_key(subject)
        if key not in self._cutout_of:
            self._make(subject, key, wanted=False)
        made = self._cutout_of[key]
        if isinstance(made, PictureRejected):
            raise made
        return made

    def other(self, others: list[AnnotatedSubject]) -> tuple[str, int] | None:
        """The id of the first valid one of ``others``, and the index of its cut-out."""
        for subject in others:
            try:
                return subject["id"], self.cutout(subject)
            except PictureRejected:
                continue
        return None

    def _make(self, subject: AnnotatedSubject, key: _SubjectKey, wanted: bool) -> None:
        """Make the cut-out of ``subject``, and its training image if ``wanted``."""
        try:
            seen = load_subject(subject, self.settings)
            cutout = cut_reference(seen, self.settings.reference_size)
            view = training_view(seen, self.settings) if wanted else None
        except PictureRejected as refused:
            self._cutout_of[key] = refused
            raise
        except (RealCustomError, MemoryError):  # not the picture's fault
            raise
        except Exception as error:  # any error of a library rejects this picture only
            logger.exception("%s could not be curated", subject["id"])
            fault = PictureRejected("curate", f"a library failed ({type(error).__name__})")
            self._cutout_of[key] = fault
            raise fault from error
        self._cutout_of[key] = len(self.cutouts)
        self.cutouts.append(cutout)
        if view is not None:
            self._view_of[key] = len(self.views)
            self.views.append(view)


def _subject_key(subject: AnnotatedSubject) -> _SubjectKey:
    return subject["image"], subject["mask"], as_tuple(subject["box"]), as_tuple(subject["head_box"])
