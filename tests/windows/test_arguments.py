"""Every argument of every Windows task against ansible-doc; a wrong one is found, there and on the host."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.windows import answers, archives, documented, programs, rehearsal, reviewed, tasks
from tests.windows.machine import Machine
from tests.windows.tasks import Written


def known() -> dict[str, documented.Module]:
    return documented.modules(frozenset(task.module for task in tasks.written()))


def test_every_windows_task_is_read() -> None:
    assert [(task.file, task.line, task.name) for task in tasks.written()] == [
        (task.file, task.line, task.name) for task in reviewed.tasks()
    ]


def test_every_argument_is_documented() -> None:
    assert {task.known_as: found for task in tasks.written() if (found := tasks.unfit(task, known()))} == {}


def test_the_table_names_every_task_and_no_other() -> None:
    variables = {
        name: name for name in ("slicer_url", "slicer_sha256", "slicer_grid_key", "slicer_grid_sha256")
    }
    variables |= {name: name for name in ("slicer_extension_url", "slicer_extension_sha256")}
    assert set(reviewed.rows(variables)) == {task.known_as for task in reviewed.tasks()}


@pytest.mark.parametrize(
    ("module", "arguments", "says"),
    [
        ("ansible.windows.win_regedit", {"path": "HKLM:\\a", "number": 1}, "no argument number"),
        ("ansible.windows.win_regedit", {"path": "HKLM:\\a", "type": "number"}, "must be one of"),
        (
            "ansible.windows.win_reboot",
            {"reboot_timeout": "soon"},
            "could not be converted to float|unable to convert",
        ),
        ("ansible.windows.win_stat", {"path": "C:\\a", "get_checksum": "perhaps"}, "not a valid boolean"),
        ("ansible.windows.win_nothing", {"path": "C:\\a"}, "knows no ansible.windows.win_nothing"),
        ("ansible.windows.win_stat", {"paht": "{{ item }}"}, "no argument paht"),
    ],
    ids=["name", "choice", "number", "truth", "module", "template"],
)
def test_a_wrong_argument_is_found(module: str, arguments: dict[str, Any], says: str) -> None:
    planted = Written("planted.yml", 1, "Planted", module, arguments)
    names = frozenset(each for each in (module,) if not each.endswith("nothing"))
    found = tasks.unfit(planted, documented.modules(names) if names else {})
    assert re.search(says, " ".join(found.values())), found


@pytest.mark.parametrize(
    ("module", "arguments", "says"),
    [
        (
            "ansible.windows.win_regedit",
            {"path": "HKLM:\\a", "number": 1},
            "number. Supported parameters",
        ),
        ("ansible.windows.win_stat", {"get_checksum": False}, "missing required arguments: path"),
        ("ansible.windows.win_command", {"argv": ["a"], "cmd": "a"}, "mutually exclusive"),
        ("ansible.windows.win_package", {"state": "present"}, "all of the following are missing: path"),
        ("ansible.windows.win_hosts", {"path": "a"}, "knows no ansible.windows.win_hosts"),
    ],
    ids=["name", "missing", "exclusive", "needed", "unknown module"],
)
def test_the_host_refuses_what_windows_would_refuse(
    tmp_path: Path, module: str, arguments: dict[str, Any], says: str
) -> None:
    book = tmp_path / "book.yml"
    book.write_text(json.dumps([{"hosts": "all", "tasks": [{"name": "Planted", module: arguments}]}]))
    ran = rehearsal.run(tmp_path / "host", {}, book=book)
    assert ran.code == 2
    assert re.search(says, ran.output), ran.output
    assert ran.task("book.yml: Planted").how == ("failed",)


@pytest.mark.parametrize("name", sorted(answers.ANSWERS))
def test_what_the_host_answers_is_documented(name: str) -> None:
    assert name in documented.modules(frozenset(answers.ANSWERS))


def test_an_answer_in_another_shape_is_no_answer() -> None:
    module = documented.modules(frozenset({"ansible.windows.win_package"}))["ansible.windows.win_package"]
    assert module.misshapen({"changed": True, "rc": 0, "reboot_required": False}) == []
    assert module.misshapen({"rc": "0"}) == ["ansible.windows.win_package documents rc as int, not as '0'"]
    assert module.misshapen({"rc": True}) == ["ansible.windows.win_package documents rc as int, not as True"]
    assert module.misshapen({"exit": 0}) == ["ansible.windows.win_package documents no answer exit"]


def test_a_row_that_differs_is_not_equal(tmp_path: Path) -> None:
    ran = rehearsal.Ran(
        "slicer/tasks/windows/updates.yml",
        9,
        "Switch off updates that come by themselves",
        "ansible.windows.win_regedit",
        ({"ansible.windows.win_regedit": {"path": "HKLM:\\A", "data": 1}},),
        ("changed",),
    )
    row = {ran.known_as: [{"ansible.windows.win_regedit": {"path": "HKLM:\\A", "data": 1}}]}
    assert reviewed.equal(row, [ran]) == {(ran.file, 9)}
    assert reviewed.differences(row, [ran]) == []
    row[ran.known_as][0]["ansible.windows.win_regedit"]["data"] = 0
    assert reviewed.equal(row, [ran]) == set()
    assert len(reviewed.differences(row, [ran])) == 1
    assert reviewed.equal({}, [ran]) == set(), "no row is no agreement"


def test_an_installer_is_as_strict_as_nsis(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for arguments, goes in (
        ("/S /D=C:\\Program Files\\Slicer", True),
        ('/S "/D=C:\\Program Files\\Slicer"', False),
        ('/S /D="C:\\Program Files\\Slicer"', False),
        ("/D=C:\\Program Files\\Slicer /S", False),
    ):
        machine.remove("C:\\Program Files\\Slicer")
        programs.installer(machine, archives.installer(), arguments)
        assert (machine.read("C:\\Program Files\\Slicer\\Slicer.exe") is not None) == goes, arguments
