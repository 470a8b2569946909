"""Ini files as Slicer's own library reads and writes them: Qt's QSettings, in a process of its own.

PySide6 looks into the source of every module that is imported after it, and Ansible's do not bear that.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiln import paths


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


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_answer(*json.loads(line))), flush=True)
