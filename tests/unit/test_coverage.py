"""What is noted of a play is what ran, by the lines at which the tasks are found in the files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest

from kiln import figures, paths
from kiln.errors import KilnError, RefusedError
from kiln.manifest import sha256_file
from scripts import coverage
from tests.benchmarks import task_coverage

TASKS = """---
- name: Import
  ansible.builtin.import_tasks: more.yml

- name: Include
  ansible.builtin.include_tasks: included.yml

- name: A block
  block:
    - name: In a block
      ansible.builtin.command: "true"
      notify: Handle it
    - name: Fails in a block
      ansible.builtin.command: "false"
  rescue:
    - name: To the rescue
      ansible.builtin.command: "true"
  always:
    - name: Skipped always
      ansible.builtin.command: "true"
      when: false

# The line of a task is that of its dash.
- ansible.builtin.set_fact:
    without_a_name: 1

- name: Ignored failure
  ansible.builtin.command: "false"
  ignore_errors: true

- name: A loop that does a part
  ansible.builtin.command: "true"
  loop: [1, 2]
  when: item == 2

- name: A loop that does nothing
  ansible.builtin.command: "true"
  loop: [1, 2]
  when: item == 3

- name: A loop over nothing
  ansible.builtin.command: "true"
  loop: []

- name: Finish
  ansible.builtin.meta: flush_handlers

- name: Fails for good
  ansible.builtin.command: "false"
"""
HANDLERS = """---
- name: Handle it
  ansible.builtin.command: "true"

- name: Never told
  ansible.builtin.command: "true"
