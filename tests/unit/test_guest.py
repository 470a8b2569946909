"""Guests that start, die, and are ended; a whole boot is what kiln prove does with a real image."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiln import paths
from kiln.errors import KilnError
from kiln.manifest import sha256_file
from scripts import guest as guests
from scripts import qemu

# Recorded from real guests; the last of each is what ended the boot.
HEALTHY = """\
BdsDxe: loading Boot0001 "UEFI QEMU NVMe Ctrl kiln 1" from PciRoot(0x0)/Pci(0x1,0x0)/NVMe(0x1)
BdsDxe: starting Boot0001 "UEFI QEMU NVMe Ctrl kiln 1" from PciRoot(0x0)/Pci(0x1,0x0)/NVMe(0x1)
Welcome to GRUB!
  Booting `kiln'
error: no suitable video mode found.
Booting in blind mode
[    0.000000] Linux version 6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org)
[    2.481033] EXT4-fs (nvme0n1p2): mounted filesystem with ordered data mode. Quota mode: none.
[    5.476640] systemd[1]: Queued start job for default target graphical.target.
[  OK  ] Reached target emergency.target - a name that only sounds like it.
kiln login:
"""
ENDS = {
    "nothing on the disk": (
        'BdsDxe: failed to load Boot0001 "UEFI QEMU NVMe Ctrl kiln 1" from PciRoot(0x0): Not Found',
        "the firmware found nothing to boot",
    ),
    "shell": ("UEFI Interactive Shell v2.2", "the firmware found nothing to boot"),
    "wrong file system": (
        "error: no such device: 6b696c6e-0002-4000-8000-000000000002.",
        "did not find its menu",
    ),
    "no menu": (
        "kiln: no boot menu on file system 6b696c6e-0002-4000-8000-000000000002",
        "did not find its menu",
    ),
    "grub's prompt": ("grub> ", "did not find its menu"),
    "no kernel": ("error: file `/boot/vmlinuz-6.1.0-56-cloud-amd64' not found.", "did not find the kernel"),
    "no root": (
        "[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
        r"the kernel panicked \(Kernel panic - not syncing: VFS: Unable to mount root fs",
    ),
    "emergency": ("You are in emergency mode. After logging in, type", "systemd could not start the system"),
}


@pytest.mark.parametrize(("line", "message"), ENDS.values(), ids=ENDS)
def test_trouble_on_the_console(line: str, message: str) -> None:
    assert guests.trouble(HEALTHY) is None
    with pytest.raises(KilnError, match=message):
        raise KilnError(guests.trouble(HEALTHY + line + "\r\n") or "nothing", "")


def qemus(folder: Path) -> list[int]:
    """Processes of QEMU that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes()
        except OSError:
            continue
        if words.startswith(qemu.BINARY.encode()) and os.fsencode(folder) in words:
            found.append(int(process.parent.name))
    return found


def gone(folder: Path, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while qemus(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not qemus(folder)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An empty disk: a guest starts on it and finds nothing, after some seconds of firmware."""
    image = tmp_path / "image, with a comma.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "64M"], check=True)
    return image


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    work = tmp_path / "work"
    work.mkdir()
    yield work
    assert gone(work) and not any(work.iterdir()), "something was left behind"


def test_a_guest_runs_and_leaves_nothing(image: Path, work: Path, tmp_path: Path) -> None:
    before = sha256_file(image)
    with (
        guests.Guest(image, work, tmp_path / "a/serial.log") as one,
        guests.Guest(image, work, tmp_path / "b") as two,
    ):
        assert len(qemus(work)) == 2
        ports = {one.ssh_port, one.http_port, two.ssh_port, two.http_port}
        assert len(ports) == 4 and 0 not in ports
        assert one.url == f"http://127.0.0.1:{one.http_port}"
        one.check()
    assert sha256_file(image) == before
    assert (tmp_path / "a/serial.log").exists()


def test_an_image_of_before_the_gateway_has_no_log_in(image: Path, work: Path, tmp_path: Path) -> None:
    with guests.Guest(image, work, tmp_path / "serial.log", gateway=False) as guest:
        assert guest.login is None
        assert guest.qemu.forwards() == {22: guest.ssh_port, 8000: guest.http_port}


def test_a_guest_has_a_log_in_and_no_command_line_shows_it(image: Path, work: Path, tmp_path: Path) -> None:
    with guests.Guest(image, work, tmp_path / "serial.log") as guest:
        assert guest.login
        assert guest.qemu.forwards() == {22: guest.ssh_port, 80: guest.http_port}
        shown = Path(f"/proc/{guest.qemu.process.pid}/cmdline").read_text()
        assert guest.login.password not in shown


