"""Studies on EFS in a booted guest: local without settings, clear about a file system that is away."""

from __future__ import annotations

from typing import Any

from tests.image.tree import shown

Guest = dict[str, Any]

RPCBIND = "006F"
LONGEST_ATTEMPT = 60.0
"""Seconds; the attempt was given three, and the guest is emulated."""


def test_studies_are_local_without_settings(guest: Guest) -> None:
    assert not guest["efs"]["settings"], "the image brings settings of somebody's EFS"
    running = [name for name, state in guest["efs"]["states"].items() if state != "inactive"]
    assert not running, f"without settings, these are not inactive: {shown(running)}"


def test_dead_file_system_is_a_clear_error(guest: Guest) -> None:
    said = guest["efs"]["attempt"]
    assert said["code"] == 1, f"an EFS that is not there ended in {said['code']}: {said['said'][:200]}"
    for words in ("127.0.0.1:9 does not answer", "mount target"):
        assert words in said["said"], f"an EFS that is not there is told as {said['said'][:200]!r}"


def test_attempts_are_bounded(guest: Guest) -> None:
    said = guest["efs"]["attempt"]
    assert "attempt" in said["said"] and said["seconds"] < LONGEST_ATTEMPT, (
        f"an EFS that is not there was tried for {said['seconds']:.0f} s: {said['said'][:200]}"
    )


def test_bare_mount_point_is_sealed_by_the_boot(guest: Guest) -> None:
    assert guest["efs"]["immutable"], (
        "the bare mount point is not immutable before the first attempt to mount: root could write beneath it"
    )


def test_bare_mount_point_takes_nothing(guest: Guest) -> None:
    mode, uid, gid = guest["efs"]["point"]
    assert (mode, uid, gid) == (0, 0, 0), f"the bare mount point is {mode:o} {uid}:{gid}"
    assert guest["efs"]["write"] == "EPERM", (
        f"root writing to the bare mount point got {guest['efs']['write']}"
    )


def test_no_port_mapper_listens(guest: Guest) -> None:
    found = [address for address in guest["efs"]["sockets"] if address.endswith(f":{RPCBIND}")]
    assert guest["efs"]["sockets"], "nothing listens, not even sshd"
    assert not found, f"rpcbind listens on {shown(found)}"
