"""The settings of sshd, read as sshd does (sshd_config(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from testinfra.host import Host

from tests.image.asking import text
from tests.image.tree import Tree

FILE = "/etc/ssh/sshd_config"
DEEPEST = 16
"""Files that include one another, as sshd follows them."""

_DIRECTIVE = re.compile(r'\s*"?(\w+)"?(?:\s*=\s*|\s+)(.*)')


@dataclass
class Settings:
    """What sshd is told."""

    values: dict[str, str] = field(default_factory=dict)
    """Keyword in small letters → value for everybody: the first counts."""

    matches: list[str] = field(default_factory=list)
    """Each block for some: its Match line and what follows, in one line."""


def _directives(said: str) -> Iterator[tuple[str, str]]:
    """Keyword in small letters, and its value without quotes."""
    for line in said.splitlines():
        if found := _DIRECTIVE.match(line.split("#")[0]):
            yield found[1].lower(), " ".join(found[2].replace('"', " ").split())


def _read(host: Host, tree: Tree, path: str, made: Settings, *, inside: bool, depth: int = 0) -> None:
    """Add what a file says; a block that it begins ends with it."""
    assert depth < DEEPEST, f"{path} includes itself"
    for keyword, value in _directives(text(host, path)):
        if keyword == "match":
            made.matches.append(f"Match {value}")
            inside = True
        elif keyword == "include":
            for pattern in value.split():
                for name in _included(tree, pattern):
                    _read(host, tree, name, made, inside=inside, depth=depth + 1)
        elif inside:
            made.matches[-1] += f"; {keyword} {value}"
        else:
            made.values.setdefault(keyword, value)


def _included(tree: Tree, pattern: str) -> list[str]:
    full = pattern if pattern.startswith("/") else f"/etc/ssh/{pattern}"
    # Here * does not cross folders.
    return [path for path in tree.matching(full) if path.count("/") == full.count("/")]


def settings(host: Host, tree: Tree) -> Settings:
    """What sshd is told by its file and those that it includes.

    Parameters
    ----------
    host, tree:
        The image.
    """
    made = Settings()
    _read(host, tree, FILE, made, inside=False)
    assert made.values, f"{FILE} says nothing"
    return made
