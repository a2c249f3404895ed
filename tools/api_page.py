"""Writes `docs/reference/http.md` from the OpenAPI document: ``python -m tools.api_page > docs/reference/http.md``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from components.config import Config, load_config
from deploy.api.app import create_app
from deploy.api.schema import ModelResponse

Schema = Mapping[str, Any]
#: The page's introduction and table of error codes, which are written by hand.
_HEAD = Path(__file__).parent / "page_heads" / "http.md"
#: How limits are shown.
_LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "length ≥ {}",
    "maxLength": "length ≤ {}",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "pattern": "`{}`",
}


def main() -> None:
    """Print the page of a service with keys."""
    print(page(interface(load_config("tiny", ["serving.access.keys=required"]))), end="")


def interface(config: Config) -> dict[str, Any]:
    """The OpenAPI document; no part of the service is needed for it."""
    nobody = cast(Any, object())
    return create_app(config, ModelResponse(id="", version=""), nobody, nobody, nobody, nobody).openapi()


def page(document: Schema) -> str:
    """The document in Markdown."""
    requests = ["## Requests", "", *_operations(document)]
    return "\n".join([_HEAD.read_text(), *requests, "## Schemas", "", *_schemas(document)])


def _operations(document: Schema) -> Iterator[str]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"### {method.upper()} {path}\n"
            yield f"{operation.get('description') or operation['summary']}".rstrip(".") + ".\n"
            if operation.get("parameters"):
                yield "| Parameter | In | Type | Default | Limits |\n|---|---|---|---|---|"
                for each in operation["parameters"]:
                    row = _row(each["schema"], each.get("required", False))
                    yield f"| `{each['name']}` | {each['in']} | {row}"
                yield ""
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                yield from _body(kind, content["schema"])
            yield from _statuses(operation["responses"])
            yield ""


def _statuses(responses: Schema) -> Iterator[str]:
    """Success with its content; errors with their description only, since all have one schema."""
    for status, answer in sorted(responses.items()):
        if status != "default":
            content = _contents(answer) if status < "400" else ""
            yield f"* **{status}** {answer['description'].rstrip('.')}{content}"


def _body(kind: str, schema: Schema) -> Iterator[str]:
    if "properties" not in schema:
        yield f"Body, `{kind}`: {_type(schema)}\n"
        return
    yield f"Body, `{kind}`:\n"
    yield from _fields(schema)


def _contents(answer: Schema) -> str:
    shown = [
        f"`{kind}`" + (f" {_type(content['schema'])}" if content.get("schema") else "")
        for kind, content in answer.get("content", {}).items()
    ]
    return ": " + ", or ".join(shown) if shown else ""


def _schemas(document: Schema) -> Iterator[str]:
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield f"### {name}\n"
        if "description" in schema:
            yield " ".join(schema["description"].split()) + "\n"
        if "properties" in schema:
            yield from _fields(schema)
        else:
            yield f"{_type(schema)}\n"


def _fields(schema: Schema) -> Iterator[str]:
    required = schema.get("required", [])
    yield "| Field | Type | Default | Limits |\n|---|---|---|---|"
    for name, field in schema["properties"].items():
        yield f"| `{name}` | {_row(field, name in required)}"
    yield ""


def _row(field: Schema, required: bool) -> str:
    """Type, default and limits, as cells."""
    default = "required" if required else f"`{_json(field['default'])}`" if "default" in field else ""
    limits = [text.format(_limit(value)) for value, text in _limits_of(field)]
    return f"{_type(field)} | {default} | {', '.join(limits)} |"


def _limit(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).replace("|", "\\|")


def _limits_of(field: Schema) -> list[tuple[Any, str]]:
    choices = [field, *(each for each in field.get("anyOf", []))]
    return [(each[key], text) for each in choices for key, text in _LIMITS.items() if key in each]


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    for joint in ("anyOf", "oneOf", "allOf"):
        if joint in schema:
            return " or ".join(_type(each) for each in schema[joint])
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{_json(value)}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        items = _type(schema["items"]) if "items" in schema else "anything"
        return f"list of ({items})" if " or " in items else f"list of {items}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_type(schema['additionalProperties'])}"
    if schema.get("format") in ("binary", "base64"):
        return "file"
    return str(schema.get("type", "anything"))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main()