"""
ONE = "---\n- name: {}\n  ansible.builtin.command: 'true'\n"

RAN = {
    "In a block", "To the rescue", "ansible.builtin.set_fact", "Ignored failure", "A loop that does a part",
    "Handle it", "Imported", "Included",
}  # fmt: skip
DID_NOT = {
    "Fails in a block", "Skipped always", "A loop that does nothing", "A loop over nothing", "Never told",
    "Fails for good",
}  # fmt: skip


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder ``ansible`` of its own with a role, and the notes of a play that ended in a failure."""
    at = tmp_path_factory.mktemp("coverage")
    shutil.copytree(paths.ROOT / "ansible/callback_plugins", at / "callback_plugins")
    files = {
        "tasks/main.yml": TASKS, "tasks/more.yml": ONE.format("Imported"), "handlers/main.yml": HANDLERS,
        "tasks/included.yml": ONE.format("Included"),
    }  # fmt: skip
    for name, text in files.items():
        (at / "roles/planted" / name).parent.mkdir(parents=True, exist_ok=True)
        (at / "roles/planted" / name).write_text(text)
    role = {"ansible.builtin.import_role": {"name": "planted"}}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [role]}
    (at / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", at / "play.yml"],
        env={
            **{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
            **coverage.environment(at / "notes"),
            "ANSIBLE_CALLBACK_PLUGINS": str(at / "callback_plugins"),
            "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg"),
            "ANSIBLE_ROLES_PATH": str(at / "roles"),
        },
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    return at


def test_what_ran_is_noted_and_what_was_skipped_or_failed_is_not(played: Path) -> None:
    tasks = coverage.tasks(played / "roles")
    done = coverage.ran(played / "notes", played / "roles")
    assert {task.name for task in tasks if (task.file, task.line) in done} == RAN
    assert {task.name for task in tasks if (task.file, task.line) not in done} == DID_NOT


def test_notes_of_a_changed_file_count_no_more(played: Path, tmp_path: Path) -> None:
    shutil.copytree(played / "roles", tmp_path / "roles")
    with (tmp_path / "roles/planted/tasks/main.yml").open("a") as out:
        out.write("# changed\n")
    done = coverage.ran(played / "notes", tmp_path / "roles")
    assert {file for file, _ in done} == {
        "planted/tasks/more.yml", "planted/tasks/included.yml", "planted/handlers/main.yml",
    }  # fmt: skip


def test_a_run_that_was_killed_while_it_wrote_keeps_its_other_lines(played: Path, tmp_path: Path) -> None:
    whole = next((played / "notes").glob("*.jsonl")).read_text()
    (tmp_path / "killed.jsonl").write_text(whole[:-9])
    assert len(coverage.ran(tmp_path, played / "roles")) == len(whole.splitlines()) - 1


def test_old_notes_of_files_that_are_gone_are_removed(played: Path, tmp_path: Path) -> None:
    stale, fresh, current = (tmp_path / f"{name}.jsonl" for name in ("stale", "fresh", "current"))
    gone = json.dumps({"file": "planted/tasks/gone.yml", "line": 1, "sha256": "0" * 64}) + "\n"
    for path, text in (
        (stale, gone),
        (fresh, gone),
        (current, next((played / "notes").iterdir()).read_text()),
    ):
        path.write_text(text)
    for path in (stale, current):
        os.utime(path, (time.time() - 2 * coverage.FORGOTTEN_AFTER,) * 2)
    coverage.ran(tmp_path, played / "roles")
    assert set(tmp_path.iterdir()) == {fresh, current}


def test_files_for_windows_stand_apart(played: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "WINDOWS", ("planted/tasks/m*.yml",))
    assert {task.file for task in coverage.tasks(played / "roles")} == {
        "planted/handlers/main.yml", "planted/tasks/included.yml",
    }  # fmt: skip
    apart = coverage.tasks(played / "roles", windows=True)
    assert {task.file for task in apart} == {"planted/tasks/main.yml", "planted/tasks/more.yml"}


def test_every_pattern_for_windows_matches_a_file() -> None:
    assert [pattern for pattern in coverage.WINDOWS if not list(coverage.roles().glob(pattern))] == []


def test_without_a_task_there_is_no_coverage(tmp_path: Path) -> None:
    with pytest.raises(KilnError, match="no task"):
        coverage.tasks(tmp_path)


def test_a_task_of_the_roles_is_known_by_file_and_name() -> None:
    names = Counter(task.known_as for task in coverage.tasks(coverage.roles()))
    assert [name for name, count in names.items() if count > 1] == []


def test_the_document_has_a_place_for_what_did_not_run() -> None:
    listed = task_coverage.excused((paths.ROOT / task_coverage.DOCUMENT).read_text())
    known = {task.known_as for task in coverage.tasks(coverage.roles())}
    assert set(listed) <= known
    with pytest.raises(KilnError, match="no heading"):
        task_coverage.excused("# What was run\n")


def test_a_planted_gap_between_list_and_runs_is_told() -> None:
    tasks = [
        coverage.Task("base/tasks/a.yml", line, name) for line, name in ((2, "One"), (7, "Two"), (9, "Three"))
    ]
    done = {("base/tasks/a.yml", 2)}
    text = (
        f"{task_coverage.HEADING}\n\n| task | why |\n| --- | --- |\n"
        "| `base/tasks/a.yml: Two` | no GPU |\n"
        "| `base/tasks/a.yml: Three` | |\n\n## Next\n\n| `base/tasks/a.yml: Other` | not ours |\n"
    )
    listed = task_coverage.excused(text)
    assert listed == {"base/tasks/a.yml: Two": "no GPU", "base/tasks/a.yml: Three": ""}
    assert (
        task_coverage.complaints(tasks, done, {"base/tasks/a.yml: Two": "x", "base/tasks/a.yml: Three": "x"})
        == []
    )
    for listing, said in (
        ({"base/tasks/a.yml: Two": "x"}, "a.yml: Three did not run"),
        (
            {"base/tasks/a.yml: Two": "x", "base/tasks/a.yml: Three": ""},
            "a.yml: Three stands in docs/executed.md without",
        ),
        ({**dict.fromkeys((task.known_as for task in tasks), "x")}, "a.yml: One runs"),
        (
            {**dict.fromkeys((task.known_as for task in tasks[1:]), "x"), "base/tasks/a.yml: Old": "x"},
            "Old is no task",
        ),
    ):
        told = task_coverage.complaints(tasks, done, listing)
        assert len(told) == 1
        assert said in told[0]


@pytest.mark.parametrize(("ran", "said"), [(20, ""), (19, ""), (18, "is 0.9000, and its goal is >= 0.95")])
def test_too_little_that_ran_is_refused_whatever_the_list_says(
    ran: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles, build, document = (tmp_path / name for name in ("roles", "build", "executed.md"))
    (roles / "planted/tasks").mkdir(parents=True)
    (roles / "planted/tasks/main.yml").write_text(
        "---\n" + "".join(f"- name: Task {number}\n  ansible.builtin.ping:\n" for number in range(20))
    )
    monkeypatch.setenv("KILN_BUILD", str(build))
    monkeypatch.setattr(coverage, "roles", lambda: roles)
    monkeypatch.setattr(task_coverage, "DOCUMENT", str(document))
    tasks = coverage.tasks(roles)
    digest = sha256_file(roles / "planted/tasks/main.yml")
    coverage.folder().mkdir(parents=True)
    (coverage.folder() / "run.jsonl").write_text(
        "".join(
            json.dumps({"file": task.file, "line": task.line, "sha256": digest}) + "\n"
            for task in tasks[:ran]
        )
    )
    listed = "".join(f"| `{task.known_as}` | no host for it |\n" for task in tasks[ran:])
    document.write_text(f"{task_coverage.HEADING}\n\n| task | why |\n| --- | --- |\n{listed}")
    with pytest.raises(RefusedError, match=said) if said else nullcontext():
        task_coverage.main()
    measured = figures.read(task_coverage.FIGURE)
    assert measured is not None and measured.value == ran / 20


def test_a_role_that_nobody_ran_is_no_measurement() -> None:
    tasks = [coverage.Task("base/tasks/a.yml", 2, "One"), coverage.Task("seal/tasks/a.yml", 2, "Two")]
    assert task_coverage.silent(tasks, {("base/tasks/a.yml", 2)}) == ["seal"]
