"""How a guest asks itself, for every role's questions."""

from __future__ import annotations

import functools
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def run(*command: str) -> str:
    """What a program writes, its errors among it; why there is no answer, where it failed in silence."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        return str(error)
    # No answer must not pass for an empty one: no failed unit, nothing to complain of.
    silent = done.returncode != 0 and not done.stdout.strip()
    return f"{command[0]} ended with {done.returncode}" if silent else done.stdout


def read(path: str) -> str:
    """A text; empty where there is none."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def status(url: str) -> list[Any]:
    """Status and text of an address; 0 and why where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return [answer.status, answer.read().decode()]
    except urllib.error.HTTPError as refusal:
        return [refusal.code, refusal.read().decode(errors="replace")]
    except OSError as error:
        return [0, str(error)]


@functools.cache
def units() -> dict[str, dict[str, str]]:
    """Every service that systemd has loaded, with what it says of it."""
    found = {}
    shown = "--property=Id,ActiveState,NRestarts,MainPID"
    for block in run("systemctl", "show", "--type=service", shown, "*").split("\n\n"):
        pairs = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        found[pairs.get("Id", "")] = pairs
    return found
