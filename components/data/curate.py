"""Jobs become pixels: each picture is read once, and what is wrong with one costs the rows that show it alone."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import NamedTuple

from components.data.plan import Job, WordOrigin
from components.data.schema import AnnotatedSubject, Box, Reject
from components.data.subject_image import CurateSettings, CutOut, Refused, View, as_tuple, cut, lay_out, see
from components.errors import RealCustomError

logger = logging.getLogger(__name__)


class Row(NamedTuple):
    """A row that is kept. ``view``, ``cutout`` and ``other_cutout`` are places in the lists of `Curated`."""

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
    """Rows that can be used with their pixels, each picture once however many rows show it, and the other rows."""

    rows: list[Row]
    views: list[View]
    cutouts: list[CutOut]
    rejects: list[Reject]


def curate(jobs: list[Job], settings: CurateSettings) -> Curated:
    """Read the pictures of ``jobs``, and lay out those that can be used.

    Raises:
        ConfigError: a stage needs an extra that is not installed.
    """
    desk = _Desk(settings)
    kept: list[tuple[Job, int, int]] = []
    rejects: list[Reject] = []
    for job in jobs:
        subject = job["row"]["subject"]
        try:
            kept.append((job, desk.view(subject), desk.cutout(subject)))
        except Refused as refused:
            rejects.append(Reject(subject["id"], job["row"]["source"], refused.stage, refused.reason))
    # Afterwards, so that a picture which is a row too has been read by now.
    rows = [_row(job, view, cutout, desk.other(job["others"])) for job, view, cutout in kept]
    return Curated(rows, desk.views, desk.cutouts, rejects)


def _row(job: Job, view: int, cutout: int, other: tuple[str, int] | None) -> Row:
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


#: What a subject's pixels depend on.
_Look = tuple[str, str | None, Box | None, Box | None]


@dataclass
class _Desk:
    """What has been made so far, and the looks it was made of; one that was refused is remembered with its reason."""

    settings: CurateSettings
    views: list[View] = field(default_factory=list)
    cutouts: list[CutOut] = field(default_factory=list)
    _view_of: dict[_Look, int] = field(default_factory=dict)
    _cutout_of: dict[_Look, int | Refused] = field(default_factory=dict)

    def view(self, subject: AnnotatedSubject) -> int:
        """The place of the training picture that shows ``subject``; its cut-out is made with it."""
        look = _look(subject)
        if look not in self._view_of:
            if look in self._cutout_of:
                self.cutout(subject)  # raises, for a cut-out without a view is one that was refused
            self._make(subject, look, wanted=True)
        return self._view_of[look]

    def cutout(self, subject: AnnotatedSubject) -> int:
        """The place of the cut-out of ``subject``."""
        look = _look(subject)
        if look not in self._cutout_of:
            self._make(subject, look, wanted=False)
        made = self._cutout_of[look]
        if isinstance(made, Refused):
            raise made
        return made

    def other(self, others: list[AnnotatedSubject]) -> tuple[str, int] | None:
        """The first of ``others`` that can be read, and the place of its cut-out."""
        for subject in others:
            try:
                return subject["id"], self.cutout(subject)
            except Refused:
                continue
        return None

    def _make(self, subject: AnnotatedSubject, look: _Look, wanted: bool) -> None:
        """Read ``subject`` into a cut-out, and into a view if one is ``wanted``."""
        try:
            seen = see(subject, self.settings)
            cutout = cut(seen, self.settings.reference_size)
            view = lay_out(seen, self.settings) if wanted else None
        except Refused as refused:
            self._cutout_of[look] = refused
            raise
        except (RealCustomError, MemoryError):  # the fault of no picture
            raise
        except Exception as error:  # whatever one picture does to a library, the others go on
            logger.exception("%s could not be curated", subject["id"])
            fault = Refused("curate", f"a library failed ({type(error).__name__})")
            self._cutout_of[look] = fault
            raise fault from error
        self._cutout_of[look] = len(self.cutouts)
        self.cutouts.append(cutout)
        if view is not None:
            self._view_of[look] = len(self.views)
            self.views.append(view)


def _look(subject: AnnotatedSubject) -> _Look:
    return subject["image"], subject["mask"], as_tuple(subject["box"]), as_tuple(subject["head_box"])
