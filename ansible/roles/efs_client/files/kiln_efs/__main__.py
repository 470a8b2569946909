"""``kiln-efs COMMAND``: what the units call, and ``status`` for whoever looks."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from kiln_efs import point, probe, settings, units, watch
from kiln_efs.settings import Settings, TroubleError

CHECK_SECONDS = 20.0
"""How long a mount waits for the file system; the watcher tries again later."""


def generate(arguments: list[str]) -> None:
    """Write units for the settings; wrong ones demand the studies all the same, and the check says why."""
    try:
        found = settings.load()
    except TroubleError:
        found = Settings()
    units.write(found, settings.image(), Path(arguments[0]))


def tunnel(arguments: list[str]) -> None:
    """Write the tunnel's configuration to a file."""
    Path(arguments[0]).write_text(units.stunnel(settings.load()))


def check(arguments: list[str]) -> None:
    """Seal the bare mount point, then wait for the file system, so many seconds at most."""
    limit = float(arguments[0]) if arguments else CHECK_SECONDS
    image = settings.image()
    if point.mounted(image.mount_point):
        return
    point.seal(Path(image.mount_point))
    found = settings.load()
    if image.tunnel:
        point.identify()
    end, wait, attempts = time.monotonic() + limit, 0.5, 1
    while True:
        try:
            probe.ask(found, tunnel=image.tunnel)
        except TroubleError as trouble:
            if not trouble.passing or time.monotonic() + wait > end:
                tried = f"{attempts} attempt{'s' if attempts > 1 else ''}"
                raise TroubleError(f"{trouble.what}, after {tried}", trouble.do) from None
        else:
            return
        time.sleep(wait)
        wait, attempts = wait * 2, attempts + 1


def folder(_arguments: list[str]) -> None:
    """See that the studies are mounted and hold the server's folder."""
    point.folder(settings.load(), settings.image())


def watcher(_arguments: list[str]) -> None:
    """Mount, and say how it stands, until only a human can help."""
    report = watch.Report()
    try:
        found = settings.load()
    except TroubleError as trouble:
        report.say("given-up", trouble, 1)
        raise
    raise watch.watch(found, settings.image(), report)


def status(_arguments: list[str]) -> None:
    """Say how it stands, in lines."""
    if not settings.FILE.exists():
        print(f"{settings.FILE} is not there: the studies are local")
        return
    try:
        said = json.loads(watch.FILE.read_text())
    except OSError:
        raise TroubleError(
            "kiln-efs.service has not looked yet", "systemctl status kiln-efs says why"
        ) from None
    for label, value in (
        ("state", f"{said['state']} since {said['since']}, {said['attempts']} failed attempts"),
        ("means", said["means"]),
        ("reason", said["what"]),
        ("do", said["do"]),
    ):
        if value:
            print(f"{label + ':':8}{value}")


COMMANDS = {
    "generate": generate,
    "tunnel": tunnel,
    "check": check,
    "folder": folder,
    "watch": watcher,
    "status": status,
}


def main() -> int:
    """Run a command.

    Returns
    -------
    int
        0 when it went well, 1 where the studies are not there, 2 for wrong use.
    """
    command = COMMANDS.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if command is None:
        print(f"usage: kiln-efs {'|'.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        command(sys.argv[2:])
    except TroubleError as trouble:
        print(f"<3>{trouble}" if not sys.stderr.isatty() else str(trouble), file=sys.stderr)
        return 1
    return 0
