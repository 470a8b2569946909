"""The shape of a document, judged by the JSON Schema that the image carries: there is no second list of keys.

Only the keywords below are known, and a schema with another one is refused, so that none is passed over.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .trouble import Problem, TroubleError, shown

KINDS: dict[str, type] = {"object": dict, "array": list, "string": str, "integer": int}
NAMES = {"object": "a table", "array": "a list", "string": "a string", "integer": "a whole number"}

JUDGED = {
    "const", "type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems",
    "uniqueItems", "pattern", "maxLength", "minimum", "maximum",
}  # fmt: skip
SAID = {"$schema", "title", "description", "examples"}
"""Keywords that judge nothing."""

SECRET = ("auth",)
"""Tables whose values are never repeated: somebody puts a password there by mistake."""


def known(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema if each keyword of it is known.

    Raises
    ------
    ValueError
        One is not.
    """
    if strange := schema.keys() - JUDGED - SAID:
        raise ValueError(f"the schema has {min(strange)}, which kiln-settings does not judge")
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise ValueError("the schema has a table that takes any key")
    for part in schema.get("properties", {}).values():
        known(part)
    if "items" in schema:
        known(schema["items"])
    return schema


def numbers(folder: Path) -> list[int]:
    """Numbers of the schemas in a folder, each a file ``<number>.json``."""
    return sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdecimal())


def load(folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Schema that a document says it is written for.

    Raises
    ------
    TroubleError
        It does not say, or the image does not read that one.
    """
    read = numbers(folder)
    listed = ", ".join(map(str, read))
    number = document.get("schema")
    if type(number) is not int or number not in read:
        what = "is missing" if "schema" not in document else f"is {shown(number)}"
        problem = Problem(
            "schema",
            f"{what}; this image reads {listed or 'none'}",
            f"begin the document with schema = {max(read, default=1)}",
        )
        raise TroubleError([problem])
    return known(json.loads((folder / f"{number}.json").read_text(encoding="utf-8")))


def _wanted(schema: dict[str, Any]) -> str:
    """What a schema asks for, in words."""
    words = NAMES.get(schema.get("type", ""), f"{schema.get('const')}")
    if "minimum" in schema:
        words += f" from {schema['minimum']} to {schema['maximum']}"
    return words


def _do(schema: dict[str, Any]) -> str:
    example = json.dumps(schema["examples"][0]) if "examples" in schema else ""
    return f"{schema['description']}{f'; such as {example}' if example else ''}"


def judge(value: Any, schema: dict[str, Any], key: str = "") -> Iterator[Problem]:
    """Judge a value by a schema.

    Parameters
    ----------
    value:
        As tomllib reads it.
    schema:
        See :func:`known`.
    key:
        Where the value stands.

    Returns
    -------
    Iterator
        What is wrong, in the order of the document.
    """
    said = "(not shown)" if key.split(".")[0] in SECRET else shown(value)
    if "const" in schema:
        if type(value) is not type(schema["const"]) or value != schema["const"]:
            yield Problem(key, f"is {said}; it must be {schema['const']}", _do(schema))
        return
    if type(value) is not KINDS[schema["type"]]:
        yield Problem(key, f"is no {_wanted(schema)[2:]}: {said}", _do(schema))
        return
    if isinstance(value, dict):
        yield from _table(value, schema, key)
    elif isinstance(value, list):
        yield from _list(value, schema, key)
    elif isinstance(value, str):
        if len(value) > schema.get("maxLength", len(value)):
            yield Problem(key, f"is longer than {schema['maxLength']} characters", _do(schema))
        elif "pattern" in schema and not re.fullmatch(schema["pattern"], value, re.ASCII):
            yield Problem(key, f"has not the form that is needed: {said}", _do(schema))
    elif type(value) is int and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield Problem(key, f"is {said}, not {_wanted(schema)}", _do(schema))


def _table(value: dict[str, Any], schema: dict[str, Any], key: str) -> Iterator[Problem]:
    properties = schema["properties"]
    prefix = f"{key}." if key else ""
    for name, inner in value.items():
        if name in properties:
            yield from judge(inner, properties[name], prefix + name)
            continue
        # As it would be written, so that a strange one can be found; never a line's end.
        written = name if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name) else shown(name)
        near = difflib.get_close_matches(name[:60], properties, 1)
        meant = f"did you mean {prefix}{near[0]}?" if near else f"there are {', '.join(properties)}"
        yield Problem(prefix + written, "is no setting", meant)
    for name in schema.get("required", []):
        if name not in value:
            yield Problem(prefix + name, "is missing", _do(properties[name]))


def _list(value: list[Any], schema: dict[str, Any], key: str) -> Iterator[Problem]:
    if not schema["minItems"] <= len(value) <= schema["maxItems"]:
        yield Problem(
            key, f"has {len(value)} entries, not {schema['minItems']} to {schema['maxItems']}", _do(schema)
        )
        return
    for number, inner in enumerate(value):
        yield from judge(inner, schema["items"], f"{key}[{number}]")
        if schema.get("uniqueItems") and inner in value[:number]:
            yield Problem(f"{key}[{number}]", "is there twice", "name each once")
