"""A host that fails or starts again at a task of each kind: the play ends there, a second run ends well."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from tests.windows import archives, rehearsal, scenarios, tasks
from tests.windows.conftest import Run
from tests.windows.machine import Machine
from tests.windows.rehearsal import Rehearsal, Trouble
from tests.windows.tasks import Written

pytestmark = pytest.mark.slow

SEAL = "appstream/tasks/windows/seal.yml"

REMOVING = "slicer/tasks/windows/remove.yml"

TOLERANT = {
    "slicer/tasks/windows/extension.yml: Have Slicer install the extension",
    "slicer/tasks/windows/extension.yml: Read its report",
}
"""Their failure is told by the task that judges the report."""

ASKED_FOR = "slicer/tasks/windows/install.yml: Start again where the installer asks for it"


@functools.cache
def kinds() -> dict[str, Written]:
    """Module → the first task that calls it on a fresh host, and whose failure is its own to tell."""
    found: dict[str, Written] = {}
    order = ["updates", "folders", "grid", "install", "extension", "configure"]
    files = [f"slicer/tasks/windows/{name}.yml" for name in order]
    at = {name: place for place, name in enumerate(files)}
    for task in sorted(tasks.written(), key=lambda each: (at.get(each.file, len(at)), each.line)):
        runs = task.file != REMOVING and task.known_as not in {*TOLERANT, ASKED_FOR}
        if runs and task.module.startswith("ansible.windows."):
            found.setdefault(task.module, task)
    return found


each_kind = pytest.mark.parametrize("module", sorted(kinds()))


def given(host: Machine) -> dict[str, Any]:
    return {**archives.offered(host), **archives.driver(host)}


def sealed(ran: Rehearsal) -> bool:
    return any(each.file == SEAL and not each.skipped and each.how for each in ran.ran)


@pytest.mark.campaign
@each_kind
def test_a_failure_ends_the_play(play: Run, host: Machine, module: str) -> None:
    task = kinds()[module]
    ran = play(given(host), {task.known_as: Trouble.FAILS})
    assert ran.code == 2, ran.output
    assert ran.last.known_as == task.known_as
    assert ran.last.how[-1] == "failed"
    assert not sealed(ran), "an image was made of what has failed"
    assert not ran.machine.state["off"]


@pytest.mark.campaign
@each_kind
def test_a_reboot_at_a_task_is_no_loss(
    fresh: Rehearsal, play: Run, host: Machine, module: str, variables: dict[str, Any]
) -> None:
    task = kinds()[module]
    ran = play(given(host), {task.known_as: Trouble.REBOOTS})
    if task.module == "ansible.windows.win_reboot":
        assert ran.code == 0, ran.output
    else:
        assert ran.code == 4 and ran.last.known_as == task.known_as, ran.output
        assert ran.last.how[-1] == "unreachable"
        ran = play(given(host))
    assert ran.code == 0, ran.output
    assert ran.machine.left() == fresh.machine.left()


@pytest.mark.campaign
@pytest.mark.parametrize("task", sorted(TOLERANT))
def test_a_failure_of_slicer_is_told_by_its_report(play: Run, task: str) -> None:
    ran = play(troubles={task: Trouble.FAILS})
    assert ran.code == 2
    assert ran.last.known_as.endswith("Refuse an extension that Slicer does not take")
    assert "Slicer wrote no report" in ran.output


@pytest.mark.campaign
@pytest.mark.parametrize("name", ["reset", "sysprep"])
def test_a_seal_that_fails_is_no_image(play: Run, name: str) -> None:
    task = next(each for each in tasks.written() if each.file == SEAL and name in each.arguments["argv"])
    ran = play(troubles={task.known_as: Trouble.FAILS})
    assert ran.code == 2 and not ran.machine.state["off"]


def test_there_is_a_task_of_each_kind() -> None:
    windows = {task.module for task in tasks.written() if task.module.startswith("ansible.windows.")}
    assert set(kinds()) == windows
    assert len(windows) >= 15


def test_a_host_that_is_off_is_not_reached(play: Run, host: Machine) -> None:
    host.state["off"] = True
    ran = play()
    assert ran.code == 4
    assert "the host has been shut down" in ran.output
    scenarios.on(host.folder)
    assert rehearsal.run(host.folder, archives.offered(host)).code == 0
