"""`write_gallery`: result tables and sample images of every subject as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from components.config import Config
from components.data.report.drawing import Thumbnail, thumbnail
from components.evaluation.dreambench.image_store import ImageStore
from components.evaluation.dreambench.photographs import read_photographs
from components.evaluation.dreambench.protocol import BenchSubject, ImageSpec, Protocol
from components.evaluation.dreambench.result_tables import BY_OTHERS, TITLES, ResultTable, as_text
from components.files import write_whole

#: Maximum number of subjects, and of images of each; side of the images in pixels.
SUBJECTS, PICTURES, SIDE = 40, 6, 176


@dataclass(frozen=True)
class _Sample:
    text: str
    seed: int
    picture: Thumbnail
    scores: list[tuple[str, str]]


@dataclass(frozen=True)
class _Shown:
    """A subject on the page."""

    name: str
    noun: str
    photograph: Thumbnail
    samples: list[_Sample]


def write_gallery(
    file: Path,
    config: Config,
    protocol: Protocol,
    images: ImageStore,
    rows: Sequence[Mapping[str, Any]],
    tables: Sequence[ResultTable],
) -> None:
    """Write the page to ``file``. It shows a bounded number of thumbnails, so it stays below 3 MB.

    Args:
        rows: the scores of ``protocol.specs``, in their order.
        tables: shown at the top of the page.
    """
    metrics = list(dict.fromkeys(name for table in tables for name in table.metrics))
    pairs: dict[str, list[tuple[ImageSpec, Mapping[str, Any]]]] = {}
    for spec, row in zip(protocol.specs, rows, strict=True):
        pairs.setdefault(spec.subject, []).append((spec, row))
    page = _template().render(
        tables=tables,
        titles=TITLES,
        by_others=BY_OTHERS,
        protocol=protocol,
        subjects=[_shown(config, protocol, images, s, pairs[s.name], metrics) for s in protocol.subjects[:SUBJECTS]],
        base=config.model.base,
    )
    write_whole(file, page)


def _shown(
    config: Config,
    protocol: Protocol,
    images: ImageStore,
    subject: BenchSubject,
    pairs: Sequence[tuple[ImageSpec, Mapping[str, Any]]],
    metrics: Sequence[str],
) -> _Shown:
    (photograph,) = read_photographs(config.data, protocol.store, [subject.reference])
    samples = [
        _Sample(
            spec.text,
            spec.seed,
            thumbnail(images.picture(spec), SIDE),
            [(name, as_text(row[name])) for name in metrics if row[name] is not None],
        )
        for spec, row in _spread(pairs)
    ]
    return _Shown(subject.name, subject.noun, thumbnail(photograph, SIDE), samples)


def _spread(pairs: Sequence[tuple[ImageSpec, Mapping[str, Any]]]) -> list[tuple[ImageSpec, Mapping[str, Any]]]:
    """At most `PICTURES` pairs, evenly over the prompts, independent of scores."""
    count = min(PICTURES, len(pairs))
    return [pairs[place * len(pairs) // count] for place in range(count)]


def _template():  # type: ignore[no-untyped-def]
    environment = Environment(
        loader=PackageLoader("components.evaluation.dreambench", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("gallery.html.j2", globals={"as_text": as_text})
