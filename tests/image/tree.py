"""The listing of an image's root, and what the checks ask of files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from testinfra.host import Host


@dataclass(frozen=True, slots=True)
class Entry:
    """One path as find lists it."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    target: str = ""
    """Where a link leads, as it is written."""


class Tree:
    """Paths of one file system, without what is mounted on it."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.entries = entries

    @classmethod
    def scan(cls, host: Host) -> Tree:
        done = host.run(r"find / -xdev -printf '%y\t%m\t%U\t%G\t%s\t%p\0%l\0'")
        assert done.rc == 0, f"the root cannot be listed: {done.stderr[:200]}"
        entries = {}
        parts = [part.decode(errors="surrogateescape") for part in done.stdout_bytes.split(b"\0")]
        for line, target in zip(parts[:-1:2], parts[1::2], strict=True):
            kind, mode, uid, gid, size, path = line.split("\t", 5)
            entries[path] = Entry(kind, int(mode, 8), int(uid), int(gid), int(size), target)
        assert "/etc" in entries, "the root has no /etc"
        return cls(entries)

    def __contains__(self, path: str) -> bool:
        return path in self.entries

    def __getitem__(self, path: str) -> Entry:
        assert path in self.entries, f"{path} is missing"
        return self.entries[path]

    def matching(self, *patterns: str) -> list[str]:
        """Paths that match a glob, of which ``*`` crosses folders."""
        return sorted(
            path for path in self.entries if any(fnmatchcase(path, pattern) for pattern in patterns)
        )

    def below(self, *folders: str) -> list[str]:
        """Paths below folders, without the folders themselves."""
        return sorted(
            path for path in self.entries if any(path.startswith(f"{folder}/") for folder in folders)
        )

    def files(self, paths: Iterable[str]) -> list[str]:
        """Those of the paths that are regular files."""
        return [path for path in paths if self.entries[path].kind == "f"]


def shown(found: Iterable[str], limit: int = 5) -> str:
    """The first few of a list, for a message in one line."""
    listed = list(found)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def settings(text: str) -> dict[str, str]:
    """KEY=value lines, without comments and quotes around the whole value."""
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.split("=", 1) for line in lines if "=" in line and not line.startswith("#")]
    return {
        key: value[1:-1] if value[:1] in "'\"" and value[-1:] == value[:1] else value for key, value in pairs
    }


def unit(text: str) -> dict[str, list[str]]:
    """A unit file as key → values; keys do not repeat across the sections that we write."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith(("#", ";", "[")):
            key, value = line.split("=", 1)
            found.setdefault(key.strip(), []).append(value.strip())
    return found
