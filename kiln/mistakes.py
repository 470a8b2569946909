"""What is wrong with a TOML document: the line, what is written there, and what would be right."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, StringConstraints, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from kiln.errors import UsageError

Key = tuple[str | int, ...]
"""Where a value stands in the document: keys of tables, indices of arrays."""


Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=40)]
"""A name that is safe in file names, tags and host names."""


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
    data = tomllib.loads(text)
    problems = [_Problem.of(each, model) for each in error.errors(include_url=False)]
    # Of a value that may be of two kinds pydantic says what is wrong with it as either; the one that looked
    # further into it is meant.
    problems = [
        each for each in problems if not (each.as_kind and any(other.inside(each) for other in problems))
    ]
    # An unknown key explains the missing one beside it, so it is told first; what nobody wrote (the default
    # place of a playbook, seen from another folder) last.
    first = min(problems, key=lambda problem: problem.rank(data))
    what, hint = _explain(first)
    more = len({problem.key for problem in problems}) - 1
    counted = f" (and {more} more)" if more else ""
    return UsageError(f"{path}:{line_of(text, first.key)}: {what}{counted}", hint)


@dataclass(frozen=True)
class _Problem:
    """A mistake as pydantic tells it.

    Parameters
    ----------
    told:
        Its type, input and context.
    key:
        Where it is in the document.
    as_kind:
        Whether it is about the value as one of several kinds that it may be of.
    parent, section, field:
        The table that has the key; the table that stands there, or else the field.
    """

    told: Mapping[str, Any]
    key: Key
    as_kind: bool
    parent: type[Section] | None
    section: type[Section] | None
    field: FieldInfo | None

    @classmethod
    def of(cls, told: Mapping[str, Any], model: type[Section]) -> _Problem:
        """Find out where it is: what pydantic calls the kind of a value stands in no document."""
        where = (*told["loc"], *told.get("ctx", {}).get("at", ()))
        at: Any = model
        key: list[str | int] = []
        parent: type[Section] | None = None
        field: FieldInfo | None = None
        as_kind = False
        for part in (part for part in where if part != "[key]"):
            members = _members(at)
            kind = next((each for label, each in members if _is_called(label, each, part)), None)
            as_kind = len(members) > 1 and kind is not None
            if as_kind:
                at = kind
                continue
            # A validator of ours names the key of what it read, and no kind.
            kinds = [each for _, each in members]
            at = next((each for each in kinds if _is_section(each) and part in each.model_fields), None)
            at = at or next(iter(kinds), None)
            key.append(part)
            if _is_section(at):
                parent, field = at, at.model_fields.get(str(part))
                at = field.annotation if field else None
            else:
                parent = None
                at = get_args(at)[-1] if get_origin(at) in (dict, list) else None
        members = _members(at)
        last = members[0][1] if len(members) == 1 else None
        section = last if _is_section(last) else None
        return cls(told, tuple(key), as_kind, parent, section, None if section else field)

    def inside(self, other: _Problem) -> bool:
        """Whether it is about a part of what another is about."""
        return len(self.key) > len(other.key) and self.key[: len(other.key)] == other.key

    def rank(self, data: Any) -> int:
        """How late it is told."""
        if self.told["type"] == "extra_forbidden":
            return 0
        written = _depth(data, self.key) == len(self.key)
        return 1 if written or self.told["type"] == "missing" else 2


def _is_section(at: Any) -> TypeGuard[type[Section]]:
    return isinstance(at, type) and issubclass(at, Section)


def _members(at: Any) -> list[tuple[str, Any]]:
    """What a value of a type may be, null aside: the tag of each kind, if it has one, and its type."""
    tag = ""
    while get_origin(at) is Annotated:
        at, *notes = get_args(at)
        tag = next((note.tag for note in notes if isinstance(note, Tag)), tag)
    if get_origin(at) in (Union, UnionType):
        return [member for each in get_args(at) if each is not NoneType for member in _members(each)]
    return [] if at is None else [(tag, at)]


def _is_called(tag: str, at: Any, part: str | int) -> bool:
    """Whether pydantic calls a kind so: by its tag, else by the name of its type."""
    return (
        part == tag if tag else str(part).partition("[")[0] == getattr(get_origin(at) or at, "__name__", "")
    )


def _dotted(key: Key) -> str:
    """Write a key as one would say it: image.monai-label.models[1], counted from 1."""
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


# pydantic speaks of dictionaries and instances; kiln.toml has tables. Its type of problem → our words.
_WRONG = {
    "bool_type": "neither true nor false",
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
    "too_long": "more than {max_length} are in it",
    "too_short": "nothing is in it",
}


_HINTED = "kiln_hinted"


def hinted(what: str, hint: str, at: Sequence[str | int] = ()) -> PydanticCustomError:
    """Return an error for a validator to raise that knows itself what would be right.

    Parameters
    ----------
    what:
        What is wrong.
    hint:
        What would be right.
    at:
        Where below the validated table it is; by default the table itself.
    """
    return PydanticCustomError(_HINTED, "{what}", {"what": what, "hint": hint, "at": tuple(at)})


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


def _explain(problem: _Problem) -> tuple[str, str]:
    """Say what is wrong with a value and what would be right."""
    name, kind, context = _dotted(problem.key), problem.told["type"], problem.told.get("ctx", {})
    if kind == "extra_forbidden":
        known = problem.parent.model_fields if problem.parent else ()
        return f"unknown key {name}", suggest(str(problem.key[-1]), known, "keys here")
    if kind == "missing":
        return f"{name} is missing", f"add {_example(problem)}"
    if kind == "literal_error":
        return f"{name} is {problem.told['input']!r}", f"it can be {context['expected']}"
    if kind == _HINTED:
        return f"{name}: {context['what']}", context["hint"]
    if kind == "value_error":
        return f"{name}: {context['error']}", _right(problem)
    shown = repr(problem.told["input"])
    shown = shown if len(shown) <= 40 else shown[:37] + "..."
    wrong = _WRONG.get(kind, problem.told["msg"]).format(**context)
    return f"{name} is {shown}: {wrong}", _right(problem)


def _right(problem: _Problem) -> str:
    """Say what belongs at a key."""
    if problem.told["loc"][-1:] == ("[key]",):
        return "a name is of small letters, digits and dashes, 40 characters at most"
    if problem.section is not None:
        return f"it is a table with the keys {', '.join(problem.section.model_fields)}"
    if problem.field is None:
        return "correct it"
    return f"{problem.field.description}; for example {_example(problem)}"


def _example(problem: _Problem) -> str:
    """Write a line of TOML that would do."""
    if problem.field is not None and problem.field.examples:
        return line(next(p for p in reversed(problem.key) if isinstance(p, str)), problem.field)
    table = ".".join(str(part) for part in problem.key if isinstance(part, str))
    return f"[{table}.NAME]" if problem.section is None else f"[{table}]"


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(item)}' for key, item in value.items())} }}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # A path of Windows is full of what a quoted text would read as escapes.
        return f"'{value}'" if "\\" in value else f'"{value}"'
    return str(value)
