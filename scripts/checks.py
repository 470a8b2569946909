"""Runs the checks of tests/image with pytest and turns what came of them into the contract's terms."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kiln import manifest, paths
from kiln.errors import KilnError
from scripts import proc

Stage = Literal["static", "live", "client"]

CHECKS = paths.ROOT / "tests/image"

DECIDING = (
    "kiln/appstream.py",
    "kiln/compat/rules.py", "kiln/compat/stack.py", "kiln/compat/table.py", "kiln/compat/table.toml",
    "scripts/annotate.py", "scripts/checks.py", "scripts/facts.py", "scripts/gpu.py", "scripts/imds.py",
    "scripts/guest.py", "scripts/layer.py", "scripts/native.py", "scripts/prove.py", "scripts/seed.py",
    "scripts/verdicts.py",
)  # fmt: skip
"""What decides, apart from the checks themselves, what a proof says."""

COMPAT = "compat"
"""Checks that are no role's own: what goes together, of an image with a driver or with instance types."""

_DRIVER = "nvidia"

SECONDS = {"static": 900.0, "live": 1800.0, "client": 600.0}
"""How long the checks of a stage may take on a busy machine."""

# With these a caller's shell could leave checks out, or take the assertions out of them.
_UNWANTED = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTHONOPTIMIZE")


def files(stage: Stage, roles: Sequence[str]) -> list[Path]:
    """Return the check files of a stage for the roles of an image.

    Parameters
    ----------
    stage:
        Folder under tests/image.
    roles:
        Roles of the image.
    """
    return [path for role in roles if (path := CHECKS / stage / f"test_{role}.py").exists()]


def roles(facts: manifest.Facts, demand: manifest.Demand | None = None) -> list[str]:
    """Return whose checks an image gets: its roles, and whether it suits what is asked of it.

    Parameters
    ----------
    facts:
        Of the image.
    demand:
        What kiln.toml asks of it.

    Returns
    -------
    list of str
        Names of check files, without ``test_``.
    """
    # An image without a driver may be asked to run on a GPU all the same: that is for the judge to say.
    judged = _DRIVER in facts.roles or bool(demand and demand.instance_types)
    return [*facts.roles, *([COMPAT] if judged else [])]


def digest() -> str:
    """Sha256 over every file that decides a proof: a proof by other checks is out of date."""
    total = hashlib.sha256()
    found = [p for p in CHECKS.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    for path in [*sorted(found), *(paths.ROOT / name for name in DECIDING)]:
        total.update(f"{path.name} {manifest.sha256_file(path)}\n".encode())
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


def _told(case: ET.Element) -> dict[str, object]:
    """What a check that passed has told by record_property("check", …): fields of the contract's Check."""
    told = [node.get("value", "") for node in case.iter("property") if node.get("name") == "check"]
    return dict(json.loads(told[-1])) if told else {}


def _read(stage: Stage, xml: Path) -> list[manifest.Check]:
    checks = []
    try:
        cases = list(ET.parse(xml).getroot().iter("testcase"))  # noqa: S314 - pytest wrote it
    except ET.ParseError as error:
        return [failed(stage, "pytest", f"could not run: {xml.name} is broken: {error}")]
    for case in cases:
        bad = next(
            (node for tag in ("failure", "error", "skipped") if (node := case.find(tag)) is not None), None
        )
        message = ""
        if bad is not None:
            message = _one_line(bad.get("message") or bad.text or "")
            if bad.tag != "failure":
                message = f"could not run: {message}"
        check: dict[str, object] = {
            "id": f"{stage}::{case.get('classname', '').rpartition('.')[2]}::{case.get('name', '')}",
            "stage": stage,
            "outcome": "passed" if bad is None else "failed",
            "message": message,
            "seconds": float(case.get("time", "0")),
        }
        checks.append(manifest.Check.model_validate(check if bad is not None else check | _told(case)))
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
    missing = [role for role in roles if not (CHECKS / stage / f"test_{role}.py").exists()]
    if stage == "static" and missing:
        return [
            failed(stage, role, f"could not run: the role {role} has no static checks") for role in missing
        ]
    if not wanted:
        return []
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={paths.ROOT}"]
    command = [*wrap, *pytest, f"--junitxml={junit}", *options, *(str(path) for path in wanted)]
    junit.unlink(missing_ok=True)
    full = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    full |= {"PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
    try:
        what = f"{stage} checks"
        code = proc.run(
            command, log, what=what, env=full, cwd=paths.ROOT, timeout=SECONDS[stage], accepted=(0, 1)
        )
    except KilnError as error:
        return [failed(stage, "pytest", f"could not run: {error.what}")]
    if not junit.exists():
        return [failed(stage, "pytest", f"could not run: pytest wrote no result, see {log}")]
    found = _read(stage, junit)
    if not found or (code != 0 and not any(check.outcome == "failed" for check in found)):
        found.append(failed(stage, "pytest", f"could not run: exit code {code}, see {log}"))
    return found


def junit(path: Path, checks: Sequence[manifest.Check]) -> None:
    """Write checks as JUnit XML, for what reads test results.

    Parameters
    ----------
    path:
        The file.
    checks:
        Every check of a proof, also those that are not pytest's.
    """
    bad = sum(check.outcome == "failed" for check in checks)
    suite = ET.Element("testsuite", name="proof", tests=str(len(checks)), failures=str(bad))
    for check in checks:
        group, _, name = check.id.rpartition("::")
        case = ET.SubElement(suite, "testcase", classname=group, name=name, time=str(check.seconds))
        if check.outcome == "failed":
            ET.SubElement(case, "failure", message=check.message)
    ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
