"""Defects that a boot shows, planted in a layer over the root that a container boots with systemd.

A container has the kernel, the disk and the network of this machine: what fails in a sound one is not asked.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from scripts import engine, layer, verdicts
from tests.defects import live
from tests.defects.defect import Defect, Plant, change, found, link, several, write
from tests.defects.defect import live as seen_live
from tests.defects.proof import SOUND_BOOTS
from tests.image.live.asked.program import program

ROLE = "base"
"""Whose live checks are asked: those of any booted image."""

BOOT_SECONDS = 180.0
UNITS = "etc/systemd/system"
DIFFER = "boot::two boots differ"
SEED = {"meta-data": '{"instance-id": "container"}\n', "user-data": "#cloud-config\n{}\n"}


def old(name: str) -> Plant:
    """Make a file as old as an image is when it is booted."""

    def plant(root: Path) -> None:
        for path in found(root, name):
            os.utime(path, (1e9, 1e9))

    return plant


def unit(name: str, text: str) -> Plant:
    """Put a service that every boot starts."""
    wanted = f"{UNITS}/multi-user.target.wants/{name}"
    return several(write(f"{UNITS}/{name}", text), link(wanted, f"/{UNITS}/{name}"))


@functools.cache
def pair() -> tuple[str, str]:
    """A host key, private and public; both boots of an image have the same."""
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
        return key.read_text(), key.with_suffix(".pub").read_text()


DEFECTS = [
    Defect(
        "a unit that fails in each boot",
        unit("broken.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n"),
        seen_live("test_base::test_system_is_running", "test_base::test_no_unit_failed"),
        ("degraded", "broken.service"),
    ),
    Defect(
        "a service that needs a second attempt",
        unit(
            "shaky.service",
            "[Service]\nRestart=on-failure\nRestartSec=0\n"
            "ExecStart=/bin/sh -c 'if mkdir /run/shaky; then exit 1; fi; exec sleep infinity'\n",
        ),
        seen_live("test_base::test_no_service_was_restarted"),
        ("shaky.service",),
    ),
    Defect(
        "a machine-id of the image",
        write("etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0o444),
        frozenset({DIFFER}),
        ("the same machine-id 0123",),
    ),
    Defect(
        "a host key of the image that cloud-init keeps",
        several(
            change("etc/cloud/cloud.cfg.d/90-kiln.cfg", "ssh_deletekeys: true", "ssh_deletekeys: false"),
            lambda root: write("etc/ssh/ssh_host_ed25519_key", pair()[0], 0o600)(root),
            lambda root: write("etc/ssh/ssh_host_ed25519_key.pub", pair()[1])(root),
            old("etc/ssh/ssh_host_*"),
        ),
        frozenset({DIFFER, *seen_live("test_base::test_host_keys_are_fresh")}),
        ("the same host key", "older than this boot"),
    ),
    Defect(
        "password logins, as sshd reads its settings",
        write("etc/ssh/sshd_config.d/00-debug.conf", "PasswordAuthentication yes\n"),
        seen_live("test_base::test_ssh_refuses_passwords"),
        ("passwordauthentication no",),
    ),
]  # fmt: skip


@dataclass(frozen=True)
class Boot:
    """What a booted container said.

    Parameters
    ----------
    refused:
        Live checks that refuse it → what they say.
    identity:
        What ``verdicts.IDENTITY`` said.
    """

    refused: dict[str, str]
    identity: str


def boot(root: Path, row: Defect | None, work: Path, run_id: str) -> Boot:
    """Boot a layer over a root, with a row planted in it, in a container; ask it, and remove it.

    Parameters
    ----------
    root:
        The sealed root, which stays as it is.
    row:
        What is planted; None for nothing.
    work:
        A folder for the layer, on which it stays mounted as long as the container runs.
    run_id:
        Of the work folder, whose clean-up removes the container and the mount.
    """
    seed = work / "seed"
    seed.mkdir(parents=True)
    for name, text in SEED.items():
        (seed / name).write_text(text)
    with layer.mounted(root, work) as merged:
        if row is not None:
            row.plant(merged)
        return _boot(merged, root, seed, run_id)


def _boot(merged: Path, root: Path, seed: Path, run_id: str) -> Boot:
    found = engine.find(merged)
    name = f"kiln-boots-{run_id}"
    # The server's own checks are another's, and fstab names a disk that is not there.
    hidden = ("/etc/systemd/system/monai-label.service", "/etc/fstab")
    options = [
        "--detach", "--hostname=boots", "--name", name, "--label", f"{engine.LABEL}={run_id}",
        "--volume", f"{seed}:/var/lib/cloud/seed/nocloud:ro",
        *(word for path in hidden for word in ("--volume", f"/dev/null:{path}")),
    ]  # fmt: skip
    started = found.call("run", *found.arguments(merged, *options, network="none"))
    assert started.returncode == 0, started.stderr
    try:
        ends = time.monotonic() + BOOT_SECONDS
        while (state := _ask(found, name, "systemctl", "is-system-running")) not in ("running", "degraded"):
            assert time.monotonic() < ends, f"the container is {state or 'silent'} after {BOOT_SECONDS:.0f} s"
            time.sleep(0.5)
        said = json.loads(_ask(found, name, "python3", "-c", program([ROLE])))
        identity = _ask(found, name, "sh", "-c", verdicts.IDENTITY)
    finally:
        found.call(*found.REMOVE, name)
    with live.image(root, root.parent.name):
        return Boot(live.refusals(said, ROLE), identity)


def _ask(engine_: engine.Engine, name: str, *command: str) -> str:
    return engine_.call("exec", name, *command).stdout.strip()


def refused(row: Defect | None, root: Path, work: Path, run_id: str) -> dict[str, str]:
    """Boot a row; return the checks that refuse it, with what they say.

    Where the two boots of an image may be alike, it is booted twice.
    """
    first = boot(root, row, work / "first", run_id)
    if row is not None and DIFFER not in row.checks:
        return first.refused
    second = boot(root, row, work / "second", run_id)
    seen = replace(SOUND_BOOTS, first=first.identity, second=second.identity)
    same = verdicts.BOOTS["two boots differ"](seen)
    return first.refused | ({DIFFER: same} if same else {})
