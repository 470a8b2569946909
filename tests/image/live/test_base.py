"""A booted guest: it runs, it is a machine of its own, and it can be reached by key only."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from tests.image.live.units import state
from tests.image.tree import settings, shown

Guest = dict[str, Any]

PRESENT = 60.0
"""Seconds by which a guest's clock may still have been wrong when it wrote its keys."""

SPACE_GIB = 4.0
"""Room for studies, labels and the journal on the root disk of an image without EFS."""

SSHD = (
    "passwordauthentication no",
    "kbdinteractiveauthentication no",
    "permitrootlogin without-password",
    "authorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2",
    "authorizedkeyscommand none",
    "trustedusercakeys none",
)
"""What sshd says of every account."""


def in_root(path: str) -> Path:
    """A path of the root that was booted."""
    return Path(os.environ["KILN_ROOT"]) / path


def test_system_is_running(guest: Guest) -> None:
    assert guest["state"] == "running", f"systemd says {guest['state']}"


def test_no_unit_failed(guest: Guest) -> None:
    failed = [line.split()[0] for line in guest["failed"] if line.strip()]
    assert not failed, f"failed units: {shown(failed)}"


def test_no_service_was_restarted(guest: Guest) -> None:
    restarted = [name for name, unit in guest["units"].items() if unit.get("NRestarts", "0") not in ("0", "")]
    assert guest["units"], "systemd lists no service"
    assert not restarted, f"restarted since the boot: {shown(restarted)}"


def test_machine_id_is_new(guest: Guest) -> None:
    found = guest["machine_id"]
    assert re.fullmatch(r"[0-9a-f]{32}", found) and found.strip("0"), f"machine-id is {found or 'empty'}"
    # The journal's folder has the id that systemd drew at this boot.
    assert guest["journals"] == [found], (
        f"machine-id is {found}, the journal is {shown(guest['journals']) or 'none'}"
    )
    # systemd mounts an id of this boot alone over the file where it could not be written.
    assert "/etc/machine-id" not in guest["mounted"], (
        "machine-id is of this boot alone, it is not on the disk"
    )


def test_host_keys_are_fresh(guest: Guest) -> None:
    keys = guest["host_keys"]
    assert sorted(keys) == ["/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ed25519_key.pub"], (
        f"ssh host keys: {shown(sorted(keys)) or 'none'}"
    )
    assert not list(in_root("etc/ssh").glob("ssh_host_*")), "the image brings ssh host keys"
    old = [path for path, written in keys.items() if written < guest["booted"] - PRESENT]
    assert not old, f"older than this boot: {shown(old)}"


def test_root_file_system_is_grown(guest: Guest) -> None:
    assert guest["disk_bytes"], "the size of the disk is unknown"
    used = guest["root_bytes"] / guest["disk_bytes"]
    assert used > 0.9, f"the root file system takes {used:.0%} of the disk"


def test_space_is_left(guest: Guest) -> None:
    left = guest["free_bytes"] / 2**30
    assert left > SPACE_GIB, f"the root file system has {left:.1f} GiB left"


def test_time_is_synchronised_by_a_service(guest: Guest) -> None:
    found = state(guest, "chrony.service")
    assert found == "active", f"chrony.service is {found}"


def test_release_is_the_version(guest: Guest) -> None:
    found = settings(guest["release"]).get("VERSION", "missing")
    assert found == os.environ["KILN_VERSION"], f"/etc/image-release says {found}"


def test_kernel_is_the_images(guest: Guest) -> None:
    there = [path.name for path in in_root("usr/lib/modules").iterdir()]
    assert [guest["kernel"]] == there, f"runs {guest['kernel']}, the image has {shown(there)}"


def test_cloud_init_is_done_without_errors(guest: Guest) -> None:
    said = guest["cloud_init"].get("v1", {})
    assert said, "cloud-init has left no result"
    assert not said["errors"], f"cloud-init: {shown(map(str, said['errors']))}"
    assert "NoCloud" in said["datasource"] or "Ec2" in said["datasource"], (
        f"cloud-init used {said['datasource']}"
    )


def test_ssh_refuses_passwords(guest: Guest) -> None:
    assert "root" in guest["sshd"], "sshd was asked of no account"
    missing = [
        f"for {name}: {line}"
        for name, said in guest["sshd"].items()
        for line in SSHD
        if line not in said.lower().splitlines()
    ]
    assert not missing, f"sshd does not say: {shown(missing)}"


def test_names_are_resolved_by_systemd(guest: Guest) -> None:
    assert guest["resolv_conf"] == "../run/systemd/resolve/stub-resolv.conf", (
        f"/etc/resolv.conf is {guest['resolv_conf'] or 'a file'}"
    )
    found = state(guest, "systemd-resolved.service")
    assert found == "active", f"systemd-resolved.service is {found}"


def test_instance_metadata_is_refused_by_version_1(guest: Guest) -> None:
    status, said = guest["metadata"]["1"]
    assert status == 401, f"without a token the metadata service answers {status or said}"


def test_instance_metadata_answers_by_version_2(guest: Guest) -> None:
    status, said = guest["metadata"]["2"]
    assert status == 200, f"with a token the metadata service answers {status or said}"
    assert said.startswith("i-"), f"the metadata service names the instance {said[:40] or 'nothing'}"
