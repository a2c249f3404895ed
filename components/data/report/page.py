"""`write_report`: a report of a prepared dataset as one self-contained HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from components.data.rejects import REJECTS
from components.data.report.drawing import LARGE, SMALL, Share, Thumbnail, extent, outline, share, thumbnail
from components.data.report.summary import AcceptedRow, Reason, RejectedRow, marked, size_of, summarize
from components.files import write_whole

REPORT = "report.html"
#: Maximum length of a caption on the page.
_TEXT = 300


class RowPictures(NamedTuple):
    """Images of an accepted row: RGB ``picture`` of its bucket's size, ``mask`` and, if known, ``head`` (L).

    ``face`` is the face box in pixels of the square ``cutout``.
    """

    picture: Image.Image
    mask: Image.Image
    head: Image.Image | None
    cutout: Image.Image
    face: tuple[float, float, float, float] | None


class PictureLoader(Protocol):
    """Loads pictures of the report; None for unreadable ones."""

    def row(self, id: str) -> RowPictures | None:
        """The images of an accepted row."""

    def picture(self, id: str) -> Image.Image | None:
        """The picture of any row of the source."""


@dataclass(frozen=True)
class _Shown:
    """An accepted row on the page."""

    row: AcceptedRow
    bucket_order: int
    caption: list[tuple[str, bool]]
    picture: Thumbnail | None = None
    outline: str = ""
    box: Share | None = None
    face: Share | None = None
    cutout: Thumbnail | None = None
    cutout_face: Share | None = None


class _Pair(NamedTuple):
    kept_id: str
    kept: Thumbnail | None
    refused_id: str
    refused: Thumbnail | None


def write_report(directory: Path, pictures: PictureLoader, name: str) -> Path:
    """Write ``report.html`` into the prepared dataset in ``directory``, and return its path.

    The page shows a bounded number of rows, so it stays below 3 MB for datasets of any size. Deterministic.

    Args:
        pictures: loads the pictures.
        name: the dataset's name on the page.

    Raises:
        DataError: ``directory`` is no prepared dataset.
    """
    summary = summarize(directory)
    order = {bucket: place for place, bucket in enumerate(summary.buckets)}
    page = _template().render(
        name=name,
        summary=summary,
        manifest=summary.manifest,
        source=summary.manifest.config.get("data", {}).get("source", ""),
        rows=[_shown(row, order[row.bucket], pictures) for row in summary.rows],
        reasons=[(reason, _refused(reason, pictures)) for reason in summary.reasons],
        more_reasons=len(summary.manifest.reasons) - len(summary.reasons),
        duplicates=[_pair(row, pictures) for row in summary.duplicates],
        rejects_file=REJECTS,
        configuration=yaml.safe_dump(summary.manifest.config, sort_keys=False, allow_unicode=True),
    )
    file = directory / REPORT
    write_whole(file, page)
    return file


def _template():  # type: ignore[no-untyped-def]
    environment = Environment(
        loader=PackageLoader("components.data.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2", globals={"size_of": size_of, "number": "{:,}".format})


def _shown(row: AcceptedRow, order: int, pictures: PictureLoader) -> _Shown:
    caption = row.caption if len(row.caption) <= _TEXT else row.caption[:_TEXT] + "…"
    pieces = marked(caption, row.word)
    seen = pictures.row(row.id)
    if seen is None:
        return _Shown(row, order, pieces)
    return _Shown(
        row,
        order,
        pieces,
        picture=thumbnail(seen.picture, LARGE),
        outline=outline(seen.mask),
        box=extent(seen.mask),
        face=None if seen.head is None else extent(seen.head),
        cutout=thumbnail(seen.cutout, SMALL),
        cutout_face=None if seen.face is None else share(seen.face, seen.cutout.size),
    )


def _refused(reason: Reason, pictures: PictureLoader) -> list[tuple[str, Thumbnail | None]]:
    """Some of the rejected rows with their pictures, except duplicates, which are shown as pairs."""
    return [(row.id, _small(pictures.picture(row.id))) for row in reason.rows if row.kept is None]


def _pair(row: RejectedRow, pictures: PictureLoader) -> _Pair:
    assert row.kept is not None
    return _Pair(row.kept, _small(pictures.picture(row.kept)), row.id, _small(pictures.picture(row.id)))


def _small(picture: Image.Image | None) -> Thumbnail | None:
    return None if picture is None else thumbnail(picture, SMALL)
