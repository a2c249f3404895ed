"""The Ray Data stages: curation and encoding. A unit is a block of one row, which Ray never splits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from components.config import ModelConfig, NamingConfig, VisionConfig
from components.data.blocks import curated_block, done_block, failed_block, read_curated, stopped_block
from components.data.crash_screening import screen
from components.data.curate import Curated, curate
from components.data.finished_units import FinishedUnits, atomic_write
from components.data.subject_image import CurateSettings
from components.data.units import Unit
from components.errors import RealCustomError
from components.full_disk import report_full_disk
from components.progress import quiet_libraries

if TYPE_CHECKING:
    from components.data.encode import Encoder
    from components.model.naming import WordNamer


logger = logging.getLogger(__name__)

#: The column of the keys of planned units.
KEY = "unit"
#: Attempts at a unit after which its pictures are screened for crashes.
_ATTEMPTS = 3


def curate_units(batch: pa.Table, settings: CurateSettings, parts: FinishedUnits) -> Iterator[pa.Table]:
    """Curate the planned units whose keys are in the column `KEY`; yields a block for each."""
    for key in batch[KEY].to_pylist():
        try:
            with report_full_disk(parts.directory):
                unit = parts.planned(key)
            yield curated_block(unit, _curate(unit, settings, parts))
        except RealCustomError as error:
            yield stopped_block(error)


def _curate(unit: Unit, settings: CurateSettings, parts: FinishedUnits) -> Curated:
    jobs = [job.job for job in unit.jobs]
    with report_full_disk(parts.directory):
        suspect = parts.begin(unit.key) >= _ATTEMPTS
    if not suspect:
        return curate(jobs, settings)
    logger.warning(
        "unit %s was started %d times and not finished: screening its pictures for crashes", unit.key, _ATTEMPTS
    )
    screened = screen(jobs, settings)
    curated = curate(screened.jobs, settings)
    return curated._replace(rejects=[*screened.rejects, *curated.rejects])


class EncodeUnits:
    """Encodes curated units and writes them; the first unit loads the frozen models."""

    def __init__(
        self,
        parts: FinishedUnits,
        model: ModelConfig,
        vision: VisionConfig,
        naming: NamingConfig,
        batch_size: int,
        encode: Literal["all", "latents", "text"],
        pooling: Literal["projected", "unprojected"],
        encoding: str,
    ) -> None:
        quiet_libraries()
        self.parts, self.model, self.vision, self.naming = parts, model, vision, naming
        self.batch_size, self.encode, self.pooling, self.encoding = batch_size, encode, pooling, encoding

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for row in range(len(batch)):
            try:
                yield done_block(self._prepare(batch, row))
            except RealCustomError as error:
                yield failed_block(error)

    def _prepare(self, batch: pa.Table, row: int) -> int:
        # Imported here: the processes that only curate need none of the model libraries.
        from components.data.unit_writer import prepare_unit

        unit, curated = read_curated(batch, row)
        if self.parts.find(unit.key) is None:  # it exists if an earlier process wrote it and died
            with report_full_disk(self.parts.directory):
                prepare_unit(unit, curated, self.parts, self._encoder, lambda: self._namer, self.batch_size)
        return len(unit.jobs)

    @cached_property
    def _encoder(self) -> Encoder:
        from components.data.encode import ENCODERS

        encoder = ENCODERS[self.encode](self.model, self.vision, self.pooling)
        unconditional = self.parts.unconditional(self.encoding)
        if not unconditional.exists():
            with report_full_disk(self.parts.directory), atomic_write(unconditional) as partial:
                encoder.unconditional().write(partial)
        return encoder

    @cached_property
    def _namer(self) -> WordNamer:
        from components.model.naming import WordNamer

        return WordNamer.from_config(self.model, self.naming)
