"""Encodes a curated unit and writes its references and shards, in small batches to bound memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from PIL import Image

from components.data.batch_cache import BatchCache, Failed
from components.data.curate import Curated, Row
from components.data.encode import Encoder, TextTokens, mask_shares
from components.data.finished_units import REFERENCE_GROUP_BYTES, FinishedUnits, RowRecord, UnitRecord, write_shard
from components.data.plan import WordOrigin
from components.data.rejects import Reject
from components.data.subject_image import PictureRejected
from components.data.units import Unit
from components.model.naming import WordNamer
from components.model.phrases import head_noun
from components.model.words import find_word

T = TypeVar("T")

_NO_WORD = "no target word is given, and no phrase of the caption names what the picture shows"


def prepare_unit(
    unit: Unit,
    curated: Curated,
    parts: FinishedUnits,
    encoder: Encoder,
    namer: Callable[[], WordNamer],
    batch_size: int,
) -> UnitRecord:
    """Encode ``curated`` into the references and shards of ``unit``, and then write its record.

    ``namer`` is called only for rows without a word.

    Raises:
        OSError: the shards cannot be written.
        ArtifactError: the namer cannot be loaded.
    """
    encoding = _Encoding(curated, encoder, namer, batch_size)
    key, files = unit.key, {}
    references = write_shard(parts.references(key), encoding.references(), REFERENCE_GROUP_BYTES)
    for bucket in sorted({view.bucket for view in curated.views}):
        rows = [row for row in curated.rows if curated.views[row.view].bucket == bucket]
        if size := write_shard(parts.shard(key, bucket.name), encoding.tables(rows)):
            files[bucket.name] = size
    record = UnitRecord(
        key=key,
        split=unit.split,
        marks=unit.marks,
        rows=encoding.kept,
        rejects=[*curated.rejects, *encoding.rejects],
        files=files,
        references=references,
    )
    parts.finish(record)
    return record


@dataclass
class _Encoding:
    """The encoding of one unit; each picture, caption and cut-out is encoded once."""

    curated: Curated
    encoder: Encoder
    namer: Callable[[], WordNamer]
    batch_size: int
    kept: list[RowRecord] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def __post_init__(self) -> None:
        views, encoder = self.curated.views, self.encoder
        self._pictures: BatchCache[int, Any] = BatchCache(
            lambda at: encoder.pictures([views[i] for i in at]), self.batch_size
        )
        self._texts: BatchCache[str, TextTokens] = BatchCache(encoder.texts, self.batch_size)
        #: Cut-outs that could not be encoded, with the reason.
        self._failed: dict[int, Failed] = {}

    def references(self) -> Iterator[pa.Table]:
        """The encoded cut-outs, a batch at a time. They are the largest results, and none is kept."""
        cutouts = self.curated.cutouts
        cache: BatchCache[int, Any] = BatchCache(
            lambda at: self.encoder.references([cutouts[i] for i in at]), self.batch_size
        )
        for start in range(0, len(cutouts), self.batch_size):
            batch = list(range(start, min(start + self.batch_size, len(cutouts))))
            rows = []
            for at, result in zip(batch, cache.get(batch), strict=True):
                if isinstance(result, Failed):
                    self._failed[at] = result
                else:
                    rows.append({"reference": at, "id": self.curated.cutout_ids[at], **result._asdict()})
            cache.forget(batch)
            if rows:
                yield _table(rows)

    def tables(self, rows: Sequence[Row]) -> Iterator[pa.Table]:
        """Prepared rows of one bucket, a batch at a time; failed ones are added to ``rejects``.

        The references must have been encoded before.
        """
        for start in range(0, len(rows), self.batch_size):
            batch = rows[start : start + self.batch_size]
            encoded = list(self._encode(batch))
            if encoded:
                yield _table(encoded)

    def _encode(self, batch: Sequence[Row]) -> Iterator[dict[str, Any]]:
        pictures = self._pictures.get([row.view for row in batch])
        texts = self._texts.get([row.caption for row in batch])
        for row, picture, text in zip(batch, pictures, texts, strict=True):
            try:
                yield self._row(row, _usable(picture), _usable(text))
            except PictureRejected as refused:
                self.rejects.append(Reject(row.id, row.source, refused.stage, refused.reason))

    def _row(self, row: Row, picture: Any, text: TextTokens) -> dict[str, Any]:
        view = self.curated.views[row.view]
        _usable(self._failed.get(row.cutout))
        word, word_from = (row.word, row.word_from) if row.word else self._detect(row)
        shape = self.encoder.latent_size(view)
        self.kept.append(
            RowRecord(
                id=row.id,
                image=row.image,
                picture_hash=view.picture_hash,
                size=view.size,
                bucket=view.bucket.name,
                word=word,
                word_from=word_from,
            )
        )
        return {
            **{name: getattr(row, name) for name in ("id", "group", "caption")},
            "word_from": word_from,
            **{name: getattr(row, name) for name in ("source", "licence")},
            "word": word,
            "picture_hash": view.picture_hash,
            **picture._asdict(),
            "text_tokens": text.tokens,
            "text_pooled": text.pooled,
            "time_ids": np.asarray(view.time_ids, np.float32),
            "mask": mask_shares(view.mask, shape),
            "head": np.zeros(shape, np.float16) if view.head is None else mask_shares(view.head, shape),
            "reference": row.cutout,
            "others": [at for at in row.others if at not in self._failed],
        }

    def _detect(self, row: Row) -> tuple[str, WordOrigin]:
        """The phrase of the caption that names the subject of the cut-out, else the caption's head noun; its origin."""
        cutout = Image.fromarray(self.curated.cutouts[row.cutout].pixels)
        naming = self.namer().name(row.caption, [cutout])
        if naming.how == "detected":
            return naming.word, "detected"
        noun = head_noun(row.caption)
        if noun is None or not find_word(row.caption, noun):
            raise PictureRejected("word", _NO_WORD)
        return noun, "caption"


def _usable(result: T | Failed) -> T:
    if isinstance(result, Failed):
        raise PictureRejected("encode", result.reason)
    return result


#: Columns that are no text and no tensor.
_NUMBERS = {"reference": pa.int32(), "others": pa.list_(pa.int32())}


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows as a table: arrays as tensors, other values as text or numbers."""
    columns = {}
    for name, value in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(value, np.ndarray):
            columns[name] = pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack(values))
        else:
            columns[name] = pa.array(values, _NUMBERS.get(name, pa.string()))
    return pa.table(columns)
