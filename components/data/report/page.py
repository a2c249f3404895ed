"""`write_report`: a prepared dataset as one HTML page that needs nothing else to be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from components.data.manifest import REJECTS
from components.data.report.drawing import LARGE, SMALL, Share, Thumbnail, extent, outline, share, thumbnail
from components.data.report.summary import Kept, Reason, Refused, marked, size_of, summarize

REPORT = "report.html"
#: Longest text that is shown of what a user wrote.
_TEXT = 300


class Seen(NamedTuple):
    """A kept row's pictures: RGB ``picture`` in its bucket, ``mask`` and, if it is known, ``head`` (L, white on them).

    ``face`` is the box of the face in the square ``cutout``, in its pixels.
    """

    picture: Image.Image
    mask: Image.Image
    head: Image.Image | None
    cutout: Image.Image
    face: tuple[float, float, float, float] | None


class Album(Protocol):
    """Where the report's pictures come from. What cannot be read any more is None."""

    def row(self, id: str) -> Seen | None:
        """The pictures of a kept row."""

    def picture(self, id: str) -> Image.Image | None:
        """The picture of any row of the source, as it is there."""


@dataclass(frozen=True)
class _Shown:
    """A kept row on the page."""

    row: Kept
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


def write_report(directory: Path, album: Album, name: str) -> Path:
    """Write ``report.html`` into the prepared dataset in ``directory``, and return its path.

    The page shows a bounded number of rows, so it stays below 3 MB however large the dataset is; the same dataset gives
    the same page.

    Args:
        album: where pictures are found.
        name: what the page calls the dataset.

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
        rows=[_shown(row, order[row.bucket], album) for row in summary.rows],
        reasons=[(reason, _refused(reason, album)) for reason in summary.reasons],
        more_reasons=len(summary.manifest.reasons) - len(summary.reasons),
        duplicates=[_pair(row, album) for row in summary.duplicates],
        rejects_file=REJECTS,
        configuration=yaml.safe_dump(summary.manifest.config, sort_keys=False, allow_unicode=True),
    )
    file = directory / REPORT
    partial = file.with_name(f".{REPORT}.partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(file)
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


def _shown(row: Kept, order: int, album: Album) -> _Shown:
    caption = row.caption if len(row.caption) <= _TEXT else row.caption[:_TEXT] + "…"
    pieces = marked(caption, row.word)
    seen = album.row(row.id)
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


def _refused(reason: Reason, album: Album) -> list[tuple[str, Thumbnail | None]]:
    """Some of the rows with their pictures; duplicates are shown as pairs instead."""
    return [(row.id, _small(album.picture(row.id))) for row in reason.rows if row.kept is None]


def _pair(row: Refused, album: Album) -> _Pair:
    assert row.kept is not None
    return _Pair(row.kept, _small(album.picture(row.kept)), row.id, _small(album.picture(row.id)))


def _small(picture: Image.Image | None) -> Thumbnail | None:
    return None if picture is None else thumbnail(picture, SMALL)
