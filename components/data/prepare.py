"""`prepare`: turns subject/caption pairs into encoded shards and a manifest.

source -> plan -> units -> pipeline -> assemble
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from components.config import Config, NamingConfig
from components.data.assemble import Assembled, assemble, link
from components.data.finished_units import FinishedMarks, FinishedUnits, unconditional_name
from components.data.manifest import MANIFEST, UNCONDITIONAL, Manifest, find_manifest
from components.data.plan import plan_rows
from components.data.ray_pipeline import run_units
from components.data.rejects import REJECTS, Rejects, write_rejects
from components.data.report.page import write_report
from components.data.report.source_pictures import SourcePictures
from components.data.row_index import RowIndex
from components.data.schema import SCHEMA_VERSION
from components.data.source_files import ContentMarks
from components.data.sources import Source, check_share, read_source
from components.data.stage_versions import UNCONFIRMED_WORD, encoder_identities, stages_identity
from components.data.subject_image import CurateSettings
from components.data.units import MarkedRow, Unit, cut_units, mark_rows
from components.errors import DataError
from components.files import replacing
from components.fingerprint import fingerprint, fingerprint_each
from components.full_disk import report_full_disk
from components.model.adapter import RealCustomAdapter
from components.model.naming import read_nouns
from components.model.text import TextPooling

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset. ``reused``: it existed already; else this run encoded ``encoded`` rows."""

    directory: Path
    manifest: Manifest
    reused: bool
    encoded: int = 0


@dataclass(frozen=True)
class Work:
    """The planned work of a source and a configuration; ``fingerprint`` covers all of it except paths."""

    source: Source
    jobs: Sequence[MarkedRow]
    rejects: Rejects
    encoders: dict[str, str]
    text_pooling: TextPooling
    #: Fingerprint of what the encoding of a row depends on beside the row.
    encoding: str
    fingerprint: str


def prepare(config: Config) -> Prepared:
    """Prepare ``config.data.source`` into ``config.data.output``, which is replaced atomically.

    Invalid rows are listed in ``rejects.parquet`` with reasons and do not stop the run. An output of the same content,
    settings, encoders and stage versions is reused. Finished units are stored in ``<output>.parts``, so that an
    interrupted preparation resumes, and only new rows of a source that has grown are encoded.

    Raises:
        DataError: the source is missing, empty or violates its schema; none of its rows is valid; no space is left; or
            the output contains something else, or the same source encoded by other encoders.
        ArtifactError: an encoding model cannot be loaded.
    """
    data = config.data
    work = plan_work(config, read_source(data))
    done = find_manifest(data.output)
    if done and done.fingerprint == work.fingerprint:
        logger.info("prepare: %s is up to date (%s)", data.output, work.fingerprint)
        return Prepared(data.output, done, reused=True)
    if done:
        _check_encoders(config, done, work.encoders)
    parts = FinishedUnits(data.output.absolute().with_name(f"{data.output.name}.parts"))
    with report_full_disk(data.output):
        parts.directory.mkdir(parents=True, exist_ok=True)
        parts.forget_unfinished()
        finished = FinishedMarks(parts.finished())
        units = cut_units(work.jobs, data.rows_per_shard, finished)
        pending = [unit for unit in units if unit.key not in finished]
        encoded = sum(len(unit.jobs) for unit in pending)
        if encoded < len(work.jobs):
            logger.info("prepare: %d of %d rows are encoded already", len(work.jobs) - encoded, len(work.jobs))
        run_units(config, work.source.store, pending, parts, work.text_pooling, work.encoding)
        manifest = _publish(config, work, units, parts)
        parts.sweep({unconditional_name(work.encoding), *(unit.key for unit in units)})
    return Prepared(data.output, manifest, reused=False, encoded=encoded)


def plan_work(config: Config, source: Source) -> Work:
    """Plan the work; pictures are hashed, not decoded.

    Raises:
        ArtifactError: ``model.base`` is a path without a pipeline in it.
    """
    data = config.data
    encoders = encoder_identities(config)
    pooling = text_pooling(config)
    plan = plan_rows(source.rows, data.validation_share)
    rejects = Rejects(chain(source.rejects, plan.rejects))
    check_share(data, rejects, len(source.rows) + len(source.rejects))
    settings = [
        SCHEMA_VERSION,
        CurateSettings.of(config, source.store).facts(),
        [data.batch_size, config.vision.model_dump(), config.model.dtype, data.encode],
        encoders,
        stages_identity(),
        *([] if pooling == "projected" else [pooling]),
        # Earlier releases did not store features at earlier blocks, whatever the setting.
        *(["shallow"] if config.vision.siglip_shallow else []),
    ]
    jobs = mark_rows(plan.jobs, ContentMarks(source.store).of, settings, _naming_facts(config.naming))
    layout = [data.rows_per_shard, data.duplicates, data.validation_share]
    mark = fingerprint([settings, layout, fingerprint_each(job.mark for job in jobs), fingerprint_each(rejects)])
    return Work(source, jobs, rejects, encoders, pooling, fingerprint(settings), mark)


