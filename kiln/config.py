"""kiln.toml as strict models; every mistake in it is told by its line."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from kiln import paths
from kiln.errors import UsageError

Key = tuple[str | int, ...]
"""Where a value stands in the document: keys of tables, indices of arrays."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=40)]
"""A name that is safe in file names, tags and host names."""

MODEL_NAME = r"^[A-Za-z0-9_]+$"


class Section(BaseModel):
    """A table of kiln.toml: no unknown keys, no types that nearly fit."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Project(Section):
    """``[project]``: whose images these are."""

    name: Name = Field(description="prefix of every name, tag and parameter", examples=["kiln"])
    owner: str = Field(min_length=1, description="team that answers for the images", examples=["imaging"])


class Image(Section):
    """``[image.NAME]``: what is baked into one image."""

    base: Literal["debian-12"] = Field(
        default="debian-12", description="distribution that the image starts from", examples=["debian-12"]
    )
    playbook: Path = Field(
        strict=False,
        description="playbook that makes the image; default ansible/playbooks/<NAME with _ for ->.yml",
        examples=["ansible/playbooks/monai_label.yml"],
    )
    template: Path = Field(
        strict=False,
        description="folder of the Packer template; default packer/<NAME>",
        examples=["packer/monai-label"],
    )
    app: Name | None = Field(
        default=None,
        description="MONAI Label sample app; none on an image without a server",
        examples=["radiology"],
    )
    models: list[Annotated[str, StringConstraints(pattern=MODEL_NAME)]] = Field(
        default_factory=list, description="models that the app serves", examples=[["segmentation_spleen"]]
    )
    weights: Literal["pinned", "random"] | None = Field(
        default=None,
        description="origin of the models' weights: pinned by URL and sha256, or random for demonstration",
        examples=["pinned"],
    )
    instance_types: list[Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$")]] = Field(
        default_factory=list,
        description="EC2 instance types that the image must suit",
        examples=[["g5.xlarge"]],
    )
    root_gb: int = Field(
        default=40,
        ge=1,
        le=16384,
        description="size of the root disk in GiB (2^30 bytes, as EBS counts), as a guest sees it",
        examples=[40],
    )

    @field_validator("playbook", "template", mode="after")
    @classmethod
    def _beside_kiln_toml(cls, value: Path, info: ValidationInfo) -> Path:
        folder: Path = (info.context or {}).get("folder", Path())
        path = (folder / value).resolve()
        if info.field_name == "playbook" and not path.is_file():
            raise ValueError(f"there is no file {path}")
        if info.field_name == "template" and not path.is_dir():
            raise ValueError(f"there is no folder {path}")
        return path

    @model_validator(mode="after")
    def _a_server_is_whole(self) -> Image:
        server = {"app": self.app, "models": self.models, "weights": self.weights}
        given = [key for key, value in server.items() if value]
        missing = [key for key in server if key not in given]
        if given and missing:
            raise ValueError(
                f"{' and '.join(given)} without {' and '.join(missing)}: a server needs all three"
            )
        return self


class Waiver(Section):
    """``[[waiver]]``: a refused check that is accepted until a day."""

    check: str = Field(min_length=1, description="name of the check", examples=["driver-support"])
    reason: str = Field(
        min_length=10, description="why it is accepted", examples=["580 follows in the next release"]
    )
    until: date = Field(description="last day on which it counts", examples=[date(2027, 3, 31)])


class Config(Section):
    """The whole of kiln.toml."""

    project: Project = Field(description="whose images these are")
    image: dict[Name, Image] = Field(min_length=1, description="images by name")
    waiver: list[Waiver] = Field(
        default_factory=list, description="refused checks that are accepted for a while"
    )

    @model_validator(mode="before")
    @classmethod
    def _default_places(cls, data: Any) -> Any:
        """Fill in the playbook and the template that follow from an image's name."""
        images = data.get("image") if isinstance(data, dict) else None
        if not isinstance(images, dict):
            return data
        filled = {
            name: {
                "playbook": f"ansible/playbooks/{name.replace('-', '_')}.yml",
                "template": f"packer/{name}",
                **table,
            }
            if isinstance(table, dict)
            else table
            for name, table in images.items()
        }
        return {**data, "image": filled}

    def select(self, name: str) -> Image:
        """Return an image by its name.

        Parameters
        ----------
        name:
            As in ``[image.NAME]``.

        Returns
        -------
        Image
            What ``[image.NAME]`` says.

        Raises
        ------
        UsageError
            There is no such image.
        """
        if name not in self.image:
            raise UsageError(f"kiln.toml has no image {name!r}", suggest(name, self.image, "images"))
        return self.image[name]


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


