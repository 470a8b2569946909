"""Runs the checks of tests/image with pytest and turns what came of them into the contract's terms."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kiln import manifest, paths
from scripts import proc

Stage = Literal["static", "live", "client"]

CHECKS = paths.ROOT / "tests/image"


def files(stage: Stage, roles: Sequence[str]) -> list[Path]:
    """Return the check files of a stage for the roles of an image."""
    return [path for role in roles if (path := CHECKS / stage / f"test_{role}.py").exists()]


def digest() -> str:
    """Sha256 over every file of the checks: a proof by other checks is out of date."""
    total = hashlib.sha256()
    for path in sorted(p for p in CHECKS.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        total.update(f"{path.relative_to(CHECKS)} {manifest.sha256_file(path)}\n".encode())
    return total.hexdigest()


def failed(stage: str, name: str, message: str) -> manifest.Check:
    """Return a failed check."""
    return manifest.Check.model_validate(
        {"id": f"{stage}::{name}", "stage": stage, "outcome": "failed", "message": message, "seconds": 0}
    )


def _one_line(text: str) -> str:
    """Take the sentence out of pytest's message, whose later lines repeat the code."""
    first = text.strip().splitlines()[0] if text.strip() else ""
    return first.removeprefix("AssertionError: ").removeprefix("Failed: ")[:500]


def _read(stage: Stage, xml: Path) -> list[manifest.Check]:
    checks = []
    for case in ET.parse(xml).getroot().iter("testcase"):  # noqa: S314 - pytest wrote it
        bad = next(
            (node for tag in ("failure", "error", "skipped") if (node := case.find(tag)) is not None), None
        )
        message = ""
        if bad is not None:
            message = _one_line(bad.get("message") or bad.text or "")
            if bad.tag != "failure":
                message = f"could not run: {message}"
        checks.append(
            manifest.Check(
                id=f"{stage}::{case.get('classname', '').rpartition('.')[2]}::{case.get('name', '')}",
                stage=stage,
                outcome="passed" if bad is None else "failed",
                message=message,
                seconds=float(case.get("time", "0")),
            )
        )
    return checks


def run(
    stage: Stage,
    roles: Sequence[str],
    junit: Path,
    log: Path,
    *,
    options: Sequence[str] = (),
    env: dict[str, str] | None = None,
    wrap: Sequence[str] = (),
) -> list[manifest.Check]:
    """Run the checks of a stage.

    Parameters
    ----------
    stage:
        Folder under tests/image.
    roles:
        Roles of the image; each brings its file of checks.
    junit:
        Where pytest's XML goes.
    log:
        Where pytest's output goes.
    options:
        Further options of pytest.
    env:
        Further environment.
    wrap:
        A command line that runs another one, put in front.

    Returns
    -------
    list of Check
        Every check that there is. One that was skipped, and a run that ended before its end, count as failed.
    """
    wanted = files(stage, roles)
    if not wanted:
        return []
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={paths.ROOT}"]
    command = [*wrap, *pytest, f"--junitxml={junit}", *options, *(str(path) for path in wanted)]
    junit.unlink(missing_ok=True)
    with log.open("a") as out:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=paths.ROOT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
            preexec_fn=proc.die_with_parent(),
        )  # fmt: skip
    if not junit.exists():
        return [failed(stage, "pytest", f"could not run: exit code {done.returncode}, see {log}")]
    found = _read(stage, junit)
    if not found or (done.returncode != 0 and all(check.outcome == "passed" for check in found)):
        found.append(failed(stage, "pytest", f"could not run: exit code {done.returncode}, see {log}"))
    return found
