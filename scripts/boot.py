"""kiln boot: run a version on this machine until Ctrl-C."""

from __future__ import annotations

import shlex
import time

from kiln import paths
from kiln.progress import Progress
from scripts import images, versions, workspace
from scripts.engine import need_root
from scripts.guest import GATEWAY_ROLE, Guest


def run(image: str, version: str | None = None, ssh_port: int = 0, http_port: int = 0) -> None:
    """Run a version in the foreground until Ctrl-C or until it shuts down; nothing it writes is kept.

    Parameters
    ----------
    image:
        Name of the image.
    version:
        Which one; by default the latest.
    ssh_port, http_port:
        Ports on 127.0.0.1; 0 takes a free one.

    Raises
    ------
    UsageError
        We are not root.
    KilnError
        There is no such version, a port is taken, or the guest died while it booted.
    """
    need_root("kiln boot")
    place = images.resolve(image, version)
    written = versions.read(place)
    folder = paths.build_dir() / image
    workspace.sweep(folder)
    with Progress(f"kiln boot {image}@{place.name}") as progress, workspace.workspace(folder) as work:
        guest = Guest(
            place / written.disk.file,
            work,
            place / "logs/boot.log",
            online=True,
            ssh_port=ssh_port,
            http_port=http_port,
            gateway=GATEWAY_ROLE in written.facts.roles,
            progress=progress.detail,
        )
        with guest:
            try:
                _attend(guest, progress, written.facts.monai_label is not None)
            except KeyboardInterrupt:
                progress.say("stopping")
                guest.stop()


def _attend(guest: Guest, progress: Progress, has_server: bool) -> None:
    progress.say(f"accelerator {guest.accelerator}, console in {guest.serial}")
    with progress.stage("ssh"):
        guest.wait_ssh()
    progress.say(f"ssh   {shlex.join(guest.ssh_command)}   (127.0.0.1:{guest.ssh_port})")
    if has_server:
        with progress.stage("server"):
            # First what systemd says: a unit that has failed is then told at once.
            guest.wait_running()
            guest.wait_ready()
        progress.say(f"http  {guest.url}/")
        if guest.login:
            # Of this guest alone, reached from this machine alone, and gone with it.
            progress.say(f"login  {guest.login.name} {guest.login.password}")
    progress.say("Ctrl-C stops it")
    while guest.qemu.alive:
        time.sleep(0.5)
    progress.say("the guest has shut down")
