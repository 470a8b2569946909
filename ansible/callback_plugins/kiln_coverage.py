"""Notes which tasks and handlers of the roles ran, a line each, in the folder that KILN_COVERAGE names.

A task that was skipped or that failed is not noted; one whose failure the role ignores is.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path

from ansible.executor.task_result import CallbackTaskResult
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: kiln_coverage
    type: notification
    short_description: notes which tasks of the roles ran
    description:
      - Appends a JSON line for each task and handler of a role that ran, to a file of its own.
    requirements:
      - enabled by ANSIBLE_CALLBACKS_ENABLED, and KILN_COVERAGE names a folder
"""

ROLES = Path(__file__).resolve().parents[1] / "roles"


class CallbackModule(CallbackBase):
    """Appends as it goes: what a killed run has noted stays."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "kiln_coverage"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        folder = os.environ.get("KILN_COVERAGE")
        self.disabled = not folder
        self._file = Path(folder or "", f"{uuid.uuid4().hex}.jsonl")
        self._seen: set[str] = set()
        self._digests: dict[str, str] = {}

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        self._note(result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        if ignore_errors:
            self._note(result)

    def _note(self, result: CallbackTaskResult) -> None:
        place = result.task.get_path()
        if place in self._seen:
            return
        self._seen.add(place)
        name, _, line = place.rpartition(":")
        path = Path(os.path.realpath(name))
        if not path.is_relative_to(ROLES):
            return
        if name not in self._digests:
            self._digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        note = {"file": path.relative_to(ROLES).as_posix(), "line": int(line), "sha256": self._digests[name]}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(note) + "\n")
