"""What Ansible sends to a Windows host: the script it runs there, and a module's arguments as they arrive.

A module is a manifest on the standard input of a bootstrap script, whose own part ends with a line of
four null bytes (ansible-core 2.19, ``executor/powershell/module_manifest.py``).
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any

END = "\n\0\0\0\0\n"
"""What stands between the parts of the input."""

ENCODED = "-EncodedCommand "


@dataclass(frozen=True)
class Call:
    """A script or a module that Ansible runs on the host.

    Parameters
    ----------
    name:
        Of the module, with its collection; of Ansible's own script, with its ending.
    arguments:
        As the host receives them, Ansible's own (``_ansible_…``) apart.
    environment:
        Variables that are set for it.
    seconds:
        How long it may go on when it is not waited for; None where it is.
    """

    name: str
    arguments: dict[str, Any]
    environment: dict[str, str]
    seconds: int | None = None

    @property
    def is_module(self) -> bool:
        """Whether it is a module, and not a script of Ansible's own."""
        return not self.name.endswith(".ps1")


def script(command: str) -> str:
    """Return the PowerShell of a command line that Ansible has encoded; the line itself where it is plain."""
    _, found, encoded = command.partition(ENCODED)
    return base64.b64decode(encoded.split()[0]).decode("utf-16-le") if found else command


def call(data: bytes) -> Call:
    """Read what the bootstrap script gets.

    Parameters
    ----------
    data:
        Its standard input.

    Returns
    -------
    Call
        What it runs.

    Raises
    ------
    ValueError
        It is of another form: another version of Ansible.
    """
    parts = data.decode().split(END)
    if len(parts) < 2 or json.loads(parts[0]).get("name") != "exec_wrapper":
        raise ValueError("Ansible sends something else than exec_wrapper and a manifest")
    actions = {each["name"]: each["params"] for each in json.loads(parts[1])["actions"]}
    if "module_wrapper.ps1" not in actions:
        name, params = next(iter(actions.items()))
        return Call(name, params, {})
    module = actions["module_wrapper.ps1"]
    given: dict[str, Any] = next(
        (v["Value"] for v in module.get("Variables", []) if v["Name"] == "complex_args"), {}
    )
    watchdog = actions.get("async_watchdog.ps1")
    return Call(
        _short(module["Script"].removesuffix(".ps1")),
        {name: value for name, value in given.items() if not name.startswith("_ansible_")},
        module.get("Environment") or {},
        int(watchdog["Timeout"]) if watchdog else None,
    )


def _short(name: str) -> str:
    """The name of a module as a playbook has it."""
    return re.sub(r"^ansible_collections\.(.*)\.plugins\.modules\.", r"\1.", name)
