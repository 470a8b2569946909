"""Runs in the container: times starts of the service and imports of its modules, in turn. Prints JSON."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time

PYTHON = "/opt/monai-label/venv/bin/python"
UNIT = "monai-label.service"
SHARE = "/run/kiln-native"

# The service's own environment and account, so that both sides read the same bytecode and caches.
AS_SERVICE = [
    "systemd-run", "--quiet", "--wait", "--pipe", "--uid=monai-label", "--gid=monai-label",
    "--property=EnvironmentFile=/etc/kiln/monai-label.env",
    "--property=WorkingDirectory=/var/lib/monai-label",
    "--setenv=HOME=/var/lib/monai-label", "--setenv=XDG_CACHE_HOME=/var/lib/monai-label/cache",
    "--setenv=MPLCONFIGDIR=/var/lib/monai-label/cache/matplotlib", PYTHON,
]  # fmt: skip


def answers() -> bool:
    """Whether /info/ answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=30)
    connection.request("GET", "/info/")
    return connection.getresponse().status == 200


def start() -> float:
    """Seconds from asking systemd for the service to a 200 of /info/."""
    subprocess.run(["systemctl", "stop", UNIT], check=True)
    subprocess.run(["systemctl", "reset-failed", UNIT], check=False)
    begin = time.monotonic()
    subprocess.run(["systemctl", "start", UNIT], check=True)
    if not answers():
        raise SystemExit("the started service does not answer /info/ with 200")
    return time.monotonic() - begin


def imports(*options: str) -> float:
    """Seconds of one process that imports every module of the ready server."""
    begin = time.monotonic()
    subprocess.run([*AS_SERVICE, f"{SHARE}/import_all.py", f"{SHARE}/modules.json", *options], check=True)
    return time.monotonic() - begin


def main(rounds: int) -> None:
    """Learn the modules, warm the sides, then measure in turn."""
    subprocess.run(["systemctl", "stop", UNIT], check=True)
    subprocess.run([*AS_SERVICE, f"{SHARE}/list_modules.py", f"{SHARE}/modules.json"], check=True)
    start(), imports()
    turns = [(start(), imports(), imports("--without-gc")) for _ in range(rounds)]
    names = ("starts", "imports", "imports_without_gc")
    print(json.dumps(dict(zip(names, zip(*turns, strict=True), strict=True))))


if __name__ == "__main__":
    main(int(sys.argv[1]))