def text_pooling(config: Config) -> TextPooling:
    """The pooled text vector that ``model.adapter`` reads; that of SDXL without one."""
    if not config.model.adapter:
        return "projected"
    return RealCustomAdapter.described(config.model.adapter).conditioning.text_pooling


def _naming_facts(naming: NamingConfig) -> list[object]:
    nouns = read_nouns(naming.nouns) if isinstance(naming.nouns, Path) else list(naming.nouns)
    return [naming.model_dump(mode="json", exclude={"nouns"}), nouns, UNCONFIRMED_WORD]


def _publish(config: Config, work: Work, units: Sequence[Unit], parts: FinishedUnits) -> Manifest:
    """Assemble the finished ``units`` into the output."""
    data = config.data
    keys, index = [unit.key for unit in units], RowIndex(work.source.rows)
    with replacing(data.output) as staging:
        made = assemble(parts, keys, index, staging, keep_duplicates=data.duplicates == "keep")
        rejects = Rejects(chain(work.rejects, made.rejects))
        manifest = _account(config, work, made, rejects, keys)
        write_rejects(rejects, index.find, staging / REJECTS)
        if (unconditional := parts.unconditional(work.encoding)).exists():  # not beside units of earlier releases alone
            link(unconditional, staging / UNCONDITIONAL)
        (staging / MANIFEST).write_text(manifest.model_dump_json(indent=2))
        # The report must not read pictures again that crashed a library or its process.
        crashed = {reject.id for reject in rejects if reject.stage == "curate"}
        pictures = SourcePictures(index, CurateSettings.of(config, work.source.store), crashed)
        write_report(staging, pictures, data.output.absolute().name)
    return manifest


def _account(config: Config, work: Work, made: Assembled, rejects: Rejects, units: list[str]) -> Manifest:
    """The manifest; checks that no row was lost."""
    data = config.data
    splits = {split: sum(rows.values()) for split, rows in made.buckets.items()}
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        columns=made.columns,
        references=made.references,
        fingerprint=work.fingerprint,
        rows_in=len(work.source.rows) + len(work.source.rejects),
        rows_out=sum(splits.values()),
        rows_rejected=len(rejects),
        reasons=dict(Counter(f"{reject.stage}: {reject.reason}" for reject in rejects).most_common()),
        passed_over=work.source.passed_over,
        notes=made.notes,
        splits=splits,
        buckets=made.buckets,
        units=units,
        encoders=work.encoders,
        text_pooling=work.text_pooling,
        code=stages_identity(),
        config=config.model_dump(mode="json", include={"data", "model", "vision", "naming"}),
    )
    if manifest.rows_in != manifest.rows_out + manifest.rows_rejected:
        raise RuntimeError(
            f"{manifest.rows_in} rows went in, but {manifest.rows_out} came out "
            f"and {manifest.rows_rejected} were rejected: this is a bug"
        )
    if not manifest.rows_out:
        reasons = "; ".join(f"{reason} ({count})" for reason, count in manifest.reasons.items())
        raise DataError(f"data.source: none of its {manifest.rows_in} rows can be used: {reasons}")
    check_share(data, Rejects(reject for reject in rejects if reject.stage != "duplicate"), manifest.rows_in)
    return manifest


def _check_encoders(config: Config, done: Manifest, encoders: dict[str, str]) -> None:
    """Reject another encoding of the same source, unless it is configured.

    Raises:
        DataError: the encoders differ.
    """
    before, data = done.config["data"], config.data
    same_source = (before["source"], before["format"]) == (str(data.source), data.format)
    if not same_source or done.encoders == encoders or data.on_encoder_change == "reencode":
        return
    was, now = (", ".join(f"{name} {mark}" for name, mark in each.items()) for each in (done.encoders, encoders))
    raise DataError(
        f"data.output: {data.output} was encoded by {was}, but the configuration names {now}: keep both with another "
        "data.output, or encode it again with data.on_encoder_change=reencode"
    )
