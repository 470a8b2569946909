"""Logs of a booted guest: they are rotated, by a timer."""

from __future__ import annotations

from typing import Any

from tests.image.tree import shown

Guest = dict[str, Any]


def test_logs_of_the_boot_were_rotated(guest: Guest) -> None:
    assert not guest["rotation"], f"logrotate says: {guest['rotation'][:200]}"
    wanted = ["/var/log/cloud-init-output.log.1.gz", "/var/log/cloud-init.log.1.gz"]
    assert guest["rotated"] == wanted, f"rotated: {shown(guest['rotated']) or 'nothing'}"


def test_rotation_has_a_timer(guest: Guest) -> None:
    assert guest["rotation_timer"] == "active", f"logrotate.timer is {guest['rotation_timer'] or 'unknown'}"
