"""The rehearsals that together come to every Windows task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.windows import archives, rehearsal
from tests.windows.machine import Machine
from tests.windows.rehearsal import Rehearsal, Trouble

INSTALLER = "slicer/tasks/windows/install.yml: Install for every user"


def all_of(folder: Path) -> tuple[dict[str, Any], list[Rehearsal]]:
    """Run them.

    Parameters
    ----------
    folder:
        An empty folder, for their hosts.

    Returns
    -------
    dict, list of Rehearsal
        The variables that the reviewed table is filled with, and the rehearsals.
    """
    machine = Machine(folder / "image")
    variables = {**archives.offered(machine), **archives.driver(machine)}
    made = rehearsal.run(machine.folder, variables, {INSTALLER: Trouble.REBOOT})
    on(machine.folder)
    return variables, [made, without_slicer(machine.folder, variables)]


def without_slicer(folder: Path, variables: Mapping[str, Any]) -> Rehearsal:
    """Take Slicer away again: by its role alone, since an image of AppStream has to have it."""
    book = folder / "remove.yml"
    book.write_text("- hosts: all\n  gather_facts: true\n  roles: [slicer]\n")
    return rehearsal.run(folder, {**variables, "slicer_state": "absent"}, book=book)


def on(folder: Path) -> None:
    """Start a host that sysprep has shut down."""
    machine = Machine(folder)
    machine.state["off"] = False
    machine.save()
