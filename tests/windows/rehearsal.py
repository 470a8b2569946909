"""A whole playbook against the host that stands in for Windows: what arrived there, task by task."""

from __future__ import annotations

import enum
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kiln import paths
from tests.windows import answers, documented, programs, wire
from tests.windows.machine import Machine

HERE = Path(__file__).resolve().parent
HOST = "windows"
SECONDS = 600

TALK: dict[str, tuple[str, frozenset[Any]]] = {
    "ansible.windows.win_copy": ("_copy_mode", frozenset({"query"})),
    "ansible.windows.win_updates": ("_operation", frozenset({"poll", "cancel"})),
    "ansible.windows.async_status": ("mode", frozenset({"status", "cleanup"})),
}
"""Calls of Ansible and of action plugins to their own modules: no task of ours says what is in them."""


class Trouble(enum.StrEnum):
    """What the host does to a task."""

    FAILS = "fails"
    """The module fails."""
    REBOOT = "asks for a reboot"
    """The module has done it, and asks for a reboot."""
    REBOOTS = "reboots"
    """The module has done it, and the host starts again before it could answer."""


@dataclass
class Notes:
    """What the callback and the connection of a run tell each other and whoever reads it: lines of JSON.

    Parameters
    ----------
    folder:
        Of the host.
    """

    folder: Path

    @classmethod
    def of_environment(cls) -> Notes:
        """Those of the run that this process belongs to."""
        return cls(Path(os.environ["KILN_REHEARSAL"]))

    def starts(self, uid: str, place: str, name: str, action: str, arguments: Mapping[str, Any]) -> None:
        """Note that a task is about to run."""
        file, _, line = place.rpartition(":")
        path = Path(os.path.realpath(file))
        roles = paths.ROOT / "ansible/roles"
        known = path.relative_to(roles).as_posix() if path.is_relative_to(roles) else path.name
        # "role : name" is what Ansible shows.
        name = name.rpartition(" : ")[2]
        self._append(
            "tasks", uid=uid, file=known, line=int(line), name=name, action=action, arguments=dict(arguments)
        )

    def arrived(self, uid: str, call: wire.Call) -> None:
        """Note a module that arrived at the host."""
        self._append(
            "calls",
            uid=uid,
            module=call.name,
            arguments=call.arguments,
            environment=call.environment,
            seconds=call.seconds,
        )

    def ended(self, uid: str, how: str, result: Mapping[str, Any]) -> None:
        """Note how a task ended."""
        self._append("ends", uid=uid, how=how, message=str(result.get("msg", "")))

    def trouble(self, uid: str) -> Trouble | None:
        """What the host is to do to a task: once, and then no more."""
        path = self.folder / "troubles.json"
        planned: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        task = next(each for each in self.lines("tasks") if each["uid"] == uid)
        found = planned.pop(f"{task['file']}: {task['name']}", None)
        if found is None:
            return None
        path.write_text(json.dumps(planned))
        return Trouble(found)

    def plan(self, troubles: Mapping[str, Trouble]) -> None:
        """Plan troubles, by file and name of the task."""
        (self.folder / "troubles.json").write_text(json.dumps({name: str(t) for name, t in troubles.items()}))

    def lines(self, kind: str) -> Iterator[dict[str, Any]]:
        """Yield what was noted, of one kind: tasks, calls, ends."""
        path = self.folder / f"{kind}.jsonl"
        for line in path.read_text().splitlines() if path.exists() else ():
            yield json.loads(line)

    def clear(self) -> None:
        """Forget what was noted, as a new run begins."""
        for path in self.folder.glob("*.jsonl"):
            path.unlink()

    def _append(self, kind: str, **what: Any) -> None:
        with (self.folder / f"{kind}.jsonl").open("a") as out:
            out.write(json.dumps(what, default=str) + "\n")


@dataclass(frozen=True)
class Ran:
    """A task that a run came to.

    Parameters
    ----------
    file, line, name:
        Where it stands below ``ansible/roles``.
    action:
        Its module, with its collection.
    calls:
        Modules with their arguments as they arrived at the host, in order; of a task that has nothing to do
        there, the arguments that it has.
    how:
        Ends of it: ok, changed, failed, ignored, unreachable, skipped.
    said:
        Messages of its ends.
    """

    file: str
    line: int
    name: str
    action: str
    calls: tuple[dict[str, Any], ...]
    how: tuple[str, ...]
    said: tuple[str, ...] = ()

    @property
    def known_as(self) -> str:
        """File and name."""
        return f"{self.file}: {self.name}"

    @property
    def skipped(self) -> bool:
        """Whether nothing of it was done."""
        return set(self.how) == {"skipped"}


