"""What the module MONAILabel says in its own source of the settings that it reads."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from tests.slicer import standin


@dataclass(frozen=True)
class Asked:
    """A setting that the module asks for.

    Parameters
    ----------
    key:
        Its key.
    separator:
        What the module splits its text at, empty where it does not.
    """

    key: str
    separator: str = ""


def source() -> str:
    """The module's source, of the locked wheel."""
    return (standin.plugin() / standin.NAME / f"{standin.NAME}.py").read_text(encoding="utf-8")


def asked(text: str) -> dict[str, Asked]:
    """Settings that a source reads, by key.

    Parameters
    ----------
    text:
        Python, which calls ``settings.value(KEY)``, ``slicer.util.settingsValue(KEY, …)`` or
        ``registerProperty(KEY, …)``; what it assigns may be split at a text.
    """
    tree = ast.parse(text)
    found = {
        key: Asked(key)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("value", "settingsValue", "registerProperty")
        and (key := _text(node))
        and "/" in key
    }
    separators = {
        node.func.value.id: _text(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "split"
        and isinstance(node.func.value, ast.Name)
    }
    for name, separator in separators.items():
        for key in found:
            if key.split("/")[-1] == name:
                found[key] = Asked(key, separator)
    return found


def _text(call: ast.Call) -> str:
    """First argument of a call, if it is a text."""
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""
