"""What is wrong with a TOML document: the line, what is written there, and what would be right."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from kiln.errors import UsageError

Key = tuple[str | int, ...]
"""Where a value stands in the document: keys of tables, indices of arrays."""


class Section(BaseModel):
    """A table of kiln.toml: no unknown keys, no types that nearly fit."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def suggest(word: str, known: Iterable[str], noun: str) -> str:
    """Say which known word was probably meant, and which there are.

    Parameters
    ----------
    word:
        What was written.
    known:
        What would have been right.
    noun:
        What the known words are, in the plural.

    Returns
    -------
    str
        One line, a hint.
    """
    words = sorted(known)
    if not words:
        return f"there are no {noun}"
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    start = f"did you mean {close[0]!r}? " if close else ""
    return f"{start}{noun}: {', '.join(words)}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its name where it has none.

    Parameters
    ----------
    error:
        Any exception.
    """
    return (str(error) or type(error).__name__).splitlines()[0]


# Start of tomllib's message → what would be right.
_RIGHT = {
    "Invalid value": "text needs quotes; yes and no are true and false",
    "Cannot declare": "each table and each key may stand once",
    "Cannot overwrite": "each table and each key may stand once",
    "Expected '='": 'write key = "value", or [table]',
    "Unclosed array": "close the bracket",
    "Unterminated": "close the quote",
    "Illegal character": 'text ends on its own line; longer text stands between """',
}


def broken(path: Path, text: str, message: str) -> UsageError:
    """Turn tomllib's message into ours, with the line that it names.

    Parameters
    ----------
    path:
        The file, for the message.
    text:
        What stands in it.
    message:
        What tomllib says.
    """
    found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    what = message[: found.start()] if found else message
    line = int(found[1]) if found and found[1] else text.count("\n") + 1
    hint = next((right for start, right in _RIGHT.items() if what.startswith(start)), "correct this line")
    return UsageError(f"{path}:{line}: this is no TOML: {what}", hint)


def line_of(text: str, key: Sequence[str | int]) -> int:
    """Line on which a value of a TOML document starts.

    The TOML libraries that are kept up give no positions. But the ends of statements are exactly the
    places where the document, cut there, still parses; so the first cut that has the key ends its
    statement.

    Parameters
    ----------
    text:
        A document that parses.
    key:
        Where the value stands.

    Returns
    -------
    int
        From 1; for a key that is missing, the line of the table that should have it.
    """
    lines = text.split("\n")
    best, depth, start = 1, 0, 1
    for end in range(1, len(lines) + 1):
        try:
            data = tomllib.loads("\n".join(lines[:end]))
        except ValueError:
            continue
        if (reached := _depth(data, key)) > depth:
            best, depth = start, reached
        start = end + 1
    return best


def _depth(data: Any, key: Sequence[str | int]) -> int:
    """How many steps of the key the document has."""
    for step, part in enumerate(key):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return step
    return len(key)


def refused(path: Path, text: str, error: ValidationError, model: type[Section]) -> UsageError:
    """Tell the first of the mistakes: one message, one line, one hint.

    Parameters
    ----------
    path:
        The file, for the message.
    text:
        What stands in it.
    error:
        What pydantic says.
    model:
        The model of the whole document.
    """
    problems = error.errors(include_url=False)
    # An unknown key explains the missing one beside it, so it is told first; what nobody wrote (the default
    # place of a playbook, seen from another folder) last.
    data = tomllib.loads(text)
    first = min(problems, key=lambda problem: _rank(data, problem))
    key: Key = tuple(part for part in first["loc"] if part != "[key]")
    what, hint = _explain(key, first, model)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return UsageError(f"{path}:{line_of(text, key)}: {what}{more}", hint)


def _rank(data: Any, problem: Mapping[str, Any]) -> int:
    """Return how late a mistake is told."""
    if problem["type"] == "extra_forbidden":
        return 0
    key = [part for part in problem["loc"] if part != "[key]"]
    return 1 if _depth(data, key) == len(key) or problem["type"] == "missing" else 2


