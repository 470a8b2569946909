"""One entry of a list in a YAML file, written in place; every other byte of the file stays."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

_PLAIN = re.compile(r"[A-Za-z][\w./:%?&=+~@-]*[\w/]")
"""Text that YAML reads as it stands, unless it is one of YAML's words."""


def put(text: str, variable: str, place: int, entry: Mapping[str, str | int]) -> str:
    """Write an entry of a list.

    A round trip through ruamel.yaml keeps comments, but moves those that follow the list into it and
    indents the whole file anew. So the parser only tells where things stand, and the text is edited.

    Parameters
    ----------
    text:
        A YAML document, a mapping.
    variable:
        Key of the list.
    place:
        Which entry, from 0; the length of the list adds one.
    entry:
        Keys and values. Other keys of an entry that is there stay as they are.

    Returns
    -------
    str
        The document with the entry.

    Raises
    ------
    KeyError
        The document has no such list.
    """
    listed = _child(YAML().compose(text), variable)
    if not isinstance(listed, SequenceNode):
        raise KeyError(variable)
    if place < len(listed.value):
        return _update(text, listed.value[place], entry)
    return _append(text, listed, entry)


def _child(mapping: Node | None, key: str) -> Node | None:
    pairs = mapping.value if isinstance(mapping, MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _scalar(value: str | int) -> str:
    """Write a value such that it is read back as itself."""
    if isinstance(value, str) and not (_PLAIN.fullmatch(value) and YAML(typ="safe").load(value) == value):
        # JSON's escapes are YAML's, but for the pairs that it makes of what lies beyond 16 bits.
        quoted = json.dumps(value, ensure_ascii=False)
        return re.sub(r"[^ -~]", lambda found: f"\\U{ord(found[0]):08x}", quoted)
    # A digest is quoted however it reads: the next one may be all digits.
    return f'"{value}"' if re.fullmatch(r"[0-9a-f]{64}", str(value)) else str(value)


def _flow(entry: Mapping[str, str | int]) -> str:
    return f"{{{', '.join(f'{key}: {_scalar(value)}' for key, value in entry.items())}}}"


def _update(text: str, node: Node, entry: Mapping[str, str | int]) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    if not isinstance(node, MappingNode) or not node.value or node.flow_style:
        return text[:start] + _flow(entry) + text[end:]
    edits: list[tuple[int, int, str]] = []
    missing = ""
    for key, value in entry.items():
        there = _child(node, key)
        if there is None:
            missing += f"\n{' ' * node.start_mark.column}{key}: {_scalar(value)}"
        elif there.value != str(value):
            edits.append((there.start_mark.index, there.end_mark.index, _scalar(value)))
    at = _line_end(text, node)
    edits.append((at, at, missing))
    # From the end, so that the places before stay true.
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _append(text: str, listed: SequenceNode, entry: Mapping[str, str | int]) -> str:
    start, end = listed.start_mark.index, listed.end_mark.index
    if listed.value and listed.flow_style:
        at = listed.value[-1].end_mark.index
        return f"{text[:at]}, {_flow(entry)}{text[at:]}"
    column = listed.start_mark.column if listed.value else 2
    lines = [f"{key}: {_scalar(value)}" for key, value in entry.items()]
    block = f"\n{' ' * column}- " + f"\n{' ' * column}  ".join(lines)
    if not listed.value:
        return text[:start].rstrip(" ") + block + text[end:]
    at = _line_end(text, _last(listed))
    return text[:at] + block + text[at:]


def _last(node: Node) -> Node:
    """Return the scalar that ends a node: the marks of a block end only where the next thing starts."""
    while isinstance(node, MappingNode | SequenceNode) and node.value and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node


def _line_end(text: str, node: Node) -> int:
    """Return where the line ends on which a node ends, its comment included."""
    at = text.find("\n", _last(node).end_mark.index)
    return len(text) if at < 0 else at