def test_ssh_reads_the_configuration(image: Path, tmp_path: Path) -> None:
    work = tmp_path / "with a space"
    work.mkdir()
    with guests.Guest(image, work, tmp_path / "serial.log") as guest:
        shown = subprocess.run(
            [*guest.ssh_command[:-1], "-G", guest.HOST], check=True, capture_output=True, text=True
        )
        options = dict(line.split(" ", 1) for line in shown.stdout.splitlines())
        assert options["port"] == str(guest.ssh_port)
        assert (options["hostname"], options["user"]) == ("127.0.0.1", "kiln")
        assert Path(options["identityfile"]).is_file()
        assert options["userknownhostsfile"] == "/dev/null"


def test_a_long_path_does_without_a_shared_connection(image: Path, tmp_path: Path) -> None:
    work = tmp_path / ("long" * 25)
    work.mkdir()
    with guests.Guest(image, work, tmp_path / "serial.log") as guest:
        assert "ControlPath" not in guest.ssh_config.read_text()


def test_a_disk_without_a_system_is_said(image: Path, work: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(
            KilnError, match=r"the guest died after \d+ s: the firmware found nothing to boot"
        ) as caught,
        guests.Guest(image, work, tmp_path / "serial.log") as guest,
    ):
        guest.wait_ssh()
    assert caught.value.hint == f"read {tmp_path / 'serial.log'}"


def test_a_time_that_is_over_is_said(image: Path, work: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(KilnError, match=r"ssh did not come within 0 s; last on the console: \(silent\)"),
        guests.Guest(image, work, tmp_path / "serial.log") as guest,
    ):
        guest.wait_ssh(0.3)


@pytest.mark.parametrize("wait", ["wait_ssh", "wait_running", "wait_ready"])
def test_a_qemu_that_died_is_noticed_at_once(image: Path, work: Path, tmp_path: Path, wait: str) -> None:
    with guests.Guest(image, work, tmp_path / "serial.log") as guest:
        os.kill(guest.qemu.process.pid, signal.SIGKILL)
        guest.qemu.process.wait()
        began = time.monotonic()
        with pytest.raises(KilnError, match="QEMU ended with code -9"):
            getattr(guest, wait)()
        assert time.monotonic() - began < 5


def test_a_corrupt_image_is_said(work: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.qcow2"
    image.write_bytes(b"not a disk" * 100)
    with pytest.raises(KilnError, match=r"QEMU did not start: .*not in qcow2 format"):
        guests.Guest(image, work, tmp_path / "serial.log").__enter__()


def test_a_missing_image_is_said(work: Path, tmp_path: Path) -> None:
    with pytest.raises(KilnError, match=r"image\.qcow2 is missing"):
        guests.Guest(tmp_path / "image.qcow2", work, tmp_path / "serial.log").__enter__()


def test_a_port_that_is_taken_is_said(image: Path, work: Path, tmp_path: Path) -> None:
    with guests.Guest(image, work, tmp_path / "one") as one:
        second = guests.Guest(image, work, tmp_path / "two", ssh_port=one.ssh_port)
        with pytest.raises(KilnError, match=rf"QEMU did not start: .*127\.0\.0\.1:{one.ssh_port}"):
            second.__enter__()


def test_before_ssh_it_is_simply_ended(image: Path, work: Path, tmp_path: Path) -> None:
    with guests.Guest(image, work, tmp_path / "serial.log") as guest:
        began = time.monotonic()
        assert guest.stop() == "killed"
        assert time.monotonic() - began < 5
        assert not qemus(work)


PROGRAM = """
import sys, time
from pathlib import Path
from scripts import guest as guests
image, work, serial = map(Path, sys.argv[1:])
with guests.Guest(image, work, serial):
    time.sleep(60)
"""


def start(image: Path, work: Path) -> subprocess.Popen[str]:
    """Run a program that holds a guest, and wait until the guest runs."""
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, image, work, work.parent / "serial.log"],
        cwd=paths.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not qemus(work) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert qemus(work), child.communicate()[0]
    return child


def test_a_killed_kiln_leaves_no_guest(image: Path, tmp_path: Path) -> None:
    work = tmp_path / "killed"  # its folder is for the next run to clear, the process is not
    work.mkdir()
    child = start(image, work)
    child.kill()
    child.communicate()
    assert gone(work)


def test_ctrl_c_leaves_nothing(image: Path, work: Path) -> None:
    child = start(image, work)
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=20)
    assert "KeyboardInterrupt" in said and not qemus(work)
