"""The settings document of an instance: which schema it is written in, its TOML, its place in user data."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import LiteralScalarString

from kiln.errors import RefusedError
from kiln.manifest import Strict
from kiln.mistakes import suggest

FILE = Path(__file__).with_suffix(".toml")

PLACE = "/etc/kiln/settings.toml"
"""Where the image looks for the document (role ``settings``)."""

LARGEST = 16 * 1024
"""Bytes of user data before base64 (EC2 user guide, Run commands at launch)."""

_HEAD = "#cloud-config"

_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Schema(Strict):
    """``[schema.N]``: what a document of schema N may say."""

    keys: list[str] = Field(min_length=1, description="keys of its first level, without schema")


class Downgrade(Strict):
    """``[[downgrade]]``: what becomes of a key in the schema before. One of the three is given."""

    schema_: int = Field(alias="schema", ge=2, description="schema that has the key")
    key: str = Field(description="the key there")
    to: str | None = Field(default=None, description="key of the schema before that takes the value")
    without: str | None = Field(default=None, description="left out, and what that means")
    refuse: str | None = Field(default=None, description="cannot be left out, since this would be lost")

    @model_validator(mode="after")
    def _one_way(self) -> Downgrade:
        if sum(each is not None for each in (self.to, self.without, self.refuse)) != 1:
            raise ValueError(f"{self.key} of schema {self.schema_} needs one of to, without, refuse")
        return self


class Table(Strict):
    """The whole of ``settings.toml``."""

    schema_: dict[int, Schema] = Field(alias="schema", min_length=1, description="schemas by number")
    downgrade: list[Downgrade] = Field(default_factory=list, description="see Downgrade")

    @model_validator(mode="after")
    def _a_way_for_each_key(self) -> Table:
        numbers = sorted(self.schema_)
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError("schemas are numbered from 1 without a gap")
        for number in numbers[1:]:
            before, rows = set(self.schema_[number - 1].keys), self.rows(number)
            if missing := set(self.schema_[number].keys) - before - set(rows):
                raise ValueError(f"no downgrade says what becomes of {min(missing)} of schema {number}")
            if strange := {row.to for row in rows.values() if row.to} - before:
                raise ValueError(f"schema {number - 1} has no {min(strange)}")
        return self

    @property
    def newest(self) -> int:
        """The schema in which kiln.toml has settings."""
        return max(self.schema_)

    def rows(self, number: int) -> dict[str, Downgrade]:
        """Return what becomes of the keys of a schema in the one before it."""
        return {row.key: row for row in self.downgrade if row.schema_ == number}


def load() -> Table:
    """Return the table of schemas of this checkout, :data:`FILE`."""
    return _loaded(FILE)


@cache
def _loaded(path: Path) -> Table:
    return Table.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Document:
    """A settings document.

    Parameters
    ----------
    schema:
        Its number.
    settings:
        What it says, without the number.
    lost:
        A line for each key that an older schema does not have.
    """

    schema: int
    settings: dict[str, Any]
    lost: tuple[str, ...] = field(default=(), compare=False)

    def as_toml(self) -> str:
        """Write it as the image reads it."""
        lines = [f"schema = {self.schema}"]
        lines += [f"{_key(key)} = {_toml(value)}" for key, value in self.settings.items()]
        return "\n".join(lines) + "\n"

    def as_data(self) -> dict[str, Any]:
        """Return it as one mapping that JSON can hold, for records."""
        data: dict[str, Any] = json.loads(json.dumps({"schema": self.schema, **self.settings}, default=str))
        return data


def document(
    settings: dict[str, Any], reads: Sequence[int], image: str, table: Table | None = None
) -> Document | None:
    """Write the settings of kiln.toml in the newest schema that an image reads.

    Parameters
    ----------
    settings:
        In the newest schema that we know.
    reads:
        Schemas that the image reads (``facts.settings_schemas`` of its manifest).
    image:
        Image and version, for messages.
    table:
        Schemas and downgrades, by default this checkout's.

    Returns
    -------
    Document or None
        None without settings: the image's own count.

    Raises
    ------
    RefusedError
        A key is none of ours, the image reads no schema of ours, or a key cannot be left out.
    """
    table = table or load()
    if not settings:
        return None
    known = table.schema_[table.newest].keys
    for key in settings:
        if key not in known:
            raise RefusedError(
                f"settings.{key} is no setting of schema {table.newest}", suggest(key, known, "settings")
            )
    return downgraded(Document(table.newest, dict(settings)), reads, image, table)


def downgraded(source: Document, reads: Sequence[int], image: str, table: Table | None = None) -> Document:
    """Write a document for an image that may read only older schemas than its own.

    Parameters
    ----------
    source:
        The document as it is.
    reads, image, table:
        As of :func:`document`.

    Returns
    -------
    Document
        The same where the image reads its schema; what was left out stands in ``lost``.

    Raises
    ------
    RefusedError
        The image reads none that the document can be written in.
    """
    table = table or load()
    if source.schema in reads:
        return source
    below = [number for number in reads if number < source.schema and number in table.schema_]
    if not below or source.schema not in table.schema_:
        raise RefusedError(
            f"{image} reads {_listed(reads)} of the settings document, ours is of schema {source.schema}",
            "take a version that reads it, or take the settings out of kiln.toml",
        )
    settings, lost = dict(source.settings), list(source.lost)
    for number in range(source.schema, max(below), -1):
        rows = table.rows(number)
        for key in [key for key in settings if key in rows]:
            row, value = rows[key], settings.pop(key)
            if row.refuse is not None:
                raise RefusedError(
                    f"{image} reads schema {max(below)}, which has no {key}: {row.refuse} would be lost",
                    f"take settings.{key} out of kiln.toml, or a version that reads schema {number}",
                )
            if row.to is not None:
                settings[row.to] = value
                lost.append(f"{key} is called {row.to} in schema {number - 1}")
            else:
                lost.append(f"{key} is left out in schema {number - 1}: {row.without}")
    return Document(max(below), settings, tuple(lost))


def _listed(reads: Sequence[int]) -> str:
    return f"schema {', '.join(map(str, reads))}" if reads else "no schema"


# ---- TOML: a writer for what tomllib has read; kiln's environment has none, and a document is a few lines


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(value: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which only TOML escapes.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


_WRITERS: tuple[tuple[type | tuple[type, ...], Callable[[Any], str]], ...] = (
    (bool, lambda value: str(value).lower()),
    (str, _text),
    (int, str),
    (float, repr),
    ((datetime, date, time), lambda value: value.isoformat()),
    (list, lambda value: f"[{', '.join(map(_toml, value))}]"),
    (dict, lambda value: f"{{{', '.join(f'{_key(k)} = {_toml(v)}' for k, v in value.items())}}}"),
)


def _toml(value: Any) -> str:
    return next(write for kind, write in _WRITERS if isinstance(value, kind))(value)


# ---- user data


def decoded(data: str | None) -> str | None:
    """Take user data out of base64.

    Returns
    -------
    str or None
        Empty where there is none; None where it is no text, as when it is compressed.
    """
    try:
        return base64.b64decode(data or "", validate=False).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None


def encoded(text: str) -> str:
    """Put user data into base64, as EC2 takes it."""
    return base64.b64encode(text.encode()).decode("ascii")


def found(text: str | None) -> Document | None:
    """Return the document that user data brings, None where it brings none of ours.

    Parameters
    ----------
    text:
        User data, out of base64.
    """
    config = _cloud_config(text)
    for entry in (config or {}).get("write_files") or []:
        if isinstance(entry, dict) and entry.get("path") == PLACE:
            try:
                data = tomllib.loads(str(entry.get("content", "")))
            except tomllib.TOMLDecodeError:
                return None
            number = data.pop("schema", None)
            return Document(number, data) if type(number) is int else None
    return None


def merged(text: str | None, wanted: Document | None) -> str:
    """Put a document into user data, and leave what else is there as it is.

    Parameters
    ----------
    text:
        User data as it is, out of base64; None where it is no text.
    wanted:
        The document; None takes ours out.

    Returns
    -------
    str
        The same where nothing changes.

    Raises
    ------
    RefusedError
        It is no cloud-config and nothing can be put beside it, or would become too large.
    """
    if wanted == found(text) and text is not None:
        return text
    config = _cloud_config(text)
    if text is None or (text.strip() and config is None):
        if wanted is None:
            return text or ""
        raise RefusedError(
            "the launch template's user data is no cloud-config: settings cannot be put beside it",
            f"make a template version whose user data begins with {_HEAD}, or has none",
        )
    config = config or {}
    files = [
        entry
        for entry in config.pop("write_files", None) or []
        if not (isinstance(entry, dict) and entry.get("path") == PLACE)
    ]
    if wanted is not None:
        content = LiteralScalarString(wanted.as_toml())
        files.append({"path": PLACE, "permissions": "0644", "content": content})
    if files:
        config["write_files"] = files
    written = f"{_HEAD}\n{_dumped(config)}" if config else ""
    if (size := len(written.encode())) > LARGEST:
        raise RefusedError(
            f"user data with the settings has {size} bytes, EC2 takes {LARGEST}", "shorten the settings"
        )
    return written


def _cloud_config(text: str | None) -> dict[str, Any] | None:
    """Cloud-config as a mapping, empty for no user data, None for anything else."""
    if text is None or not text.strip():
        return {} if text is not None else None
    if not text.startswith(_HEAD):
        return None
    try:
        # Without its first line, a comment for YAML, which would be kept and stand there twice.
        parsed = _yaml().load(text.partition("\n")[2])
    except YAMLError:
        return None
    return parsed if isinstance(parsed, dict) else None if parsed is not None else {}


def _yaml() -> YAML:
    yaml = YAML()  # keeps the order and the comments of what is not ours
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


def _dumped(config: dict[str, Any]) -> str:
    stream = io.StringIO()
    _yaml().dump(config, stream)
    return stream.getvalue()
