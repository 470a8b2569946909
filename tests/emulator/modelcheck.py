"""A request or an answer against botocore's model of the service: moto looks at neither."""

from __future__ import annotations

import functools
import re
from typing import Any


def wrong(shape: Any, value: Any, path: str = "") -> list[str]:
    """What a value has that its shape forbids, a line each.

    Parameters
    ----------
    shape:
        Of botocore's service model.
    value:
        What was sent; None is nothing.
    path:
        Where in the request it stands.
    """
    if value is None:
        return []
    kind = shape.type_name
    if kind == "structure":
        return _structure(shape, value, path)
    if kind == "list":
        return _list(shape, value, path)
    if kind == "map":
        return _map(shape, value, path)
    return _scalar(shape, value, path)


def _structure(shape: Any, value: Any, path: str) -> list[str]:
    if shape.is_document_type:
        return []
    if not isinstance(value, dict):
        return [f"{path} is no structure"]
    missing = [f"{path}.{name} is missing" for name in shape.required_members if value.get(name) is None]
    unknown = [f"{path}.{name} is unknown" for name in value if name not in shape.members]
    inside = (wrong(member, value.get(name), f"{path}.{name}") for name, member in shape.members.items())
    return missing + unknown + [line for lines in inside for line in lines]


def _list(shape: Any, value: Any, path: str) -> list[str]:
    if not isinstance(value, list | tuple):
        return [f"{path} is no list"]
    counted = _length(shape, value, path, "members")
    return counted + [
        line for n, each in enumerate(value) for line in wrong(shape.member, each, f"{path}[{n}]")
    ]


def _map(shape: Any, value: Any, path: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path} is no map"]
    lines = _length(shape, value, path, "entries")
    for key, each in value.items():
        lines += wrong(shape.key, key, f"{path}.{key} (key)") + wrong(shape.value, each, f"{path}.{key}")
    return lines


def _length(shape: Any, value: Any, path: str, unit: str) -> list[str]:
    low, high = shape.metadata.get("min", 0), shape.metadata.get("max", 1 << 62)
    return [] if low <= len(value) <= high else [f"{path} has {len(value)} {unit}, not {low} to {high}"]


@functools.cache
def _pattern(text: str) -> re.Pattern[str] | None:
    """A pattern of a model, which is Java's; None where Python has nothing like it."""
    # A range over surrogate pairs is Java's way to write what is beyond 16 bits.
    text = text.replace(r"\uD800\uDC00-\uDBFF\uDFFF", "\\U00010000-\\U0010ffff")
    try:
        return re.compile(text)
    except re.error:
        return None


def _scalar(shape: Any, value: Any, path: str) -> list[str]:
    meta, kind = shape.metadata, shape.type_name
    if kind == "string":
        if not isinstance(value, str):
            return [f"{path}={value!r} is no text"]
        if getattr(shape, "enum", None) and value not in shape.enum:
            return [f"{path}={value} is not one of {', '.join(shape.enum)}"]
        pattern = _pattern(meta["pattern"]) if "pattern" in meta else None
        if pattern and not pattern.fullmatch(value):
            return [f"{path}={value} does not match {meta['pattern']}"]
        if not meta.get("min", 0) <= len(value) <= meta.get("max", 1 << 30):
            return [f"{path}={value} has {len(value)} characters"]
    if kind in ("integer", "long", "float", "double"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return [f"{path}={value!r} is no number"]
        if not meta.get("min", -(1 << 62)) <= value <= meta.get("max", 1 << 62):
            return [f"{path}={value} is out of range"]
    if kind == "boolean" and not isinstance(value, bool):
        return [f"{path}={value} is no boolean"]
    return []
