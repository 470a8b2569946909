"""Hands kiln-auth what it must read: write_files brings root's files, and kiln-auth is another user."""

from __future__ import annotations

import errno
import grp
import json
import os
import stat
from pathlib import Path

from .places import Places

GROUP = "kiln-auth"

FOLDER = "/etc/kiln/auth"
"""Where kiln-auth looks for users and for the key that signs tokens, whatever a document says."""

MODE = 0o640


def over(places: Places, files: dict[str, str]) -> None:
    """Make the files that kiln-auth reads its group's: those in its folder, and those that a document names.

    systemd's LoadCredential would read them as root, once: a user who is taken out of the file must be out at
    once, and not at the next start.

    Parameters
    ----------
    places:
        The machine.
    files:
        Of the document that counts, by name; of these auth.json is read.

    Raises
    ------
    OSError
        One of them cannot be changed.
    """
    try:
        group = grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return  # an image without log-in
    said = json.loads(files.get("auth.json", "{}"))
    named = (said.get("users_file"), said.get("oidc", {}).get("client_secret_file"))
    paths = {*places.at(FOLDER).glob("*"), *(places.at(path) for path in named if path)}
    for path in sorted(paths):
        _give(path, group)


def _give(path: Path, group: int) -> None:
    """Make a plain file of root's a group's to read, and nobody else's; a link leads to somebody else's."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return
        raise
    try:
        status = os.fstat(handle)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            os.fchown(handle, -1, group)
            os.fchmod(handle, MODE)
    finally:
        os.close(handle)
