"""The watcher: mounts what can be mounted, says how it stands, and never touches the mount itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from kiln_efs import point, probe
from kiln_efs.settings import Image, Settings, TroubleError

FILE = Path("/run/kiln/efs.json")

PAUSE_SECONDS = 5.0
PAUSE_MOST = 60.0
"""Between attempts; twice as long after each that failed, up to this."""

REFUSALS = 10
"""How often what only a human can change is tried: about seven minutes."""

CHECK = "kiln-efs-check.service"

READY = {
    "mounted": "the studies are mounted",
    "away": "the studies are mounted and EFS is away: reads and writes wait for it, nothing is lost",
    "waiting": "the studies are not mounted and the server waits for them",
    "given-up": "the studies are not mounted, and it is not tried any more",
}
"""State → what it means."""


def notify(message: str) -> None:
    """Tell systemd, as sd_notify(3) does; without NOTIFY_SOCKET nobody wants to know."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            channel.sendall(message.encode())


class Report:
    """How it stands: in a file, in systemctl status, and in the journal where it changed."""

    def __init__(self, file: Path = FILE) -> None:
        self.file = file
        self._said: tuple[str, str] | None = None
        self._since = ""

    def forget(self) -> None:
        """Take back what an earlier watcher said: nobody knows whether it still holds."""
        self.file.unlink(missing_ok=True)

    def say(self, state: str, trouble: TroubleError | None, attempts: int) -> None:
        """Tell a state; the journal hears of it once.

        Parameters
        ----------
        state:
            One of READY.
        trouble:
            What is wrong, if anything is.
        attempts:
            How many failed in a row.
        """
        what, do = (trouble.what, trouble.do) if trouble else ("", "")
        if self._said != (state, what):
            self._said, self._since = (state, what), datetime.now(UTC).isoformat(timespec="seconds")
            level = "<6>" if state == "mounted" else "<4>"
            print(level + "; ".join(part for part in (READY[state], what, do) if part), flush=True)
        body = {"state": state, "means": READY[state], "what": what, "do": do}
        body |= {"attempts": attempts, "since": self._since}
        half = self.file.with_suffix(".part")
        half.write_text(json.dumps(body, indent=1) + "\n")
        half.replace(self.file)
        notify(f"STATUS={'; '.join(part for part in (READY[state], what) if part)}")


def _systemctl(*arguments: str) -> str:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def _last_words(unit: str) -> str:
    """What a unit's own programs said last, without what systemd says of it."""
    journal = ["journalctl", "--boot", "--output=cat", "--lines=1", f"_SYSTEMD_UNIT={unit}"]
    said = subprocess.run(journal, capture_output=True, text=True, timeout=60).stdout.strip()
    return said or f"{unit} has failed without a word"


def _mount(image: Image, settings: Settings) -> TroubleError | None:
    """Start the mount where none is under way; why the last one failed, None where none did."""
    state = {
        unit: _systemctl("show", "--value", "--property=ActiveState", unit)
        for unit in (CHECK, image.mount_unit)
    }
    trouble = None
    if state[CHECK] == "failed":
        what, _, do = _last_words(CHECK).partition("; ")
        trouble = TroubleError(what, do)
    elif state[image.mount_unit] == "failed":
        trouble = TroubleError(
            f"{settings.host}:{settings.path} cannot be mounted ({_last_words(image.mount_unit)})",
            "check EFS_PATH, and what the file system's policy allows",
        )
    if state[image.mount_unit] in ("inactive", "failed"):
        _systemctl("start", "--no-block", image.mount_unit)
    return trouble


def look(settings: Settings, image: Image) -> tuple[str, TroubleError | None]:
    """How it stands; starts the mount where that can go well."""
    trouble = None
    try:
        probe.ask(settings, tunnel=image.tunnel)
    except TroubleError as found:
        trouble = found
    if point.mounted(image.mount_point) in point.KINDS:
        return ("away", trouble) if trouble else ("mounted", None)
    return "waiting", trouble or _mount(image, settings)


def pause(state: str, attempts: int) -> float:
    """Seconds until the next look: an outage is looked at often, what is refused less and less."""
    if state == "waiting" and attempts:
        return min(PAUSE_SECONDS * 2.0 ** (attempts - 1), PAUSE_MOST)
    return PAUSE_SECONDS


def watch(
    settings: Settings, image: Image, report: Report, sleep: Callable[[float], None] = time.sleep
) -> TroubleError:
    """Watch until a human is needed.

    Returns
    -------
    TroubleError
        What only a human can change, after it was tried REFUSALS times.
    """
    # In this order: systemctl restart returns on READY, and who asks then must not read of yesterday's mount.
    report.forget()
    notify("READY=1")
    attempts = refusals = 0
    while True:
        state, trouble = look(settings, image)
        attempts = attempts + 1 if trouble else 0
        refusals = refusals + 1 if trouble and not trouble.passing else 0
        if trouble and state == "waiting" and refusals >= REFUSALS:
            report.say("given-up", trouble, attempts)
            return trouble
        report.say(state, trouble, attempts)
        sleep(pause(state, attempts))
