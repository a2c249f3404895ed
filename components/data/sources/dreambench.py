"""The DreamBench layout: one folder of photographs for each subject, and a list of the subjects' classes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from components.data.source_files import SourceFiles
from components.data.sources.record import (
    Columns,
    Record,
    is_picture,
    only_folder,
    other_files,
    read_text,
    visible_files,
)
from components.errors import DataError

CLASSES = "prompts_and_classes.txt"
_TEMPLATE = re.compile(r"""^\s*(?P<quote>["'])(?P<template>.*)(?P=quote)\.format\(""", re.MULTILINE)


def read_dreambench(store: SourceFiles, file: str | None, columns: Columns) -> Iterator[Record]:
    """Rows of all photographs: the subject's class is the word, its other photographs are the references."""
    only_folder(store, file)
    classes = read_classes(read_text(store, CLASSES))
    listed = list_photographs(store)
    yield from other_files(store, file, {CLASSES, *(name for names in listed.values() for name in names)})
    for subject, photographs in listed.items():
        if subject not in classes:
            fault = f"{CLASSES} names no class for {subject!r}; add a line to it"
            yield from (Record(photograph, None, fault=fault) for photograph in photographs)
            continue
        for photograph in photographs:
            yield Record(
                photograph,
                {
                    columns["image"]: photograph,
                    columns["caption"]: f"a photo of a {classes[subject]}",
                    columns["word"]: classes[subject],
                    columns["group"]: subject,
                    columns["references"]: [other for other in photographs if other != photograph],
                },
            )


def list_photographs(store: SourceFiles) -> dict[str, list[str]]:
    """Subject -> its photographs, both in order."""
    subjects: dict[str, list[str]] = defaultdict(list)
    for name in visible_files(store):
        subject, _, photograph = name.partition("/")
        if "/" not in photograph and is_picture(photograph):
            subjects[subject].append(name)
    return dict(subjects)


def read_classes(text: str) -> dict[str, str]:
    """Subject -> class, from the lines between the headings ``subject_name,class`` and ``Prompts``.

    Raises:
        DataError: the first heading is missing.
    """
    _, heading, table = text.replace("\r\n", "\n").partition("subject_name,class\n")
    if not heading:
        raise DataError(f"data.source: {CLASSES} has no line 'subject_name,class'")
    lines = (line.strip() for line in table.partition("\nPrompts")[0].splitlines())
    return {name: noun for name, comma, noun in (line.partition(",") for line in lines) if comma}


def read_prompts(text: str) -> tuple[list[str], list[str]]:
    """The prompts for objects and for live subjects, ``{0}`` for a pseudo-word and ``{1}`` for the class."""
    _, _, prompts = text.partition("Object Prompts")
    objects, _, live = prompts.partition("Live Subject Prompts")
    return _templates(objects), _templates(live)


def _templates(text: str) -> list[str]:
    return [match["template"] for match in _TEMPLATE.finditer(text)]
