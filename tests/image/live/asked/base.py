"""What any guest says of itself."""

from __future__ import annotations

import glob
import json
import os
import pwd
import re
import urllib.error
import urllib.request
from typing import Any

from tests.image.live.asked.common import read, run, units

METADATA = "http://169.254.169.254/latest"
TTL = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}


def metadata(method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    """Status and text of the instance metadata service; 0 and why where it does not answer."""
    headers = {"User-Agent": "kiln-proof", **headers}
    request = urllib.request.Request(f"{METADATA}/{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError as error:
        return 0, str(error)


def sshd() -> dict[str, str]:
    """Account that has a shell → what sshd would do with it."""
    shells = read("/etc/shells").split()
    names = [account.pw_name for account in pwd.getpwall() if account.pw_shell in shells]
    asked = "user={},host=localhost,addr=127.0.0.1"
    return {name: run("/usr/sbin/sshd", "-T", "-C", asked.format(name)) for name in names}


def answers() -> dict[str, Any]:
    """The answers, by name."""
    space = os.statvfs("/")
    number = os.stat("/").st_dev
    partition = os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    version_1 = metadata("GET", "meta-data/instance-id", {})
    _, token = metadata("PUT", "api/token", TTL)
    version_2 = metadata("GET", "meta-data/instance-id", {"X-aws-ec2-metadata-token": token})
    booted = re.search(r"^btime (\d+)", read("/proc/stat"), re.MULTILINE)
    return {
        "state": run("systemctl", "is-system-running").strip(),
        "failed": run("systemctl", "list-units", "--failed", "--plain", "--no-legend").split("\n"),
        "units": units(),
        "machine_id": read("/etc/machine-id").strip(),
        "journals": sorted({os.path.basename(path) for path in glob.glob("/*/log/journal/*")}),
        "mounted": re.findall(r"^\d+ \d+ \S+ \S+ (\S+) ", read("/proc/self/mountinfo"), re.MULTILINE),
        "host_keys": {path: os.stat(path).st_mtime for path in glob.glob("/etc/ssh/ssh_host_*")},
        "booted": float(booted[1]) if booted else 0.0,
        "release": read("/etc/image-release"),
        "root_bytes": space.f_blocks * space.f_frsize,
        "free_bytes": space.f_bavail * space.f_frsize,
        "disk_bytes": 512 * int(read(f"{os.path.dirname(partition)}/size") or 0),
        "kernel": os.uname().release,
        "cloud_init": json.loads(read("/run/cloud-init/result.json") or "{}"),
        "resolv_conf": os.path.islink("/etc/resolv.conf") and os.readlink("/etc/resolv.conf"),
        "metadata": {"1": version_1, "2": version_2},
        "sshd": sshd(),
    }
