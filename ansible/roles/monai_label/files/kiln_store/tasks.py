"""Training, scoring and batch inference, which upstream runs in processes of their own: on the store as well.

Without it such a process would take upstream's datastore, and write the index of all servers from its memory.
``python -m kiln_store.tasks`` takes upstream's arguments, and is upstream's program but for the store.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

UPSTREAM = "monailabel.interfaces.utils.app"
"""The program that upstream starts for a task."""

OURS = "kiln_store.tasks"


class Subprocess:
    """The module subprocess for upstream's tasks: the program it starts is ours."""

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    @staticmethod
    def Popen(command: list[str], **options: Any) -> Any:  # noqa: N802 - upstream calls it
        """Start a task."""
        place = command.index("-m") + 1
        if command[place] != UPSTREAM:
            raise ValueError(f"a task is not {UPSTREAM} but {command[place]}")
        environment: dict[str, str] = dict(options.pop("env", None) or os.environ)
        paths = [str(Path(__file__).parent.parent), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        ours = [*command[:place], OURS, *command[place + 1 :]]
        return subprocess.Popen(ours, env=environment, **options)


def main() -> None:
    """Run a task as upstream does, on the shared store."""
    from kiln_store import monai

    monai.use()
    from monailabel.interfaces.utils import app

    app.run_main()


if __name__ == "__main__":
    main()
