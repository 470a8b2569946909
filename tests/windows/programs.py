"""The programs of the Windows host that a playbook calls: what each would leave, and how it would err.

They are as strict as what they stand for where that is known to bite: an NSIS installer takes ``/D=`` without
quotes, as the last of its arguments, and installs for one user where it finds none.
"""

from __future__ import annotations

import hashlib
import json
import ntpath
import re
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from itertools import pairwise
from typing import Any

from kiln import paths
from tests.windows.machine import Machine

PER_USER = "C:\\Users\\Administrator\\AppData\\Local\\slicer.org\\Slicer"

INSTALLED = ("Slicer.exe", "Uninstall.exe", "bin\\SlicerApp-real.exe", "bin\\PythonSlicer.exe")

Done = tuple[int, str, str]
"""Exit code, standard output and error."""


def installer(machine: Machine, content: bytes, arguments: str) -> Done:
    """Run an NSIS installer of 3D Slicer, whose content is a ZIP archive of what it holds.

    Parameters
    ----------
    machine:
        The host.
    content:
        Of the installer.
    arguments:
        Its command line, the program apart.
    """
    if "/S" not in arguments.split():
        return 1, "", "a window waits for somebody who clicks"
    found = re.search(r"(?:^|\s)/D=([^\"]+)$", arguments)
    home = found[1] if found else PER_USER
    for name in INSTALLED:
        machine.make(ntpath.dirname(f"{home}\\{name}"))
        machine.put(f"{home}\\{name}", b"")
    with zipfile.ZipFile(BytesIO(content)) as archive:
        for name in archive.namelist():
            path = home + "\\" + name.replace("/", "\\")
            machine.make(ntpath.dirname(path))
            machine.put(path, archive.read(name))
    return 0, "", ""


def uninstaller(machine: Machine, line: str) -> Done:
    """Run NSIS's uninstaller: without ``_?=`` it copies itself and returns before it has done anything."""
    found = re.search(r"/S\s+_\?=([^\"]+)$", line)
    if not found:
        return 0, "", ""
    for name in list(machine.under(found[1])):
        # It leaves what it has not installed, and itself where it runs in place.
        if not name.endswith("uninstall.exe") and "\\slicer.org\\" not in name and "\\kiln\\" not in name:
            machine.remove(name)
    return 0, "", ""


def slicer(machine: Machine, words: list[str]) -> Done:
    """Run 3D Slicer with the script that installs an extension: what that leaves, and how it refuses."""
    home = ntpath.dirname(words[0])
    at = words.index("--python-script") + 1
    script, archive, report_file, name, _, revision = (*words[at:], *[""] * 6)[:6]
    if machine.read(script) is None:
        return 1, "", f"Couldn't find python script: {script}"
    content = machine.read(archive)
    top = content.decode().split("\n")[0] if content else ""
    wanted = f"{revision}-win-amd64-{name}-"
    if not top.startswith(wanted):
        problem = f"the extension is {top or 'empty'}, and this Slicer takes {wanted}…"
        report: dict[str, Any] = {"installed": False, "problem": problem}
    else:
        folder = f"{home}\\slicer.org\\Extensions-{revision}\\{name}"
        module = f"{folder}\\lib\\Slicer-5.10\\qt-scripted-modules"
        for made in ("MONAILabel.py", "Resources\\Icons\\MONAILabel.png", "Resources\\UI\\MONAILabel.ui"):
            machine.make(ntpath.dirname(f"{module}\\{made}"))
            machine.put(f"{module}\\{made}", made.encode())
        report = {
            "installed": True, "name": name, "revision": revision,
            "archive": top, "path": module, "missing": ["UI/LoginDialog.ui"],
        }  # fmt: skip
    machine.put(report_file, json.dumps(report).encode())
    return int(not report["installed"]), "", ""


def options(words: list[str]) -> dict[str, str]:
    """Return the options of a command line that have a value."""
    return {name: value for name, value in pairwise(words) if name.startswith("--")}


