"""The controls of the role hardening: each is a small file of its own, and the checks know what it writes."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import role_readme
from tests.image.controls import CONTROLS, MODULES, NEEDED, OPTIONAL, RECORD, SSHD, SYSCTL, uncounted, waived
from tests.unit.test_roles import refusal

ROLE = role_readme.ROLES / "hardening"
OTHERS = {"main", "waivers", "write"}
FILES = sorted(path for path in (ROLE / "tasks").glob("*.yml") if path.stem not in OTHERS)
TODAY_OR_LATER = "2999-01-01"

each_control = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def control(path: Path) -> dict[str, Any]:
    """What a control writes."""
    tasks = yaml.safe_load(path.read_text(encoding="utf-8"))
    found: dict[str, Any] = next(task for task in tasks if "vars" in task)["vars"]
    return found


def content(name: str, ending: str) -> str:
    """Text of the file with this ending that a control writes."""
    files = control(ROLE / f"tasks/{name}.yml")["__hardening_control"]["files"]
    text: str = next(file["content"] for file in files if file["dest"].endswith(ending))
    return text


def test_controls_are_those_that_the_checks_know() -> None:
    listed = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))["__hardening_controls"]
    assert {path.stem for path in FILES} == set(listed) == CONTROLS | OPTIONAL
    index = yaml.safe_load((ROLE / "tasks/main.yml").read_text(encoding="utf-8"))
    assert [task["ansible.builtin.import_tasks"] for task in index] == [
        "waivers.yml",
        *(f"{name}.yml" for name in listed),
        "write.yml",
    ]


@each_control
def test_control_has_a_tag_of_its_name_and_a_source(path: Path) -> None:
    tasks = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert [task["tags"] for task in tasks] == [[path.stem]] * len(tasks)
    assert f"combine({{'{path.stem}': __hardening_control}})" in path.read_text(encoding="utf-8")
    assert control(path)["__hardening_control"]["source"]


@pytest.mark.parametrize("name", SYSCTL)
def test_checks_know_every_setting_of_the_kernel(name: str) -> None:
    ending = {"sysctl": "kernel.conf", "network": "network.conf", "core_dumps": "core-dumps.conf"}[name]
    text = content(name, ending)
    assert dict(re.findall(r"^(\S+) = (.*)$", text, re.MULTILINE)) == SYSCTL[name]


def test_checks_know_every_setting_of_sshd() -> None:
    text = content("ssh", "hardening.conf")
    assert {k.lower(): v for k, v in (line.split() for line in text.splitlines())} == SSHD["ssh"]
    lists = control(ROLE / "tasks/ssh_crypto.yml")
    for ours, theirs in (("kex", "kexalgorithms"), ("ciphers", "ciphers"), ("macs", "macs")):
        assert ",".join(lists[f"__hardening_{ours}"]) == SSHD["ssh_crypto"][theirs]


def test_checks_know_every_module_and_none_is_needed() -> None:
    listed = set(control(ROLE / "tasks/modules.yml")["__hardening_modules"])
    assert listed == MODULES
    assert not listed & NEEDED


def test_base_sets_nothing_of_sshd_that_hardening_sets() -> None:
    base = (role_readme.ROLES / "base/templates/sshd.conf.j2").read_text(encoding="utf-8")
    theirs = {line.split()[0].lower() for line in base.splitlines() if line[:1].isalpha()}
    assert not theirs & {key for table in SSHD.values() for key in table}


@pytest.mark.parametrize(
    "waiver",
    [
        {"control": "su", "reason": "x", "until": "2020-01-01"},
        {"control": "su", "reason": " ", "until": TODAY_OR_LATER},
        {"control": "selinux", "reason": "x", "until": TODAY_OR_LATER},
        {"control": "su", "reason": "x", "until": "soon"},
    ],
    ids=["over", "no reason", "no control", "no day"],
)
def test_waiver_that_does_not_count_stops_the_role(tmp_path: Path, waiver: dict[str, str]) -> None:
    said = refusal(tmp_path, "hardening", "waivers", {"hardening_waivers": [waiver]})
    assert f"waiver of {waiver['control']} until {waiver['until']} does not count" in " ".join(said.split())


@pytest.mark.parametrize(("day", "why"), [("2026-01-02", ""), ("2026-01-03", "over")])
def test_waiver_counts_on_its_last_day(day: str, why: str) -> None:
    waiver = {"control": "auditd", "reason": "x", "until": "2026-01-02"}
    assert uncounted(waiver, datetime.date.fromisoformat(day)) == why


def test_audit_without_its_package_stops_the_role(tmp_path: Path) -> None:
    said = refusal(tmp_path, "hardening", "auditd", {"hardening_auditd": True})
    assert "set hardening_packages to [auditd]" in " ".join(said.split())


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ("", set()),
        ('{"waivers": [{"control": "su", "reason": "x", "until": "2999-01-01"}]}', {"su"}),
        ('{"waivers": [{"control": "su", "reason": "x", "until": "2020-01-01"}]}', set()),
        ('{"waivers": [{"control": "su", "reason": "", "until": "2999-01-01"}]}', set()),
        ('{"waivers": [{"control": "su", "reason": null, "until": "2999-01-01"}]}', set()),
        ('{"waivers": [{"control": "su", "reason": "x", "until": "never"}]}', set()),
        ('{"waivers": [{"control": "su", "reason": "x"}]}', set()),
        ('{"waivers": [{"control": "selinux", "reason": "x", "until": "2999-01-01"}]}', set()),
    ],
    ids=["none", "counts", "over", "no reason", "reason of nothing", "no day", "no until", "no control"],
)
def test_waiver_counts_in_an_image_until_its_day(record: str, wanted: set[str]) -> None:
    assert waived(record) == wanted
    assert RECORD.startswith("/etc/kiln/")
