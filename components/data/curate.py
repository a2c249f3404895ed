"""Curation: reads each picture once into pixels; an invalid picture rejects only its own rows."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
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
    """An accepted row. ``view``, ``cutout`` and ``others`` are indices into the lists of `Curated`."""

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
    #: Cut-outs of other pictures of its subject.
    others: tuple[int, ...]


class Curated(NamedTuple):
    """Accepted rows with the pixels of their pictures, without repetitions, and rejected rows."""

    rows: list[Row]
    views: list[TrainingView]
    cutouts: list[ReferenceCutOut]
    rejects: list[Reject]
    #: The picture of each cut-out.
    cutout_ids: list[str]


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
    groups: dict[str, dict[int, str]] = defaultdict(dict)
    for job, _, cutout in kept:
        groups[job["row"]["group"]][cutout] = job["row"]["subject"]["image"]
    # In a second pass, so that pictures of other rows are in the cache.
    rows = [_row(job, view, cutout, _others(job, groups[job["row"]["group"]], cache)) for job, view, cutout in kept]
    return Curated(rows, cache.views, cache.cutouts, rejects, cache.cutout_ids)


def _others(job: PlannedRow, group: Mapping[int, str], cache: _PictureCache) -> tuple[int, ...]:
    """The cut-outs of other pictures of the row's subject.

    Args:
        group: cut-out -> picture of the accepted rows of its group.
    """
    own = job["row"]["subject"]["image"]
    members = tuple(cutout for cutout, image in group.items() if image != own)
    return members if members and job["whole_group"] else cache.others(job["others"])


def _row(job: PlannedRow, view: int, cutout: int, others: tuple[int, ...]) -> Row:
    row, subject = job["row"], job["row"]["subject"]
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
        others=others,
    )


#: Everything that a subject's pixels depend on: a cache key.
_SubjectKey = tuple[str, str | None, Box | None, Box | None]


@dataclass
class _PictureCache:
    """Processed pictures by the annotations that they depend on; rejected ones with their reasons."""

    settings: CurateSettings
    views: list[TrainingView] = field(default_factory=list)
    cutouts: list[ReferenceCutOut] = field(default_factory=list)
    cutout_ids: list[str] = field(default_factory=list)
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

    def others(self, subjects: list[AnnotatedSubject]) -> tuple[int, ...]:
        """The indices of the cut-outs of ``subjects``: the first valid one, and those that are known already."""
        found: list[int] = []
        for subject in subjects:
            if not found or _subject_key(subject) in self._cutout_of:
                with suppress(PictureRejected):
                    found.append(self.cutout(subject))
        return tuple(found)

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
        self.cutout_ids.append(subject["id"])
        if view is not None:
            self._view_of[key] = len(self.views)
            self.views.append(view)


def _subject_key(subject: AnnotatedSubject) -> _SubjectKey:
    return subject["image"], subject["mask"], as_tuple(subject["box"]), as_tuple(subject["head_box"])
