"""Planning of rows before pictures are opened: caption, word, split, and other pictures of the subject."""

from __future__ import annotations

import zlib
from collections import defaultdict
from typing import Literal, NamedTuple, TypedDict

from components.data.caption_cleaning import clean_caption
from components.data.rejects import Reject
from components.data.schema import AnnotatedSubject, SourceRow
from components.errors import DataError
from components.model.words import find_word

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
#: Origin of a row's word: its own field, another row of its group, or, later, detection in its picture; where the
#: picture confirms no phrase of the caption, the caption's head noun.
WordOrigin = Literal["given", "group", "detected", "caption"]
#: Maximum number of other pictures, which are tried in order until one is valid.
_OTHERS = 3


class PlannedRow(TypedDict):
    """A row to prepare, with a clean caption that contains its word; a word of None is detected later.

    ``others`` are other pictures of its subject as references, in order of preference. With ``whole_group`` all other
    pictures of the group are references; else only pictures that its source names.
    """

    row: SourceRow
    split: Split
    word_from: WordOrigin
    others: list[AnnotatedSubject]
    whole_group: bool


class Plan(NamedTuple):
    """Planned rows, ordered by group, and rejected rows."""

    jobs: list[PlannedRow]
    rejects: list[Reject]


def plan_rows(rows: list[SourceRow], validation_share: float) -> Plan:
    """Plan everything that needs no picture. Deterministic."""
    groups: dict[str, list[SourceRow]] = defaultdict(list)
    for row in rows:
        groups[row["group"]].append({**row, "word": _clean_word(row["word"])})
    known = {row["subject"]["image"]: row["subject"] for row in reversed(rows)}
    splits: dict[str, set[Split]] = defaultdict(set)
    for row in rows:
        splits[row["subject"]["image"]].add(split_of(row["group"], validation_share))
    jobs, rejects = [], []
    for group, members in groups.items():
        split = split_of(group, validation_share)
        subjects = known | {row["subject"]["image"]: row["subject"] for row in reversed(members)}
        nouns = list(dict.fromkeys(row["word"] for row in members if row["word"]))
        for row in members:
            try:
                caption = clean_caption(row["caption"])
            except DataError as error:
                rejects.append(Reject(row["subject"]["id"], row["source"], "caption", str(error)))
                continue
            if row["word"] and not find_word(caption, row["word"]):
                reason = "the caption does not hold the target word"
                rejects.append(Reject(row["subject"]["id"], row["source"], "word", reason))
                continue
            if any(split not in splits.get(path, {split}) for path in row["references"] or ()):
                reason = "a reference belongs to the other split: give both rows the same group"
                rejects.append(Reject(row["subject"]["id"], row["source"], "references", reason))
                continue
            word, origin = _word(row["word"], caption, nouns)
            planned: SourceRow = {**row, "caption": caption, "word": word, "references": None}
            jobs.append(
                PlannedRow(
                    row=planned,
                    split=split,
                    word_from=origin,
                    others=_others(row, members, subjects),
                    whole_group=_names_whole_group(row, members),
                )
            )
    return Plan(jobs, rejects)


def split_of(group: str, validation_share: float) -> Split:
    """The split of a group, a function of its name: adding other groups changes no split."""
    return "validation" if zlib.crc32(group.encode()) < validation_share * 2**32 else "train"


def _clean_word(word: str | None) -> str | None:
    """The target word, cleaned like captions; one that would be empty stays unchanged, and matches no caption."""
    try:
        return clean_caption(word) if word else None
    except DataError:
        return word


def _word(given: str | None, caption: str, nouns: list[str]) -> tuple[str | None, WordOrigin]:
    """The row's word: the given one, or a word of another row of the group that the caption contains."""
    if given:
        return given, "given"
    shared = next((noun for noun in nouns if find_word(caption, noun)), None)
    return shared, "group" if shared else "detected"


def _names_whole_group(row: SourceRow, members: list[SourceRow]) -> bool:
    """Whether the references of ``row`` are all other pictures of its group, named or by default."""
    own, named = row["subject"]["image"], row["references"]
    return named is None or {*named, own} == {own, *(member["subject"]["image"] for member in members)}


def _others(row: SourceRow, members: list[SourceRow], known: dict[str, AnnotatedSubject]) -> list[AnnotatedSubject]:
    """References of ``row`` (by default the rest of its group), starting at an index given by the hash of its id."""
    own = row["subject"]["image"]
    paths = row["references"] if row["references"] is not None else [m["subject"]["image"] for m in members]
    paths = [path for path in dict.fromkeys(paths) if path != own]
    if not paths:
        return []
    start = zlib.crc32(row["subject"]["id"].encode()) % len(paths)
    chosen = (paths[start:] + paths[:start])[:_OTHERS]
    return [
        known.get(path) or AnnotatedSubject(id=path, image=path, mask=None, box=None, head_box=None) for path in chosen
    ]