def ec2launch(machine: Machine, words: list[str]) -> Done:
    """Run EC2Launch v2: reset forgets what this instance was, sysprep shuts it down."""
    if words[1:2] == ["sysprep"] and "--shutdown" in words:
        machine.state["off"] = True
    return 0, "", ""


def assistant(machine: Machine, words: list[str]) -> Done:
    """Run the Image Assistant: as much of it as its catalogue."""
    there: list[dict[str, Any]] = machine.state["applications"]
    known = options(words)
    answer: dict[str, Any] = {"status": 0, "message": "Success"}
    if words[1] == "list-applications":
        answer["applications"] = there
    elif words[1] == "remove-application":
        machine.state["applications"] = [each for each in there if each["Name"] != known["--name"]]
    elif words[1] == "add-application":
        keys = {name: "".join(part.title() for part in name[2:].split("-")) for name in known}
        there.append({keys[name]: value for name, value in known.items()})
    return 0, json.dumps(answer), ""


def succeeds(machine: Machine, words: list[str]) -> Done:
    """Run a program of which nothing is looked at but that it was called."""
    return 0, "", ""


PROGRAMS: dict[str, Callable[[Machine, list[str]], Done]] = {
    "slicer.exe": slicer,
    "ec2launch.exe": ec2launch,
    "image-assistant.exe": assistant,
    "grid.exe": succeeds,
}
"""By the last part of the path."""


def split(line: str) -> list[str]:
    """Split a command line as Windows programs do, as far as quotes go."""
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)]


def run(machine: Machine, line: str, words: list[str]) -> Done | None:
    """Run a command line; None where the host has no such program.

    Parameters
    ----------
    machine:
        The host.
    line:
        As it was given, where it was given as a line.
    words:
        Its parts.
    """
    name = ntpath.basename(words[0]).lower()
    if machine.read(words[0]) is None:
        return None
    if name == "uninstall.exe":
        return uninstaller(machine, line)
    return PROGRAMS[name](machine, words) if name in PROGRAMS else None


# ---- our own scripts: nothing here runs PowerShell


def prewarm(machine: Machine, given: Mapping[str, Any]) -> bool | str:
    """What ``prewarm.ps1`` leaves."""
    found = sorted(name for folder in given["Folders"] for name in machine.under(folder))
    if not found:
        return f"no file lies below {', '.join(given['Folders'])}: correct appstream_prewarm"
    text = "".join(f"{name}\r\n" for name in found).encode()
    changed = machine.read(given["Manifest"]) != text
    machine.put(given["Manifest"], text)
    return changed


def fetch_object(machine: Machine, given: Mapping[str, Any]) -> bool | str:
    """What ``fetch_object.ps1`` leaves."""
    content = machine.served(f"s3://{given['Bucket']}/{given['Key']}")
    if content is None:
        return "The specified key does not exist."
    got = hashlib.sha256(content).hexdigest()
    if got != given["Sha256"]:
        return f"s3://{given['Bucket']}/{given['Key']} has the sha256 {got}, and not {given['Sha256']}"
    changed = machine.read(given["Path"]) != content
    machine.put(given["Path"], content)
    return changed


SCRIPTS: dict[str, Callable[[Machine, Mapping[str, Any]], bool | str]] = {
    "appstream/files/windows/prewarm.ps1": prewarm,
    "slicer/files/windows/fetch_object.ps1": fetch_object,
}
"""Below ``ansible/roles``."""


def script_named(text: str) -> str | None:
    """Return which of our scripts a text is, None where it is none."""
    roles = paths.ROOT / "ansible/roles"
    return next((name for name in SCRIPTS if (roles / name).read_text(encoding="utf-8") == text), None)


def script(machine: Machine, text: str, given: Mapping[str, Any]) -> bool | str:
    """Do what one of our scripts does; return whether that changed something, or why it did not go.

    Parameters
    ----------
    machine:
        The host.
    text:
        Of the script, as it arrived.
    given:
        Its parameters.

    Raises
    ------
    AssertionError
        It is none of ours.
    """
    name = script_named(text)
    assert name, f"the host that stands in for Windows knows no such script: {text[:200]}"
    return SCRIPTS[name](machine, given)
