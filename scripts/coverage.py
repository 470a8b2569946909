"""Which tasks and handlers of the roles have run: all that there are, and what runs noted of them."""

from __future__ import annotations

import configparser
import fnmatch
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kiln import paths
from kiln.errors import KilnError
from kiln.manifest import sha256_file

PLUGIN = "kiln_coverage"

WINDOWS: tuple[str, ...] = ("appstream/tasks/windows*", "slicer/tasks/windows*")
"""Files that only Windows executes, as patterns below ``ansible/roles``: tests/windows rehearses them."""

FORGOTTEN_AFTER = 3600.0
"""Seconds after which a run's notes are removed when every file they speak of has changed since."""

_BLOCKS = ("block", "rescue", "always")

# They only say which tasks come next; no callback is told of them as of a task.
_STRUCTURE = frozenset({"import_tasks", "include_tasks", "import_role", "include_role", "meta"})


@dataclass(frozen=True, order=True)
class Task:
    """A task or handler that does something on a host.

    Parameters
    ----------
    file:
        Its file, relative to the folder of the roles.
    line:
        Where it begins, from 1.
    name:
        Its name, or its module where it has none.
    """

    file: str
    line: int
    name: str

    @property
    def known_as(self) -> str:
        """File and name: what stays when a line above it goes."""
        return f"{self.file}: {self.name}"


def roles() -> Path:
    """Where the roles lie.

    Returns
    -------
    Path
        ``ansible/roles`` of the checkout.
    """
    return paths.ROOT / "ansible/roles"


def folder() -> Path:
    """Where runs leave their notes.

    Returns
    -------
    Path
        ``build/coverage``; it need not be there.
    """
    return paths.build_dir() / "coverage"


def environment(into: Path | None = None) -> dict[str, str]:
    """Return the variables by which ansible-playbook notes what ran.

    Parameters
    ----------
    into:
        The folder for the notes, by default :func:`folder`.

    Returns
    -------
    dict of str to str
        Besides those that ansible-playbook has already.
    """
    settings = configparser.ConfigParser()
    settings.read(paths.ROOT / "ansible.cfg", encoding="utf-8")
    # The variable replaces the list of ansible.cfg.
    enabled = settings.get("defaults", "callbacks_enabled", fallback="")
    return {
        "ANSIBLE_CALLBACK_PLUGINS": str(paths.ROOT / "ansible/callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": ",".join(filter(None, [enabled, PLUGIN])),
        "KILN_COVERAGE": str(into or folder()),
    }


def tasks(at: Path, windows: bool = False) -> list[Task]:
    """Return every task and handler of the roles, those of Windows-only files apart.

    What a block holds counts, not the block; an import or include only leads to tasks, and a meta task is
    Ansible's own.

    Parameters
    ----------
    at:
        The folder of the roles.
    windows:
        Whether those of the Windows-only files are wanted, and no others.

    Returns
    -------
    list of Task
        In the order of the files.

    Raises
    ------
    KilnError
        A file is not YAML, or there is no task at all.
    """
    found: list[Task] = []
    for path in sorted(p for kind in ("tasks", "handlers") for p in at.glob(f"*/{kind}/**/*.y*ml")):
        file = path.relative_to(at).as_posix()
        if any(fnmatch.fnmatch(file, pattern) for pattern in WINDOWS) != windows:
            continue
        try:
            document = yaml.compose(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            what = " ".join(str(error).split())
            raise KilnError(f"{path} is not YAML: {what}", "correct it; make lint shows where") from None
        found += _leaves(file, document)
    if not found:
        raise KilnError(f"{at} holds no task", "run it in a checkout of kiln")
    return found


def _leaves(file: str, entries: yaml.Node | None) -> Iterator[Task]:
    for entry in entries.value if isinstance(entries, yaml.SequenceNode) else []:
        keys = {key.value: value for key, value in entry.value}
        short = {key.rpartition(".")[2] for key in keys}
        if any(name in keys for name in _BLOCKS):
            for name in _BLOCKS:
                yield from _leaves(file, keys.get(name))
        elif not short & _STRUCTURE:
            name = keys["name"].value if "name" in keys else next(iter(keys))
            yield Task(file, entry.start_mark.line + 1, name)


def ran(notes: Path, at: Path) -> set[tuple[str, int]]:
    """Return what ran, by file and line, as far as the files are those that ran.

    Parameters
    ----------
    notes:
        The folder that runs have noted into.
    at:
        The folder of the roles.

    Returns
    -------
    set of (str, int)
        File below the roles, line.
    """
    digests: dict[str, str] = {}
    found: set[tuple[str, int]] = set()
    for path in notes.glob("*.jsonl"):
        current = set()
        for note in _notes(path):
            file = note["file"]
            if file not in digests:
                digests[file] = sha256_file(at / file) if (at / file).is_file() else ""
            if note["sha256"] == digests[file]:
                current.add((file, note["line"]))
        # A run that is still going may have noted nothing yet.
        if not current and time.time() - path.stat().st_mtime > FORGOTTEN_AFTER:
            path.unlink(missing_ok=True)
        found |= current
    return found


def _notes(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            note = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed while it wrote
        yield note
