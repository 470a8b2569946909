"""What an image builder is and holds, asked of itself before it is an image: nobody sees its disk then."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from kiln.errors import AGAIN, KilnError
from launch.builder_host import Host

SCRIPTS = Path(__file__).parent / "bootstrap"

SECONDS = 300.0

PLACES: dict[str, dict[str, str]] = {
    "ssh": {
        "slicer": "/etc/kiln/slicer.json",
        "catalogue": "/etc/kiln/appstream.json",
        "sessions": "/opt/appstream/SessionScripts/config.json",
    },
    "winrm": {
        "slicer": r"C:\ProgramData\kiln\slicer.json",
        "catalogue": r"C:\ProgramData\kiln\appstream.json",
        "sessions": r"C:\AppStream\SessionScripts\config.json",
    },
}
"""Way into a builder → what our roles have written of themselves there, and where."""


@dataclass(frozen=True)
class Told:
    """What a builder says of itself.

    Parameters
    ----------
    system, release:
        As ``debian`` and ``12``; ``windows`` and the name of the edition.
    kernel:
        That runs, or Windows' version.
    python:
        Version of the system's own, None without one.
    packages:
        Of its package manager, or installed programs: name → version.
    slicer, catalogue, sessions:
        What the roles wrote of themselves; None where they did not.
    files:
        Path → content of what 3D Slicer starts with, None where the file is not there.
    """

    system: str
    release: str
    kernel: str
    python: str | None
    packages: dict[str, str]
    slicer: dict[str, Any] | None
    catalogue: dict[str, Any] | None
    sessions: dict[str, Any] | None
    files: dict[str, bytes | None]


def read(host: Host) -> Told:
    """Ask a builder what it is.

    Parameters
    ----------
    host:
        The builder, provisioned.

    Returns
    -------
    Told
        What it says.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    lines = [line.split("\t") for line in _run(host, "facts", []).splitlines() if "\t" in line]
    single = {line[0]: (line[1], line[2] if len(line) > 2 else "") for line in lines}
    if not {"system", "kernel"} <= set(single):
        raise KilnError("the builder does not tell what system it is", _LOOK)
    places = PLACES[host.connect]
    texts = _files(host, list(places.values()))
    known = {name: _document(path, texts[path]) for name, path in places.items()}
    slicer = known["slicer"]
    return Told(
        system=single["system"][0],
        release=single["system"][1].strip(),
        kernel=single["kernel"][0].strip(),
        python=single["python"][0].strip() if "python" in single else None,
        packages={line[1]: line[2].strip() for line in lines if line[0] == "package" and len(line) > 2},
        slicer=slicer,
        catalogue=known["catalogue"],
        sessions=known["sessions"],
        files=_files(host, [*of_slicer(slicer).values(), *_named(known)]) if slicer else {},
    )


def of_slicer(slicer: dict[str, Any] | None) -> dict[str, str]:
    """Return where the files are that 3D Slicer starts with: what each is → its path.

    Parameters
    ----------
    slicer:
        What its role wrote of it.
    """
    if slicer is None:
        return {}
    home = str(slicer.get("home", ""))
    kind = PureWindowsPath if "\\" in home else PurePosixPath
    extension = slicer.get("extension") or {}
    return {
        "settings": str(kind(home) / "slicer.org" / "Slicer.ini"),
        "start-up file": str(kind(home) / "kiln" / "slicerrc.py"),
        "module": str(kind(str(extension.get("path", home))) / "MONAILabel.py"),
    }


def _named(known: dict[str, dict[str, Any] | None]) -> list[str]:
    """Programs that the session scripts' settings name."""
    sessions = known["sessions"] or {}
    events = [event for event in sessions.values() if isinstance(event, dict)]
    return [str(each.get("filename")) for event in events for each in event.get("executables", [])]


_LOOK = f"look at it on the builder (--keep leaves it), then {AGAIN}"


def _document(path: str, body: bytes | None) -> dict[str, Any] | None:
    if body is None:
        return None
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise KilnError(f"{path} on the builder is no object of JSON", _LOOK)
    return found


def _files(host: Host, paths: list[str]) -> dict[str, bytes | None]:
    """Read files; None for one that is not there."""
    wanted = list(dict.fromkeys(paths))
    lines = _run(host, "files", wanted).split()
    if len(lines) != len(wanted):
        raise KilnError(f"the builder answered for {len(lines)} of {len(wanted)} files", _LOOK)
    try:
        return {
            path: None if line == "no" else base64.b64decode(line, validate=True)
            for path, line in zip(wanted, lines, strict=True)
        }
    except binascii.Error as error:
        raise KilnError(f"the builder's files did not arrive whole: {error}", _LOOK) from None


def command(connect: str, name: str, arguments: list[str]) -> list[str]:
    """Return the command that runs one of our scripts on a builder.

    Parameters
    ----------
    connect:
        The way in.
    name:
        Of the script, ``facts`` or ``files``.
    arguments:
        Its arguments.
    """
    if connect == "ssh":
        return ["sh", "-c", (SCRIPTS / f"{name}.sh").read_text(encoding="utf-8"), "sh", *arguments]
    # As text in base64, which no shell on the way takes apart.
    quoted = ", ".join("'" + each.replace("'", "''") + "'" for each in arguments)
    script = f"$Files = @({quoted})\n" + (SCRIPTS / f"{name}.ps1").read_text(encoding="utf-8")
    encoded = base64.b64encode(script.encode("utf-16-le")).decode()
    return ["powershell.exe", "-NoProfile", "-NonInteractive", "-EncodedCommand", encoded]


def _run(host: Host, name: str, arguments: list[str]) -> str:
    answer = host.run(command(host.connect, name, arguments), SECONDS)
    if answer.code != 0:
        said = " ".join((answer.err or answer.out).split())[:200]
        raise KilnError(f"the builder does not tell its {name}: {said or 'no answer'}", _LOOK)
    return answer.out
