"""A request or an answer against botocore's model of the service: moto looks at neither."""

from __future__ import annotations

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
        missing = [f"{path}.{name} is missing" for name in shape.required_members if value.get(name) is None]
        unknown = [f"{path}.{name} is unknown" for name in value if name not in shape.members]
        inside = (wrong(member, value.get(name), f"{path}.{name}") for name, member in shape.members.items())
        return missing + unknown + [line for lines in inside for line in lines]
    if kind == "list":
        return [line for n, each in enumerate(value) for line in wrong(shape.member, each, f"{path}[{n}]")]
    return _scalar(shape, value, path)


def _scalar(shape: Any, value: Any, path: str) -> list[str]:
    meta, kind = shape.metadata, shape.type_name
    if kind == "string":
        if getattr(shape, "enum", None) and value not in shape.enum:
            return [f"{path}={value} is not one of {', '.join(shape.enum)}"]
        # Some are Java's, with what XML allows in its own escapes: Python reads no such pattern.
        if meta.get("pattern", r"\u").find(r"\u") < 0 and not re.fullmatch(meta["pattern"], value):
            return [f"{path}={value} does not match {meta['pattern']}"]
        if not meta.get("min", 0) <= len(value) <= meta.get("max", 1 << 30):
            return [f"{path}={value} has {len(value)} characters"]
    if kind in ("integer", "long") and not meta.get("min", -(1 << 62)) <= value <= meta.get("max", 1 << 62):
        return [f"{path}={value} is out of range"]
    if kind == "boolean" and not isinstance(value, bool):
        return [f"{path}={value} is no boolean"]
    return []
