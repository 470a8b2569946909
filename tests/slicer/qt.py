"""Ini files as Slicer's own library reads and writes them: Qt's QSettings, in a process of its own.

PySide6 looks into the source of every module that is imported after it, and Ansible's do not bear that.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiln import paths

NOBODY = 65534
"""Id of a user who owns nothing."""


def read(path: Path) -> dict[str, Any]:
    """Every key of a file with its value: a text, or a list of texts.

    Parameters
    ----------
    path:
        An ini file that is there.

    Raises
    ------
    AssertionError
        There is none, or Qt finds a mistake in it.
    """
    assert path.is_file(), f"{path} is missing"
    found: dict[str, Any] = _ask(path, None)
    return found


def write(path: Path, values: Mapping[str, str | list[str]]) -> dict[str, Any]:
    """Have Qt set values in a file, whether it can write it or not.

    Parameters
    ----------
    path:
        The file.
    values:
        What is set.

    Returns
    -------
    dict of str to Any
        What the settings say then, to whoever asks in the same process.
    """
    found: dict[str, Any] = _ask(path, values)
    return found


def _ask(path: Path, values: Mapping[str, Any] | None) -> Any:
    child = _child()
    assert child.stdin and child.stdout
    child.stdin.write(json.dumps([str(path), values]) + "\n")
    child.stdin.flush()
    said = json.loads(child.stdout.readline())
    assert "mistake" not in said, f"{path} is no ini file to Qt: {said['mistake']}"
    return said["values"]


@functools.cache
def _child() -> subprocess.Popen[str]:
    """The one process of a run; it ends when nobody is left to ask."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.slicer.qt"],
        cwd=paths.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def _answer(name: str, values: Mapping[str, Any] | None) -> dict[str, Any]:
    from PySide6.QtCore import QSettings

    settings = QSettings(name, QSettings.Format.IniFormat)
    for key, value in (values or {}).items():
        settings.setValue(key, value)
    settings.sync()
    if settings.status() == QSettings.Status.FormatError:
        return {"mistake": settings.status().name}
    # Another object, as a module makes one of its own.
    again = QSettings(name, QSettings.Format.IniFormat)
    return {"values": {key: again.value(key) for key in again.allKeys()}}


def write_as_nobody(path: Path, values: Mapping[str, str | list[str]]) -> dict[str, Any]:
    """As :func:`write`, by a user who owns nothing; only root can have it done."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.slicer.qt", str(NOBODY)],
        cwd=paths.ROOT, input=json.dumps([str(path), values]), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)["values"]
    return found


if __name__ == "__main__":
    if sys.argv[1:]:
        # First, since the user to be may not read the environment of the tests.
        import PySide6.QtCore  # noqa: F401

        os.setgroups([])
        os.setgid(int(sys.argv[1]))
        os.setuid(int(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(_answer(*json.loads(line))), flush=True)
