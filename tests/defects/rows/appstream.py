"""Defects of what AppStream finds: icons that start nothing, scripts that let no session start."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.defects.defect import Defect, change, folder, mode, owner, static, write

CATALOGUE = "etc/kiln/appstream.json"
SESSIONS = "opt/appstream/SessionScripts/config.json"
SCRIPT = "opt/appstream/SessionScripts/kiln-start.sh"
ICON = "opt/slicer/kiln/slicer.png"
CONTEXT = "var/lib/kiln"


def large(root: Path) -> None:
    """Put the head of a PNG of 512 by 512 pixels in place of the icon."""
    (root / ICON).write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 512, 512))


STATIC = [
    Defect(
        "empty catalogue",
        write(CATALOGUE, '{"applications": []}\n'),
        static(
            "test_appstream::test_catalogue_is_one_that_appstream_takes",
            "test_appstream::test_icons_start_something",
            "test_appstream::test_what_is_read_ahead_is_there",
        ),
        ("users have nothing to click",),
    ),
    Defect(
        "name that AppStream does not take",
        change(CATALOGUE, '"name": "slicer"', '"name": "3D Slicer"'),
        static("test_appstream::test_catalogue_is_one_that_appstream_takes"),
        ("AppStream takes no such catalogue: application 1, name",),
    ),
    Defect(
        "icon that starts nothing",
        change(CATALOGUE, '"path": "[^"]*"', '"path": "/opt/slicer/Slicer.exe"'),
        static("test_appstream::test_icons_start_something"),
        ("starts /opt/slicer/Slicer.exe, which users cannot run",),
    ),
    Defect(
        "icon that is no PNG",
        write(ICON, "GIF89a" + "x" * 30),
        static("test_appstream::test_icons_start_something"),
        ("is no PNG",),
    ),
    Defect(
        "icon that is too large",
        large,
        static("test_appstream::test_icons_start_something"),
        ("has 512 by 512 pixels",),
    ),
    Defect(
        "application in a folder that is none",
        change(CATALOGUE, '"working_directory": "[^"]*"', '"working_directory": "/etc/passwd"'),
        static("test_appstream::test_icons_start_something"),
        ("/etc/passwd, which is no folder",),
    ),
    Defect(
        "read ahead what is not there",
        write("usr/share/kiln/appstream/slicer.txt", "/opt/slicer/bin/gone\n"),
        static("test_appstream::test_what_is_read_ahead_is_there"),
        ("names what is not there: /opt/slicer/bin/gone",),
    ),
    Defect(
        "nothing read ahead",
        write("usr/share/kiln/appstream/slicer.txt", ""),
        static("test_appstream::test_what_is_read_ahead_is_there"),
        ("names no file",),
    ),
    Defect(
        "session that waits too long",
        change(SESSIONS, '"waitingTime": [0-9]+', '"waitingTime": 61'),
        static("test_appstream::test_session_scripts_are_within_limits"),
        ("waits 61 s, and AppStream at most 60",),
    ),
    Defect(
        "script as nobody that AppStream knows",
        change(SESSIONS, '"context": "system"', '"context": "root"'),
        static(
            "test_appstream::test_session_scripts_are_within_limits",
            "test_appstream::test_a_session_starts",
        ),
        ("runs as root",),
    ),
    Defect(
        "script that users may change",
        mode(SCRIPT, 0o775),
        static("test_appstream::test_session_scripts_are_roots"),
        ("others may change /opt/appstream/SessionScripts/kiln-start.sh",),
    ),
    Defect(
        "script that cannot be run",
        mode(SCRIPT, 0o644),
        static("test_appstream::test_session_scripts_are_roots", "test_appstream::test_a_session_starts"),
        ("not to be run: /opt/appstream/SessionScripts/kiln-start.sh",),
    ),
    Defect(
        "script that lets no session start",
        change(SCRIPT, "exit 0$", "exit 3"),
        static("test_appstream::test_a_session_starts"),
        ("ends with", "no session would start"),
    ),
    Defect(
        "context that users may write",
        owner(CONTEXT, 1000),
        static("test_appstream::test_context_of_a_session_is_roots"),
        ("users may say which server a session has: /var/lib/kiln",),
    ),
    Defect(
        "context of a session in the image",
        folder(f"{CONTEXT}/session-context.json"),
        static("test_appstream::test_context_of_a_session_is_roots"),
        ("has the context of a session already",),
    ),
]
