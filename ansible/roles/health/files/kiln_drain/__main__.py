"""``kiln-drain watch|stop|status``: what the units call, and ``status`` for whoever looks."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from kiln_instance import settings as settings_
from kiln_instance.settings import Settings, WrongError
from kiln_instance.systemd import say

from kiln_drain.stop import stop
from kiln_drain.watch import Watcher


def status(settings: Settings) -> int:
    """Say how it stands, in lines."""
    file = Path(settings.draining).with_name("status.json")
    try:
        said = json.loads(file.read_text())
    except (OSError, ValueError):
        print("kiln-drain.service has not run; systemctl status kiln-drain says why", file=sys.stderr)
        return 1
    work = ", ".join(
        f"{said[each]} {each.replace('_', ' ')}" for each in ("requests", "trainings", "batch_inferences")
    )
    for label, value in (
        ("state", f"{said['state']}: {said['means']}"),
        ("work", work),
        ("leaving", said["leaving"] and f"{said['leaving']}, {said['waited_seconds']:.0f} s ago"),
        ("where", said["where"]),
        ("AWS", said["aws"] and f"{said['heartbeats']} heartbeats, {said['aws']['failed']} calls failed"),
        ("last", said["aws"].get("last_failure", "")),
    ):
        if value:
            print(f"{label + ':':9}{value}")
    return 0


def main() -> int:
    """Run as a program; return the exit code."""
    command = sys.argv[1] if len(sys.argv) == 2 else ""
    if command not in ("watch", "stop", "status"):
        print("usage: kiln-drain watch|stop|status", file=sys.stderr)
        return 2
    try:
        settings = settings_.load(os.environ)
    except WrongError as error:
        say(f"kiln-drain: {error}", 3)
        return 2
    if command == "status":
        return status(settings)
    if command == "stop":
        # Never a failure: a unit whose stop has failed is a unit that failed.
        stop(settings)
        return 0
    Watcher(settings, Path(os.environ.get("STATE_DIRECTORY", "/var/lib/kiln-drain"))).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
