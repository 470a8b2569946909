"""Checks of an image: what could not run has failed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from kiln import manifest, paths
from kiln.manifest import Check
from scripts import checks
from tests.unit import contract

GOOD = "def test_good():\n    pass\n"
CASES = {
    "assertion": ("def test_bad():\n    assert not 1, 'a key is left'\n", "a key is left"),
    "skipped": (
        "import pytest\n@pytest.mark.skip(reason='x')\ndef test_bad(): ...\n",
        "could not run",
    ),
    "broken fixture": ("def test_bad(nowhere): ...\n", "could not run"),
    "broken file": ("import nowhere\n", "could not run"),
    "no test at all": ("x = 1\n", "could not run"),
    "ended in the middle": ("import os\ndef test_bad(): os._exit(0)\n", "could not run"),
}


def _run(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> list[Check]:
    monkeypatch.setattr(checks, "CHECKS", folder)
    (folder / "static").mkdir()
    (folder / "static/test_base.py").write_text(text)
    return checks.run("static", ["base"], folder / "junit.xml", folder / "log")


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_seen_to_pass_has_failed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, named = CASES[name]
    found = _run(tmp_path, monkeypatch, text)
    assert [named in check.message for check in found if check.outcome == "failed"] == [True]


def test_a_passed_check_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _run(tmp_path, monkeypatch, GOOD)
    assert [(check.outcome, check.id.rpartition("::")[2]) for check in found] == [("passed", "test_good")]


TELLS = """
import json
def test_tells(record_property):
    record_property("check", json.dumps({told}))
    assert {holds}, "it does not hold"
"""
WAIVED = {
    "outcome": "waived",
    "message": "R535 has ended",
    "waiver": {"check": "driver-support", "reason": "580 follows soon", "until": "2027-03-31"},
}


@pytest.mark.parametrize("told", [WAIVED, {"outcome": "not-for-stable", "message": "R535 has ended"}, {}])
def test_what_a_check_tells_is_in_the_proof(
    told: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = _run(tmp_path, monkeypatch, TELLS.format(told=told, holds=True))
    said = found.model_dump(mode="json", exclude_none=True)
    assert said | told == said
    assert (found.outcome == "passed") is (told == {})


def test_what_a_check_tells_never_makes_it_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = _run(tmp_path, monkeypatch, TELLS.format(told=WAIVED, holds=False))
    assert (found.outcome, found.message, found.waiver) == ("failed", "it does not hold", None)


def test_waived_and_not_for_stable_are_no_failures_of_the_junit(tmp_path: Path) -> None:
    one = checks.failed("static", "x", "y")
    both = [one.model_copy(update={"outcome": outcome}) for outcome in ("waived", "not-for-stable")]
    checks.junit(tmp_path / "proof.xml", both)
    suite = ET.parse(tmp_path / "proof.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "0")


def test_checks_of_what_goes_together_come_with_a_driver_or_with_instance_types() -> None:
    driver, plain = ["base", "nvidia", "seal"], ["base", "seal"]
    some, none = (manifest.Demand(instance_types=types, waivers=[]) for types in (["g5.xlarge"], []))
    for roles, demand, there in (
        (driver, None, True),
        (driver, none, True),
        (plain, some, True),
        (plain, none, False),
        (plain, None, False),
    ):
        facts = contract.made().facts.model_copy(update={"roles": roles})
        found = checks.files("static", checks.roles(facts, demand))
        assert (checks.CHECKS / "static/test_compat.py" in found) is there


def test_a_changed_check_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECKS", tmp_path)
    (tmp_path / "test_base.py").write_text("a")
    before = checks.digest()
    (tmp_path / "test_base.py").write_text("b")
    assert checks.digest() != before
    assert all((paths.ROOT / name).is_file() for name in checks.DECIDING)
    judge = {path.name for path in (paths.ROOT / "kiln/compat").iterdir() if path.is_file()}
    assert judge - {"__init__.py"} == {Path(name).name for name in checks.DECIDING if "compat" in name}


def test_a_role_without_static_checks_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECKS", tmp_path)
    found = checks.run("static", ["base"], tmp_path / "junit.xml", tmp_path / "log")
    assert [check.outcome for check in found] == ["failed"]
    assert "base has no static checks" in found[0].message


@pytest.mark.parametrize(("name", "value"), [("PYTEST_ADDOPTS", "-k good"), ("PYTHONOPTIMIZE", "1")])
def test_the_callers_shell_cannot_switch_checks_off(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    found = _run(tmp_path, monkeypatch, GOOD + "def test_bad():\n    assert not 1\n")
    assert sorted(check.outcome for check in found) == ["failed", "passed"]


def test_a_check_that_hangs_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checks.SECONDS, "static", 2)
    found = _run(tmp_path, monkeypatch, "import time\ndef test_bad(): time.sleep(60)\n")
    assert ["took longer" in check.message for check in found] == [True]


def test_every_check_is_in_the_junit_of_the_proof(tmp_path: Path) -> None:
    one = checks.failed("files", "root digest", "the root is not the one that was sealed")
    checks.junit(tmp_path / "proof.xml", [one, one.model_copy(update={"outcome": "passed"})])
    suite = ET.parse(tmp_path / "proof.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert next(suite.iter("failure")).get("message") == one.message
