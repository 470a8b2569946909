"""Apt's sources as apt reads them (sources.list(5)): both formats, options, and the keys that may sign."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

ARMOUR = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
FINGERPRINT = re.compile("[0-9A-Fa-f]{40}!?")

_NO = {"no", "false", "0", "off"}
_YES = {"yes", "true", "1", "on"}
_STRICT = ((re.compile("trusted|allow-.*"), _NO), (re.compile("check-.*"), _YES))
"""Options that decide whether apt checks what it gets → values with which it does."""


@dataclass(frozen=True)
class Keys:
    """What Signed-By names."""

    keyrings: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A line of a .list file, or a paragraph of a .sources file."""

    path: str
    kinds: tuple[str, ...]
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict)
    """Name in small letters → value."""

    def __str__(self) -> str:
        return f"{self.path}: {' '.join((*self.uris, *self.suites))}"

    @property
    def repositories(self) -> set[str]:
        """Address and suite of each repository, as reviewed.toml names them."""
        return {f"{uri.rstrip('/')} {suite}" for uri in self.uris for suite in self.suites}

    @property
    def loose(self) -> list[str]:
        """Options by which apt would take what nobody has signed, or what is no longer to be taken."""
        return [
            f"{name}={value}"
            for name, value in self.options.items()
            for pattern, strict in _STRICT
            if pattern.fullmatch(name) and value.strip().lower() not in strict
        ]

    @property
    def signed_by(self) -> Keys:
        """The keys that may sign.

        Raises
        ------
        AssertionError
            A part is neither a path nor a fingerprint.
        """
        value = self.options.get("signed-by", "").strip()
        if ARMOUR in value:
            # An empty line of a block is written as a dot.
            block = "\n".join("" if line.strip() == "." else line.strip() for line in value.splitlines())
            return Keys(blocks=(f"{block}\n",))
        parts = [part for part in re.split(r"[,\s]+", value) if part]
        keyrings = tuple(part for part in parts if part.startswith("/"))
        named = tuple(part.rstrip("!").upper() for part in parts if FINGERPRINT.fullmatch(part))
        strange = [part for part in parts if not part.startswith("/") and not FINGERPRINT.fullmatch(part)]
        assert not strange, (
            f"{self} is signed by what is neither a keyring nor a fingerprint: {strange[0][:80]}"
        )
        return Keys(keyrings, named)


def _line(path: str, line: str) -> Source:
    """``deb [option=value …] uri suite component …``."""
    found = re.match(r"(\S+)\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)", line)
    assert found, f"{path} has a line that is no source: {line[:80]}"
    kind, words, uri, suite = found.groups()
    options: dict[str, str] = {}
    for word in (words or "").split():
        name, _, value = word.partition("=")
        # Also name+=value and name-=value; apt's last one counts, and a second one is not meant.
        name = name.rstrip("+-").lower()
        assert name not in options, f"{path} sets {name} twice: {line[:80]}"
        options[name] = value.strip("\"'")
    return Source(path, (kind,), (uri,), (suite,), options)


def _paragraph(path: str, lines: list[str]) -> Source:
    """``Name: value``, with indented lines that go on with the one before."""
    fields: dict[str, str] = {}
    name = ""
    for line in lines:
        if line[0] in " \t":
            assert name, f"{path} begins with an indented line"
            fields[name] += f"\n{line.strip()}"
        else:
            name, colon, value = line.partition(":")
            name = name.strip().lower()
            assert colon, f"{path} has a line that is no field: {line[:80]}"
            assert name not in fields, f"{path} has {name} twice in a paragraph"
            fields[name] = value.strip()
    kinds, uris, suites = (tuple(fields.pop(key, "").split()) for key in ("types", "uris", "suites"))
    assert kinds and uris and suites, f"{path} has a paragraph without Types, URIs or Suites"
    return Source(path, kinds, uris, suites, fields)


def sources(path: str, text: str) -> Iterator[Source]:
    """Every source of a file.

    Parameters
    ----------
    path:
        Where it lies; its ending tells the format.
    text:
        What it holds.

    Raises
    ------
    AssertionError
        Something in it is no source.
    """
    if not path.endswith(".sources"):
        kept = (line.split("#")[0].strip() for line in text.splitlines())
        yield from (_line(path, line) for line in kept if line)
        return
    kept = [line.rstrip() for line in text.splitlines() if not line.startswith("#")]
    for block in re.split(r"\n{2,}", "\n".join(kept).strip("\n")):
        if block:
            yield _paragraph(path, block.splitlines())
