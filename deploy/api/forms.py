"""Lists in form data, as the clients of different languages name their items."""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.datastructures import FormData, UploadFile

#: ``image[]`` (PHP, Rails, OpenAI's client) and ``image[0]`` (axios, qs, .NET), beside the field's own name repeated.
_ITEM = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<index>\d{0,4})\])?")


async def read_fields(form: FormData, lists: Iterable[str], aligned: Iterable[str] = ()) -> dict[str, object]:
    """The fields of a form by name, with the contents of files.

    Args:
        lists: fields of which several are accepted, as ``name``, ``name[]`` or ``name[0]``, ``name[1]``, … (in order
            of their numbers; equal names, and those without a number, in the order in which they were sent). Such a
            field is a list wherever the form has it. Of other fields, the last one sent counts.
        aligned: likewise, but ``name[1]`` is the second item whatever else was sent; what is left out is None.
    """
    aligned = frozenset(aligned)
    lists = aligned.union(lists)
    fields: dict[str, object] = {}
    items: dict[str, list[tuple[int | None, object]]] = {}
    for key, value in form.multi_items():
        content: object = await value.read() if isinstance(value, UploadFile) else value
        match = _ITEM.fullmatch(key)
        if match is not None and match["name"] in lists:
            items.setdefault(match["name"], []).append((int(match["index"]) if match["index"] else None, content))
        else:
            fields[key] = content
    return fields | {
        name: _placed(found) if name in aligned else [value for _, value in sorted(found, key=lambda i: i[0] or 0)]
        for name, found in items.items()
    }


def _placed(items: list[tuple[int | None, object]]) -> list[object]:
    """Items at their numbers; those without one follow each other from the first place."""
    placed: dict[int, object] = {}
    for number, value in items:
        placed[len(placed) if number is None else number] = value
    return [placed.get(place) for place in range(max(placed) + 1)]
