"""What a guest says of its studies on EFS, and what it makes of a file system that is not there."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.image.live.asked.common import read, units

POINT = "/mnt/studies"
DEAD = "EFS_HOST=127.0.0.1\nEFS_PORT=9\n"
"""A port on which nobody listens."""

SECONDS = 3
GET_FLAGS, IMMUTABLE = 0x80086601, 0x10
"""From linux/fs.h: FS_IOC_GETFLAGS, FS_IMMUTABLE_FL."""

LISTENING = ("07", "0A")
"""States of an open UDP and a listening TCP socket in /proc/net."""


def attempt() -> dict[str, Any]:
    """How an attempt to reach a dead address ends. It seals the mount point, as any attempt does."""
    with tempfile.NamedTemporaryFile("w", suffix=".env") as settings:
        settings.write(DEAD)
        settings.flush()
        began = time.monotonic()
        try:
            done = subprocess.run(
                ["/usr/local/sbin/kiln-efs", "check", str(SECONDS)],
                env={**os.environ, "KILN_EFS_SETTINGS": settings.name},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=120,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"code": 0, "said": repr(error), "seconds": time.monotonic() - began}
    return {"code": done.returncode, "said": done.stdout.strip(), "seconds": time.monotonic() - began}


def immutable() -> bool:
    """Whether not even root can write to the bare mount point, by its flag."""
    flags = array.array("L", [0])
    try:
        handle = os.open(POINT, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.ioctl(handle, GET_FLAGS, flags)
    except OSError:
        return False
    finally:
        os.close(handle)
    return bool(flags[0] & IMMUTABLE)


def write() -> str:
    """What root gets who writes to the bare mount point."""
    trial = Path(POINT) / "kiln-live-check"
    try:
        trial.write_text("x")
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "?")
    trial.unlink()
    return "written"


def sockets() -> list[str]:
    """Local addresses of listening sockets, as the kernel writes them."""
    lines = [
        line.split()
        for kind in ("tcp", "tcp6", "udp", "udp6")
        for line in read(f"/proc/net/{kind}").splitlines()
    ]
    return sorted({words[1] for words in lines if len(words) > 3 and words[3] in LISTENING})


def answers() -> dict[str, Any]:
    """The answers, by name."""
    # Before anything tries to mount: an attempt would seal it.
    status = os.stat(POINT) if os.path.isdir(POINT) else None
    sealed = immutable()
    written = write()
    return {
        "efs": {
            "settings": os.path.exists("/etc/kiln/efs.env"),
            "states": {
                name: units().get(f"{name}.service", {}).get("ActiveState", "inactive")
                for name in ("kiln-efs", "kiln-efs-tunnel", "kiln-efs-check")
            },
            "immutable": sealed,
            "point": [status.st_mode & 0o7777, status.st_uid, status.st_gid] if status else [-1, -1, -1],
            "write": written,
            "attempt": attempt(),
            "sockets": sockets(),
        }
    }
