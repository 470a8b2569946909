"""Notes which task runs before it does, and how it ended: the connection only knows a task by its number."""

from __future__ import annotations

from typing import Any

from ansible.executor.task_result import CallbackTaskResult
from ansible.plugins.callback import CallbackBase

from tests.windows.rehearsal import Notes

DOCUMENTATION = """
    name: kiln_rehearsal
    type: notification
    short_description: notes the tasks of a rehearsal
    description:
      - Appends to the notes in the folder that KILN_REHEARSAL names.
    requirements:
      - enabled by ANSIBLE_CALLBACKS_ENABLED
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Appends as it goes."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "kiln_rehearsal"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._notes = Notes.of_environment()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._notes.starts(
            task._uuid, task.get_path(), task.get_name().strip(), task.resolved_action, task.args
        )

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        self._notes.ended(result.task._uuid, "changed" if result.is_changed() else "ok", result.result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        self._notes.ended(result.task._uuid, "ignored" if ignore_errors else "failed", result.result)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        self._notes.ended(result.task._uuid, "unreachable", result.result)

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        self._notes.ended(result.task._uuid, "skipped", result.result)
