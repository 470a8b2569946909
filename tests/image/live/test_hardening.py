"""The controls of the role hardening in a booted guest: what the files promise is what runs."""

from __future__ import annotations

from typing import Any

from tests.image.controls import MODULES, SSHD, SYSCTL, waived
from tests.image.tree import settings, shown

Guest = dict[str, Any]


def asked(guest: Guest, table: dict[str, dict[str, str]]) -> dict[str, str]:
    """Settings of the controls that the guest does not waive."""
    without = waived(guest["hardening"])
    return {k: v for control, wanted in table.items() if control not in without for k, v in wanted.items()}


def test_kernel_runs_as_set(guest: Guest) -> None:
    found = {key: " ".join(value.split()) for key, value in guest["sysctl"].items()}
    wrong = [
        f"{k} is {found.get(k) or 'unknown'}" for k, v in asked(guest, SYSCTL).items() if found.get(k) != v
    ]
    assert not wrong, f"the kernel does not run as set: {shown(wrong)}"


def test_sshd_runs_as_set(guest: Guest) -> None:
    found = dict(line.split(None, 1) for line in guest["sshd_settings"].splitlines() if " " in line)
    wrong = [f"{k} {found.get(k, 'unknown')}" for k, v in asked(guest, SSHD).items() if found.get(k) != v]
    assert not wrong, f"sshd does not run as set: {shown(wrong)}"


def test_no_needless_module_is_loaded(guest: Guest) -> None:
    assert guest["modules"], "the guest lists no kernel module"
    found = {name.replace("_", "-") for name in guest["modules"]} & MODULES
    assert "modules" in waived(guest["hardening"]) or not found, f"loaded: {shown(sorted(found))}"


def test_temporary_files_hold_no_device_and_no_suid_program(guest: Guest) -> None:
    options = {path: set(guest["mount_options"].get(path, "").split(",")) for path in ("/tmp", "/dev/shm")}
    wrong = [path for path, found in options.items() if not {"nosuid", "nodev"} <= found]
    assert "mounts" in waived(guest["hardening"]) or not wrong, f"devices or suid programs in {shown(wrong)}"
    closed = [path for path, found in options.items() if "noexec" in found]
    assert not closed, f"no programs in {shown(closed)}: torch and triton run what they build there"


def test_services_dump_no_core(guest: Guest) -> None:
    found = settings(guest["manager"]).get("DefaultLimitCORE", "unknown")
    assert "core_dumps" in waived(guest["hardening"]) or found == "0", (
        f"services may dump {found} bytes of core"
    )


def test_services_ask_metadata_by_version_2(guest: Guest) -> None:
    found = settings(guest["manager"]).get("Environment", "")
    there = "AWS_EC2_METADATA_V1_DISABLED=true" in found
    assert "metadata" in waived(guest["hardening"]) or there, "services may fall back to metadata version 1"


def test_journal_is_on_the_disk(guest: Guest) -> None:
    there = guest["journal_on_disk"]
    assert "journald" in waived(guest["hardening"]) or there, "the journal is lost with the next boot"
