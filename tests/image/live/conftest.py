"""What a booted guest says of itself, asked in one call: it is emulated, each program start takes seconds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

# Runs in the guest, by Debian's python3 and as root; prints one JSON document.
_PROGRAM = r"""
import glob, json, os, re, subprocess, sys, urllib.request

def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout

def read(path):
    try:
        with open(path) as stream:
            return stream.read()
    except OSError:
        return ""

def get(url):
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            return [answer.status, json.load(answer)]
    except Exception as error:
        return [getattr(error, "code", 0), repr(error)]

units = {}
shown = "--property=Id,ActiveState,NRestarts,MainPID"
for block in run("systemctl", "show", "--type=service", shown, "*").split("\n\n"):
    pairs = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    units[pairs.get("Id", "")] = pairs
pid = units.get("monai-label.service", {}).get("MainPID", "0")
space = os.statvfs("/")
number = os.stat("/").st_dev
partition = os.path.realpath("/sys/dev/block/%d:%d" % (os.major(number), os.minor(number)))
studies = "/var/lib/monai-label/studies"
print(json.dumps({
    "state": run("systemctl", "is-system-running").strip(),
    "failed": run("systemctl", "list-units", "--failed", "--plain", "--no-legend").split("\n"),
    "units": units,
    "machine_id": read("/etc/machine-id").strip(),
    "journals": sorted({os.path.basename(path) for path in glob.glob("/*/log/journal/*")}),
    "mounted": re.findall(r"^\d+ \d+ \S+ \S+ (\S+) ", read("/proc/self/mountinfo"), re.M),
    "host_keys": {path: os.stat(path).st_mtime for path in glob.glob("/etc/ssh/ssh_host_*")},
    "booted": float(re.search(r"^btime (\d+)", read("/proc/stat"), re.M)[1]),
    "release": read("/etc/image-release"),
    "root_bytes": space.f_blocks * space.f_frsize,
    "disk_bytes": 512 * int(read(os.path.dirname(partition) + "/size") or 0),
    "kernel": os.uname().release,
    "cloud_init": json.loads(read("/run/cloud-init/result.json") or "{}"),
    "resolv_conf": os.path.islink("/etc/resolv.conf") and os.readlink("/etc/resolv.conf"),
    "sshd": run("/usr/sbin/sshd", "-T"),
    "listening": read("/proc/net/tcp"),
    "process": dict(re.findall(r"^(\w+):\s*(.*)$", read("/proc/" + pid + "/status"), re.M)),
    "mounts": read("/proc/" + pid + "/mountinfo"),
    "studies": [os.stat(studies)[i] for i in (0, 4, 5)] if os.path.exists(studies) else [],
    "info": get("http://127.0.0.1:8000/info/") if pid != "0" else [0, "not running"],
}))
"""


@pytest.fixture(scope="session")
def guest(host: Host) -> dict[str, Any]:
    done = host.run("sudo python3 -c %s", _PROGRAM)
    assert done.rc == 0, f"the guest cannot be asked: {done.stderr.strip()[-300:]}"
    said: dict[str, Any] = json.loads(done.stdout)
    return said
