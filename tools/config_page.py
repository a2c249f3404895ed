"""Writes `docs/reference/configuration.md` from the models.

    python -m tools.config_page > docs/reference/configuration.md

Every key with its type, limits, default, the values of the presets that differ from it, and its explanation, which is
the docstring below the field in `components/config`.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from components.config import PACKAGE_ROOT, Config, load_config, presets

#: The page's introduction, which is written by hand.
_HEAD = Path(__file__).parent / "page_heads" / "configuration.md"
_NAMES = {int: "integer", float: "number", str: "text", bool: "`true`, `false`", Path: "path", type(None): "`null`"}


def main() -> None:
    """Print the page."""
    print(page(), end="")


def page(root: type[BaseModel] = Config) -> str:
    """The whole tree in Markdown, a table for each section."""
    loaded = {preset: load_config(preset).model_dump(mode="json") for preset in presets()}
    return "\n".join([_HEAD.read_text(), *section_rows(root, "", loaded)])


def keys(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of the tree with its field, sections left out."""
    for name, field in section.model_fields.items():
        nested = _nested(field)
        if nested is None:
            yield f"{prefix}{name}", field
        else:
            yield from keys(nested, f"{prefix}{name}.")


def section_rows(section: type[BaseModel], prefix: str, loaded: Mapping[str, Any]) -> Iterator[str]:
    """A section's heading, explanation and table, then those of the sections in it."""
    if prefix:
        yield f"## {prefix.rstrip('.')}\n"
        yield f"{_summary(section)}\n"
    rows = [(name, field) for name, field in section.model_fields.items() if _nested(field) is None]
    if rows:
        yield "| Key | Type and limits | Default | Meaning |\n|---|---|---|---|"
        for name, field in rows:
            key = f"{prefix}{name}"
            cells = [f"`{key}`", _type(field), _default(key, field, loaded), _prose(field.description)]
            yield "| " + " | ".join(cells) + " |"
        yield ""
    for name, field in section.model_fields.items():
        nested = _nested(field)
        if nested is not None:
            yield from section_rows(nested, f"{prefix}{name}.", loaded)
        item = _item(field)
        if item is not None:
            yield f"### Each of {prefix}{name}\n"
            yield f"{_summary(item)}\n"
            yield "| Key | Type and limits | Default | Meaning |\n|---|---|---|---|"
            for key, each in item.model_fields.items():
                default = "required" if each.is_required() else _value(_plain(each.default))
                yield f"| `{key}` | {_type(each)} | {default} | {_prose(each.description)} |"
            yield ""


def _item(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field holds a list of; None for any other field."""
    arguments = get_args(field.annotation) if get_origin(field.annotation) is tuple else ()
    found = next(iter(arguments), None)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _nested(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field holds; None for a value."""
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _summary(section: type[BaseModel]) -> str:
    """A section's own docstring; not the one that it inherits."""
    return _prose(vars(section).get("__doc__"))


def _prose(text: str | None) -> str:
    """A docstring as one line of Markdown."""
    return re.sub(r"``(.+?)``", r"`\1`", " ".join((text or "").split())).replace("|", "\\|")


def _type(field: FieldInfo) -> str:
    limits = ", ".join(_limits([*field.metadata, *_metadata(field.annotation)]))
    return _name(field.annotation) + (f"; {limits}" if limits else "")


def _name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _name(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_name(each) for each in arguments))
    if origin is tuple:
        return f"list of {_name(arguments[0])}"
    if origin is dict:
        return f"map of {_name(arguments[0])} to {_name(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "map (below)"
    return _NAMES.get(annotation, str(getattr(annotation, "__name__", annotation)))


def _metadata(annotation: Any) -> Iterator[Any]:
    """Limits that lie inside the annotation."""
    if get_origin(annotation) is Annotated:
        for each in get_args(annotation)[1:]:
            yield from each.metadata if isinstance(each, FieldInfo) else [each]
    for each in get_args(annotation):
        if get_origin(annotation) in (Union, types.UnionType) or get_origin(annotation) is Annotated:
            yield from _metadata(each)


def _limits(metadata: Sequence[Any]) -> Iterator[str]:
    for each in metadata:
        match each:
            case Ge(ge=limit):
                yield f"≥ {_number(limit)}"
            case Gt(gt=limit):
                yield f"> {_number(limit)}"
            case Le(le=limit):
                yield f"≤ {_number(limit)}"
            case Lt(lt=limit):
                yield f"< {_number(limit)}"
            case MultipleOf(multiple_of=limit):
                yield f"a multiple of {_number(limit)}"
            case MinLen(min_length=limit):
                yield f"at least {limit}"
            case MaxLen(max_length=limit):
                yield f"at most {limit}"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _default(key: str, field: FieldInfo, loaded: Mapping[str, Any]) -> str:
    """The model's default, and beside it the presets' values where they differ."""
    usual = None if field.is_required() else _plain(field.get_default(call_default_factory=True))
    said = [] if field.is_required() else [_value(usual)]
    for preset, tree in loaded.items():
        value = _at(tree, key, usual)
        if field.is_required() or value != usual:
            said.append(f"{preset}: {_value(value)}")
    return "; ".join(said)


def _at(tree: Any, key: str, default: Any) -> Any:
    """The value of ``key``; a key that is only written where it is set has its default otherwise."""
    for part in key.split("."):
        tree = tree.get(part, default)
    return tree


def _plain(value: Any) -> Any:
    """As the resolved tree has it in JSON."""
    if isinstance(value, Path):
        return str(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _value(value: Any) -> str:
    """As one would write it after ``--set``; paths in the checkout as ``package://``."""
    return f"`{_text(value)}`"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_text(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(each) for each in value) + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, str):
        return value.replace(f"{PACKAGE_ROOT}/", "package://") or '""'
    return str(value)


if __name__ == "__main__":
    main()
