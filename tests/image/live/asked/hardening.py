"""What a guest says of the controls of the role hardening."""

from __future__ import annotations

import glob
import re
from typing import Any

from tests.image.live.asked.common import read, run

MOUNTED = ("/tmp", "/dev/shm")


def answers() -> dict[str, Any]:
    """The answers, by name."""
    said = "\n".join(read(path) for path in glob.glob("/etc/sysctl.d/*.conf"))
    names = re.findall(r"^-?([\w.]+)\s*=", said, re.MULTILINE)
    mounts = re.findall(r"^\d+ \d+ \S+ \S+ (\S+) (\S+) ", read("/proc/self/mountinfo"), re.MULTILINE)
    return {
        "hardening": read("/etc/kiln/hardening.json"),
        "sysctl": {name: read(f"/proc/sys/{name.replace('.', '/')}").strip() for name in names},
        "modules": re.findall(r"^(\S+)", read("/proc/modules"), re.MULTILINE),
        "sshd_settings": run("/usr/sbin/sshd", "-T"),
        "mount_options": {path: options for path, options in mounts if path in MOUNTED},
        "manager": run("systemctl", "show", "--property=DefaultLimitCORE,Environment"),
        "journal_on_disk": glob.glob("/var/log/journal/*/system.journal"),
    }
