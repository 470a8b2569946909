"""Labels that were replaced or removed: kept for some days, with what was known of them.

They lie in ``.kiln-store/earlier/<tag>/<image>/``, where neither a stock server nor a user of the studies
looks for labels. Each has its entry of the index beside it, ``<file>.json``. An index that loses entries
because their files are not there any more, as where a mount is missing, is kept as well: in
``.kiln-store/indexes/``.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from .index import Entry
from .tree import OWN, Tree

FOLDER = f"{OWN}/earlier"

INDEXES = f"{OWN}/indexes"

DAYS = 30.0
"""Days that an earlier version is kept, where nobody says otherwise."""

_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(\d{8}T\d{6}Z)_[0-9a-f]{8}((?:\.[A-Za-z0-9_+-]+)*)")


@dataclass(frozen=True)
class Earlier:
    """An earlier version of a label.

    Parameters
    ----------
    image, tag:
        Whose.
    path:
        Its file, relative to the studies folder.
    until:
        When it was replaced or removed, in seconds since 1970.
    """

    image: str
    tag: str
    path: str
    until: float

    @property
    def ext(self) -> str:
        """Extension of its file."""
        parts = _NAME.fullmatch(self.path.rpartition("/")[2])
        return parts[2] if parts else ""


def path(image: str, tag: str, ext: str, now: float) -> str:
    """Return where a label that is about to be replaced is kept, relative to the studies folder.

    Parameters
    ----------
    image, tag, ext:
        Of the label.
    now:
        The time, in seconds since 1970.
    """
    stamp = datetime.fromtimestamp(now, UTC).strftime(_STAMP)
    return f"{FOLDER}/{tag}/{image}/{stamp}_{uuid4().hex[:8]}{ext}"


def keep_index(tree: Tree, file: str, now: float) -> None:
    """Keep an index that is about to lose entries.

    Parameters
    ----------
    tree:
        The studies.
    file:
        The index, relative to them.
    now:
        The time, in seconds since 1970.
    """
    stamp = datetime.fromtimestamp(now, UTC).strftime(_STAMP)
    tree.link(file, f"{INDEXES}/{stamp}_{uuid4().hex[:8]}.json")
    tree.sync(INDEXES)


def note(tree: Tree, file: str, entry: Entry) -> None:
    """Write beside an earlier version what the index has of it, durably."""
    folder = file.rpartition("/")[0]
    tree.move(tree.write(folder, json.dumps(entry).encode()), f"{file}.json")


def entry(tree: Tree, version: Earlier) -> Entry:
    """Return what the index had of an earlier version, empty where that was not noted."""
    raw = tree.read(f"{version.path}.json")
    found: Entry = json.loads(raw) if raw else {}
    return found


def versions(tree: Tree) -> Iterator[Earlier]:
    """Yield the earlier versions, the oldest of each label first."""
    return (version for version in _files(tree) if not version.path.endswith(".json"))


def _files(tree: Tree) -> Iterator[Earlier]:
    """Yield the versions, and what is noted of each as if it were one."""
    for tag in tree.folders(FOLDER):
        for image in tree.folders(f"{FOLDER}/{tag}"):
            there = f"{FOLDER}/{tag}/{image}"
            for name, until in _stamped(tree, there):
                yield Earlier(image, tag, f"{there}/{name}", until)


def _stamped(tree: Tree, folder: str) -> Iterator[tuple[str, float]]:
    """Yield the names that we gave in a folder, with the time in them, in seconds since 1970."""
    for name in sorted(tree.names(folder)):
        if parts := _NAME.fullmatch(name):
            yield name, datetime.strptime(parts[1], _STAMP).replace(tzinfo=UTC).timestamp()


def expire(tree: Tree, days: float, now: float | None = None) -> int:
    """Remove the versions that were replaced too long ago, and return how many.

    Parameters
    ----------
    tree:
        The studies.
    days:
        How many of them a version is kept.
    now:
        The time, in seconds since 1970.
    """
    limit = (time.time() if now is None else now) - days * 86400
    old = [version for version in _files(tree) if version.until < limit]
    for version in old:
        tree.unlink(version.path)
    for name, until in list(_stamped(tree, INDEXES)):
        if until < limit:
            tree.unlink(f"{INDEXES}/{name}")
    return sum(not version.path.endswith(".json") for version in old)