def default_path() -> Path:
    """kiln.toml of the checkout; ``KILN_CONFIG`` names another.

    Returns
    -------
    Path
        The file; whether it is there is not looked at.
    """
    return Path(os.environ.get("KILN_CONFIG") or paths.ROOT / "kiln.toml")


def load(path: Path | None = None) -> Config:
    """Read kiln.toml.

    Parameters
    ----------
    path:
        The file, by default :func:`default_path`. Paths in it are relative to its folder.

    Returns
    -------
    Config
        With absolute paths.

    Raises
    ------
    UsageError
        It cannot be read, is no TOML, or says something that cannot be meant.
    """
    path = path or default_path()
    text = _read(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _broken(path, text, str(error)) from None
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, brackets nested a thousand deep: tomllib lets these through.
        what = _first_line(error)
        raise UsageError(f"{path}: this is no TOML: {what}", "look for a very long or deep value") from None
    try:
        return Config.model_validate(data, context={"folder": path.resolve().parent})
    except ValidationError as error:
        raise _refused(path, text, error) from None


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        # ValueError: a null byte in the name.
        what = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path}: {what}", "name a readable file by --config or KILN_CONFIG") from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        bad = f"byte {raw[error.start]:#04x} is not UTF-8"
        raise UsageError(f"{path}:{line}: {bad}", "save the file as UTF-8") from None


def _first_line(error: BaseException) -> str:
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


def _broken(path: Path, text: str, message: str) -> UsageError:
    """Turn tomllib's message into ours, with the line that it names."""
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


def _refused(path: Path, text: str, error: ValidationError) -> UsageError:
    """Tell the first of the mistakes: one message, one line, one hint."""
    problems = error.errors(include_url=False)
    # An unknown key explains the missing one beside it, so it is told first; what nobody wrote (the default
    # place of a playbook, seen from another folder) last.
    data = tomllib.loads(text)
    first = min(problems, key=lambda problem: _rank(data, problem))
    key: Key = tuple(part for part in first["loc"] if part != "[key]")
    what, hint = _explain(key, first)
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


def _explain(key: Key, problem: Mapping[str, Any]) -> tuple[str, str]:
    """Say what is wrong with a value and what would be right."""
    name, kind, context = _dotted(key), problem["type"], problem.get("ctx", {})
    section, field = _declared(key)
    if kind == "extra_forbidden":
        parent, _ = _declared(key[:-1])
        known = parent.model_fields if parent else ()
        return f"unknown key {name}", suggest(str(key[-1]), known, "keys here")
    if kind == "missing":
        return f"{name} is missing", f"add {_example(key, section, field)}"
    if kind == "literal_error":
        return f"{name} is {problem['input']!r}", f"it can be {context['expected']}"
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
        value = field.examples[0]
        return f"{next(p for p in reversed(key) if isinstance(p, str))} = {_toml(value)}"
    table = ".".join(str(part) for part in key if isinstance(part, str))
    return f"[{table}.NAME]" if section is None else f"[{table}]"


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _declared(key: Key) -> tuple[type[Section] | None, FieldInfo | None]:
    """Return the model that a key holds, or else the field that it is."""
    at: Any = Config
    field: FieldInfo | None = None
    for part in key:
        if isinstance(at, type) and issubclass(at, Section):
            field = at.model_fields.get(str(part))
            at = field.annotation if field else None
        else:
            at = get_args(at)[-1] if get_origin(at) in (dict, list) else None
    return (at, None) if isinstance(at, type) and issubclass(at, Section) else (None, field)