def _dotted(key: Key) -> str:
    """Write a key as one would say it: image.monai-label.models[1], counted from 1."""
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


# pydantic speaks of dictionaries and instances; kiln.toml has tables. Its type of problem → our words.
_WRONG = {
    "date_type": "not a date without quotes",
    "dict_type": "not a table",
    "greater_than_equal": "less than {ge}",
    "int_type": "not a whole number without quotes",
    "less_than_equal": "more than {le}",
    "list_type": "not a list in square brackets",
    "model_type": "not a table",
    "string_pattern_mismatch": "it must match {pattern}",
    "string_too_long": "longer than {max_length} characters",
    "string_too_short": "shorter than {min_length} characters",
    "string_type": "not text in quotes",
    "too_short": "nothing is in it",
}


_HINTED = "kiln_hinted"


def hinted(what: str, hint: str) -> PydanticCustomError:
    """Return an error for a validator to raise that knows itself what would be right.

    Parameters
    ----------
    what:
        What is wrong.
    hint:
        What would be right.
    """
    return PydanticCustomError(_HINTED, "{what}", {"what": what, "hint": hint})


def line(key: str, field: FieldInfo) -> str:
    """Return a line of TOML that would do for a field.

    Parameters
    ----------
    key:
        The field's name.
    field:
        The field, with an example.
    """
    return f"{key} = {_toml((field.examples or [''])[0])}"


def _explain(key: Key, problem: Mapping[str, Any], model: type[Section]) -> tuple[str, str]:
    """Say what is wrong with a value and what would be right."""
    name, kind, context = _dotted(key), problem["type"], problem.get("ctx", {})
    section, field = _declared(key, model)
    if kind == "extra_forbidden":
        parent, _ = _declared(key[:-1], model)
        known = parent.model_fields if parent else ()
        return f"unknown key {name}", suggest(str(key[-1]), known, "keys here")
    if kind == "missing":
        return f"{name} is missing", f"add {_example(key, section, field)}"
    if kind == "literal_error":
        return f"{name} is {problem['input']!r}", f"it can be {context['expected']}"
    if kind == _HINTED:
        return f"{name}: {context['what']}", context["hint"]
    if kind == "value_error":
        return f"{name}: {context['error']}", _right(key, section, field)
    shown = repr(problem["input"])
    shown = shown if len(shown) <= 40 else shown[:37] + "..."
    wrong = _WRONG.get(kind, problem["msg"]).format(**context)
    return f"{name} is {shown}: {wrong}", _right(key, section, field)


def _right(key: Key, section: type[Section] | None, field: FieldInfo | None) -> str:
    """Say what belongs at a key."""
    if section is not None:
        return f"it is a table with the keys {', '.join(section.model_fields)}"
    if field is None:
        return "correct it"
    return f"{field.description}; for example {_example(key, section, field)}"


def _example(key: Key, section: type[Section] | None, field: FieldInfo | None) -> str:
    """Write a line of TOML that would do."""
    if field is not None and field.examples:
        return line(next(p for p in reversed(key) if isinstance(p, str)), field)
    table = ".".join(str(part) for part in key if isinstance(part, str))
    return f"[{table}.NAME]" if section is None else f"[{table}]"


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _declared(key: Key, model: type[Section]) -> tuple[type[Section] | None, FieldInfo | None]:
    """Return the model that a key holds, or else the field that it is."""
    at: Any = model
    field: FieldInfo | None = None
    for part in key:
        if isinstance(at, type) and issubclass(at, Section):
            field = at.model_fields.get(str(part))
            at = field.annotation if field else None
        else:
            at = get_args(at)[-1] if get_origin(at) in (dict, list) else None
    return (at, None) if isinstance(at, type) and issubclass(at, Section) else (None, field)
