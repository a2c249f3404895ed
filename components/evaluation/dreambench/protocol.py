"""The DreamBench protocol: its subjects, prompts and images to generate."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

from components.config import DreamBenchConfig
from components.data.source_files import SourceFiles
from components.data.sources.dreambench import CLASSES, list_photographs, read_classes, read_prompts
from components.data.sources.record import read_text
from components.errors import DataError
from components.fingerprint import fingerprint

logger = logging.getLogger(__name__)

_SOURCE = "evaluation.dreambench.source"


@dataclass(frozen=True)
class BenchSubject:
    """A subject, the noun of its class, and the addresses of its photographs; the first one is the reference."""

    name: str
    noun: str
    live: bool
    photographs: tuple[str, ...]

    @property
    def reference(self) -> str:
        return self.photographs[0]


@dataclass(frozen=True)
class ImageSpec:
    """One image to generate: prompt number ``prompt`` of ``subject``, with the class noun as target word."""

    subject: str
    prompt: int
    text: str
    word: str
    seed: int

    @property
    def name(self) -> str:
        """The name of the image: the same in every run with the same source."""
        return f"{self.subject}/{self.prompt:02d}-{self.seed}"

    def row(self) -> dict[str, str | int]:
        """The spec as plain values, for `ImageSpec(**row)`."""
        return asdict(self)


@dataclass(frozen=True)
class Protocol:
    """The benchmark as it is run.

    ``missing`` subjects are listed in the source but have no photographs. ``lists`` (a fingerprint) and ``everyone``
    do not change when fewer ``subjects`` or prompts are configured.
    """

    store: SourceFiles
    subjects: tuple[BenchSubject, ...]
    specs: tuple[ImageSpec, ...]
    missing: tuple[str, ...]
    lists: str
    everyone: tuple[BenchSubject, ...]

    def subject(self, name: str) -> BenchSubject:
        return next(subject for subject in self.subjects if subject.name == name)


def read_protocol(bench: DreamBenchConfig, seed: int) -> Protocol:
    """Read the subjects and prompts of ``bench.source``; images get consecutive seeds, starting at ``seed``.

    Raises:
        DataError: the source is no DreamBench folder, or a subject's folder is in no list.
    """
    try:
        store = SourceFiles.at(bench.source)
        text = read_text(store, CLASSES)
        classes, (objects, live) = read_classes(text), read_prompts(text)
        photographs = list_photographs(store)
    except DataError as error:
        raise DataError(f"{_SOURCE}: {str(error).removeprefix('data.source: ')}") from None
    if not objects or not live:
        raise DataError(f"{_SOURCE}: {CLASSES} lists no prompts for objects or for live subjects")
    if unlisted := sorted(photographs.keys() - classes.keys()):
        raise DataError(f"{_SOURCE}: {CLASSES} names no class for {unlisted[0]!r}; add a line to it")
    there = tuple(
        BenchSubject(name, noun, noun in bench.live, tuple(photographs[name]))
        for name, noun in classes.items()
        if name in photographs
    )
    if not there:
        raise DataError(f"{_SOURCE}: {store.url} holds no photographs of the subjects that {CLASSES} lists")
    if odd := next((s.name for s in there if not _is_folder_name(s.name)), None):
        raise DataError(f"{_SOURCE}: {odd!r} cannot name a folder of pictures; rename it")
    missing = tuple(name for name in classes if name not in photographs)
    if missing:
        logger.warning("%d of %d subjects have no photographs: %s", len(missing), len(classes), ", ".join(missing))
    prompts = {False: objects[: bench.prompts], True: live[: bench.prompts]}
    seeds = range(seed, seed + bench.seeds)
    chosen = there[: bench.subjects]
    lists = fingerprint([classes, objects, live, bench.live])
    return Protocol(store, chosen, tuple(_specs(chosen, prompts, seeds)), missing, lists, there)


def _specs(subjects: Sequence[BenchSubject], prompts: dict[bool, list[str]], seeds: range) -> Iterator[ImageSpec]:
    for subject in subjects:
        for number, template in enumerate(prompts[subject.live]):
            text = " ".join(template.format("", subject.noun).split())  # without a pseudo-word, the class noun alone
            for seed in seeds:
                yield ImageSpec(subject.name, number, text, subject.noun, seed)


def _is_folder_name(name: str) -> bool:
    return PurePosixPath(name).parts == (name,) and name not in (".", "..") and not name.startswith(".")
