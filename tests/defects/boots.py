"""Boot roots with planted defects in containers with systemd, and ask the checks.

Every role is asked, and several rows share a container where none hides another.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scripts import engine, imds, layer, verdicts
from tests.defects import campaign, live
from tests.defects.boot_rows import DIFFER, IMDS, IMDS_PORT, METADATA, SERVER, UNITS, VERSION_2, needs_server
from tests.defects.defect import Defect
from tests.defects.proof import SOUND_BOOTS
from tests.image.live.asked.program import program

BOOT_SECONDS = 300.0
SEED = {"meta-data": '{"instance-id": "container"}\n', "user-data": "#cloud-config\n{}\n"}


@dataclass(frozen=True)
class Boot:
    """What a booted container said.

    Parameters
    ----------
    said:
        Its answers, by name.
    requests:
        What it asked the metadata service.
    identity:
        What ``verdicts.IDENTITY`` said.
    """

    said: dict[str, Any]
    requests: tuple[dict[str, Any], ...]
    identity: str


def boot(root: Path, planted: Sequence[Defect], work: Path, run_id: str, *, serves: bool = True) -> Boot:
    """Boot a layer over a root, with rows planted in it, in a container; ask it, and remove it.

    Parameters
    ----------
    root:
        The sealed root, which stays as it is.
    planted:
        What is planted; nothing where it is empty.
    work:
        A folder for the layer, on which it stays mounted as long as the container runs.
    run_id:
        Of the work folder, whose clean-up removes the container and the mount.
    serves:
        Whether the server may start.
    """
    seed = work / "seed"
    seed.mkdir(parents=True)
    for name, text in SEED.items():
        (seed / name).write_text(text)
    with layer.mounted(root, work) as merged:
        METADATA(merged)
        for row in planted:
            row.plant(merged)
        # No two of a run have one name.
        said, identity = _boot(merged, seed, campaign.roles(root), f"{run_id}-{work.name}", run_id, serves)
        return Boot(said, tuple(imds.requests(merged / IMDS / "log")), identity)


def _verdict(check: str, seen: verdicts.Boots) -> dict[str, str]:
    said = verdicts.BOOTS[check.removeprefix("boot::")](seen)
    return {check: said} if said else {}


def _boot(
    merged: Path, seed: Path, roles: Sequence[str], own: str, run_id: str, serves: bool
) -> tuple[dict[str, Any], str]:
    """Boot a merged root; return its answers, and its identity."""
    found = engine.find(merged)
    name = f"kiln-boots-{own}"
    # fstab names a disk that is not there.
    hidden = ["/etc/fstab", *([] if serves else [f"/{UNITS}/{SERVER}"])]
    options = [
        "--detach", "--hostname=boots", "--name", name, "--label", f"{engine.LABEL}={run_id}",
        "--volume", f"{seed}:/var/lib/cloud/seed/nocloud:ro",
        *(word for path in hidden for word in ("--volume", f"/dev/null:{path}")),
    ]  # fmt: skip
    started = found.call("run", *found.arguments(merged, *options, network="none"))
    assert started.returncode == 0, started.stderr
    try:
        _address(found, name)
        ends = time.monotonic() + BOOT_SECONDS
        while (state := _ask(found, name, "systemctl", "is-system-running")) not in ("running", "degraded"):
            assert time.monotonic() < ends, f"the container is {state or 'silent'} after {BOOT_SECONDS:.0f} s"
            time.sleep(0.5)
        said = json.loads(_ask(found, name, "python3", "-c", program(roles)))
        return said, _ask(found, name, "sh", "-c", verdicts.IDENTITY)
    finally:
        found.call(*found.REMOVE, name)


def _address(engine_: engine.Engine, name: str) -> None:
    """Give a container without a network the address of the metadata service, and lead it there."""
    process = engine_.call("inspect", "--format", "{{.State.Pid}}", name).stdout.strip()
    address, _, port = imds.ADDRESS.partition(":")
    for command in (
        f"ip address add {address}/32 dev lo",
        f"iptables -t nat -A OUTPUT -p tcp -d {address} --dport {port} -j REDIRECT --to-ports {IMDS_PORT}",
    ):
        subprocess.run(["nsenter", "--net", "--target", process, *command.split()], check=True)


def _ask(engine_: engine.Engine, name: str, *command: str) -> str:
    # What a guest is asked waits for it to settle, some of it for a minute.
    return engine_.call("exec", name, *command, timeout=BOOT_SECONDS).stdout.strip()


def refused(planted: Sequence[Defect], root: Path, work: Path, run_id: str) -> dict[str, str]:
    """Boot rows together; return the checks that refuse them, with what they say.

    Where the two boots of an image may be alike, it is booted twice.
    """
    checks = frozenset[str]().union(*(row.checks for row in planted))
    # Without the server none of its checks is asked.
    serves = not planted or any(needs_server(name) for name in checks)
    twice = not planted or DIFFER in checks

    def one(name: str) -> Boot:
        return boot(root, planted, work / name, run_id, serves=serves and name == "first")

    with ThreadPoolExecutor() as pool:
        first, *again = pool.map(one, ("first", "second") if twice else ("first",))
    with live.image(root, root.parent.name):
        said = live.refusals(first.said)
    found = {name: words for name, words in said.items() if serves or not needs_server(name)}
    found |= _verdict(VERSION_2, replace(SOUND_BOOTS, requests=first.requests))
    for second in again:
        found |= _verdict(DIFFER, replace(SOUND_BOOTS, first=first.identity, second=second.identity))
    return found
