"""A connection to a host that stands in for Windows: it keeps what arrives, and answers as modules document.

The host lies in the folder that ``kiln_windows_folder`` names; ``tests/windows/rehearsal.py`` reads it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.connection import ConnectionBase

from tests.windows import answers, documented, wire
from tests.windows.machine import Machine
from tests.windows.rehearsal import Notes, Trouble

DOCUMENTATION = """
    name: kiln_windows
    short_description: a host that stands in for Windows
    description:
      - Keeps each module with the arguments as it receives them, and answers in the shape of its RETURN.
    options:
      folder:
        description: Where the host lies.
        type: str
        required: true
        vars:
          - name: kiln_windows_folder
"""

TEMPORARY = "C:\\Users\\Administrator\\AppData\\Local\\Temp"


class Connection(ConnectionBase):  # type: ignore[misc]
    """What psrp and winrm are to Ansible, without a Windows behind it."""

    transport = "kiln_windows"
    module_implementation_preferences = (".ps1", ".exe", "")
    allow_executable = False
    has_pipelining = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.always_pipeline_modules = True
        self.has_native_async = True
        self._shell_type = "powershell"
        self._task = str(kwargs["task_uuid"])
        super().__init__(*args, **kwargs)

    def _connect(self) -> Connection:
        self._folder = Path(self.get_option("folder"))
        self._connected = True
        return self

    def close(self) -> None:
        self._connected = False

    def reset(self) -> None:
        self._connect()

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        self._connect()
        machine = self._machine()
        try:
            if in_data:
                return self._call(machine, wire.call(in_data))
            text = wire.script(cmd)
            if answers.SHUTDOWN.search(text) and self._plans(Trouble.FAILS):
                return 1, b'{"rc": 5, "stdout": "", "stderr": "Access is denied.(5)"}', b""
            said = answers.script(machine, text)
        finally:
            machine.save()
        if said is None:
            raise AnsibleError(f"the host that stands in for Windows knows no such script: {text}")
        return 0, said.encode(), b""

    def put_file(self, in_path: str, out_path: str) -> None:
        self._connect()
        machine = self._machine()
        machine.put(self._shell._unquote(out_path), Path(in_path).read_bytes())
        machine.save()

    def fetch_file(self, in_path: str, out_path: str) -> None:
        raise AnsibleError("a playbook of ours fetches nothing from Windows")

    def _machine(self) -> Machine:
        machine = Machine(self._folder)
        if machine.state["off"]:
            raise AnsibleConnectionFailure("the host has been shut down")
        if machine.state["away"]:
            machine.state["away"] -= 1
            machine.save()
            raise AnsibleConnectionFailure("the host starts again")
        return machine

    def _plans(self, trouble: Trouble) -> bool:
        return Notes(self._folder).trouble(self._task) is trouble

    def _call(self, machine: Machine, call: wire.Call) -> tuple[int, bytes, bytes]:
        if not call.is_module:
            assert call.name == "powershell_mkdtemp.ps1", f"nothing of ours needs {call.name}"
            assert call.arguments["Directory"] == "%TEMP%", "a folder of Linux for a host of Windows"
            folder = f"{TEMPORARY}\\{call.arguments['Name']}"
            machine.make(folder)
            return 0, folder.encode(), b""
        notes = Notes(self._folder)
        trouble = notes.trouble(self._task)
        notes.arrived(self._task, call)
        if trouble is Trouble.FAILS:
            return 0, json.dumps({"failed": True, "msg": "planted: the module failed"}).encode(), b""
        known = documented.kept(self._folder)
        assert call.name in known, f"the host that stands in for Windows knows no {call.name}"
        said = answers.answer(machine, call, known[call.name])
        if trouble is Trouble.REBOOT and not said.get("failed"):
            said |= {"reboot_required": True, "changed": True}
        if trouble is Trouble.REBOOTS:
            # It had done its work, and nobody heard of it.
            machine.reboot()
            raise AnsibleConnectionFailure("the host starts again")
        return 0, json.dumps(said).encode(), b""