@dataclass(frozen=True)
class Rehearsal:
    """A run that has ended.

    Parameters
    ----------
    code:
        Exit code of ansible-playbook.
    output:
        What it printed.
    ran:
        Its tasks, in order.
    machine:
        The host afterwards.
    """

    code: int
    output: str = field(repr=False)
    ran: tuple[Ran, ...]
    machine: Machine

    def task(self, known_as: str) -> Ran:
        """Return a task by file and name."""
        return next(each for each in self.ran if each.known_as == known_as)

    @property
    def last(self) -> Ran:
        """The task at which it ended."""
        return self.ran[-1]


def playbook() -> Path:
    """The playbook of the image."""
    return paths.ROOT / "ansible/playbooks/slicer.yml"


def run(
    folder: Path,
    variables: Mapping[str, Any],
    troubles: Mapping[str, Trouble] | None = None,
    book: Path | None = None,
) -> Rehearsal:
    """Run a playbook against the host that lies in a folder; the host is made where there is none.

    Parameters
    ----------
    folder:
        Of the host.
    variables:
        Extra variables.
    troubles:
        What the host does to a task, by file and name.
    book:
        The playbook, by default the one of the image.

    Returns
    -------
    Rehearsal
        How it went.
    """
    folder.mkdir(parents=True, exist_ok=True)
    notes = Notes(folder)
    notes.clear()
    notes.plan(troubles or {})
    machine = Machine(folder)
    machine.save()
    documented.keep(folder, frozenset(answers.ANSWERS))
    known = {
        "ansible_connection": "kiln_windows",
        "ansible_shell_type": "powershell",
        "kiln_windows_folder": str(folder),
    }
    inventory = folder / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": {HOST: known}}}))
    extra = folder / "variables.json"
    extra.write_text(json.dumps(dict(variables)))
    program = Path(sys.executable).parent / "ansible-playbook"
    done = subprocess.run(
        [str(program), "-i", str(inventory), str(book or playbook()), "--extra-vars", f"@{extra}"],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg"),
            "ANSIBLE_CONNECTION_PLUGINS": str(HERE / "connection"),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "kiln_rehearsal",
            "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
            "ANSIBLE_NOCOLOR": "1",
            "KILN_REHEARSAL": str(folder),
            # Both plugins are of this package.
            "PYTHONPATH": str(paths.ROOT),
        },
        cwd=paths.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Rehearsal(done.returncode, done.stdout, tuple(_ran(notes)), Machine(folder))


def _ran(notes: Notes) -> Iterator[Ran]:
    calls, ends = list(notes.lines("calls")), list(notes.lines("ends"))
    for task in notes.lines("tasks"):
        arrived = tuple(
            {each["module"]: _told(each)} for each in calls if each["uid"] == task["uid"] and not _talk(each)
        )
        # Updates come in rounds that ask the same.
        arrived = tuple(each for n, each in enumerate(arrived) if n == 0 or each != arrived[n - 1])
        how = [each for each in ends if each["uid"] == task["uid"]]
        yield Ran(
            task["file"],
            task["line"],
            task["name"],
            task["action"],
            arrived or ({task["action"]: task["arguments"]},),
            tuple(each["how"] for each in how),
            tuple(each["message"] for each in how),
        )


def _talk(call: Mapping[str, Any]) -> bool:
    argument, talks = TALK.get(call["module"], ("", frozenset()))
    return call["arguments"].get(argument) in talks


def _told(call: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the table has them.

    Without what a collection says to its own module, and with a name for what is only there for a moment: the
    file that was sent, the text of a script of ours.
    """
    ours = documented.INTERNAL.get(call["module"], frozenset())
    found = {name: value for name, value in call["arguments"].items() if name not in ours}
    if call["arguments"].get("_copy_mode") == "single":
        found["src"] = "(sent)"
    if "script" in found:
        found["script"] = programs.script_named(found["script"])
    if call["seconds"] is not None:
        found["(seconds)"] = call["seconds"]
    return found
