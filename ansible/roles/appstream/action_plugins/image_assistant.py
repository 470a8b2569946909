"""Drives AWS's Image Assistant on a host, Windows or Linux: the protocol is kiln's, the way Ansible's own."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.action import ActionBase

from kiln import appstream, assistant
from kiln.assistant import Answer, RefusedByAssistantError
from kiln.errors import KilnError


def plain(given: Any) -> Any:
    """Without Ansible's own kinds of text and numbers, which say where a value comes from."""
    return json.loads(json.dumps(given, default=str))


class ActionModule(ActionBase):  # type: ignore[misc]
    """What Ansible asks for; library/image_assistant.py has what it takes."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Bring the builder to what is asked."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {
                "applications": {"type": "list", "elements": "dict"},
                "default_profile": {"type": "bool", "default": False},
                "image": {"type": "dict"},
                "program": {"type": "str"},
            }
        )
        did: list[str] = []
        only_look = bool(self._task.check_mode)
        windows = bool(getattr(self._connection._shell, "_IS_WINDOWS", False))
        program = given["program"] or assistant.PROGRAMS["windows" if windows else "linux"]

        def call(arguments: list[str]) -> Answer:
            return self._call(windows, [program, *arguments], task_vars)

        try:
            changed = False
            if given["applications"] is not None:
                wanted = appstream.applications(plain(given["applications"]))
                changed = assistant.catalogue(call, wanted, did.append, only_look=only_look)
            if given["default_profile"]:
                did.append("giving new users the profile of the template user")
                changed = True
                if not only_look:
                    assistant.default_profile(call)
            if given["image"] is not None:
                changed = self._image(call, plain(given["image"]), did, only_look) or changed
        except KilnError as error:
            return {**result, "failed": True, "msg": f"{error.what}. {error.hint}.", "did": did}
        return {**result, "changed": changed, "did": did}

    def _image(self, call: assistant.Call, given: dict[str, Any], did: list[str], only_look: bool) -> bool:
        """Let the builder become an image; say whether it does."""
        wanted = appstream.image(given)
        try:
            assistant.create_image(
                call,
                wanted.name,
                did.append,
                description=wanted.description,
                display_name=wanted.display_name,
                latest_agent=wanted.latest_agent,
                tags=wanted.tags,
                only_look=only_look,
            )
        except RefusedByAssistantError as error:
            if assistant.TAKEN not in error.message:
                raise
            did.append(f"there is an image {wanted.name} already")
            return False
        return True

    def _call(self, windows: bool, argv: list[str], task_vars: dict[str, Any] | None) -> Answer:
        """Run a program on the host; its exit code is the protocol's to judge."""
        module = "ansible.windows.win_command" if windows else "ansible.legacy.command"
        arguments: dict[str, Any] = {"argv": argv}
        if not windows:
            arguments["expand_argument_vars"] = False
        # A check mode asks only what changes nothing; the modules would not run even that.
        checking, self._task.check_mode = self._task.check_mode, False
        try:
            found = self._execute_module(module_name=module, module_args=arguments, task_vars=task_vars)
        finally:
            self._task.check_mode = checking
        if found.get("unreachable") or "rc" not in found:
            return Answer(None, "", " ".join(str(found.get("msg", "no answer")).split())[:300])
        return Answer(int(found["rc"]), found.get("stdout", ""), found.get("stderr", ""))
