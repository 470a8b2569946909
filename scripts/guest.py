"""A guest that runs an image: started on a snapshot, watched while it boots, reached by ssh and http."""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

from kiln.errors import KilnError
from kiln.manifest import Boot
from scripts import accel, seed
from scripts.qemu import Qemu, machine, network, quoted
from scripts.ssh import HOST, Connection

SSH_PORT = 22
GATEWAY_PORT, SERVER_PORT = 80, 8000
GATEWAY_ROLE = "gateway"
"""Images with this role have nginx before their server, and nobody gets in without a log-in."""


def door(login: seed.Login | None) -> tuple[int, str]:
    """Return where a host is asked whether it serves.

    Parameters
    ----------
    login:
        Who may log in, None of an image without the gateway.

    Returns
    -------
    tuple
        Port of the host, and path: behind the gateway ``/readyz``, which needs no log-in, else ``/info/``.
    """
    return (GATEWAY_PORT, "/readyz") if login else (SERVER_PORT, "/info/")


CORES = 2
MEMORY_MIB = 4096

# Idle and without KVM the server's image answers ssh after 25 s and the server after 140 s; a busy machine is
# five times slower, and the server's own limit for a first start is 15 minutes.
SSH_SECONDS = 600.0
SSHD_SECONDS = 120.0
RUNNING_SECONDS = 1800.0
READY_SECONDS = 1800.0
STOP_SECONDS = 120.0
REPORT_SECONDS = 10.0

TROUBLE = {
    r"BdsDxe: (No bootable|failed to load)|UEFI Interactive Shell": "the firmware found nothing to boot",
    r"kiln: no boot menu|error: no such device|grub(?: rescue)?> ": "the boot loader did not find its menu",
    r"error: file `[^']*' not found": "the boot loader did not find the kernel",
    r"Kernel panic - not syncing[^\r\n]*": "the kernel panicked",
    r"You are in (?:emergency|rescue) mode": "systemd could not start the system",
}
"""What the serial line shows when a boot will never end well → what that means."""


def trouble(serial: str) -> str | None:
    """What is wrong according to a serial log, None where nothing is.

    Parameters
    ----------
    serial:
        The log, or a part of it.
    """
    for pattern, meaning in TROUBLE.items():
        if found := re.search(pattern, serial):
            return f"{meaning} ({found[0].strip()})"
    return None


class Guest:
    """A guest that runs an image without ever writing to it.

    Use it as a context manager, and from a thread that lives as long as the guest is wanted: the kernel ends
    QEMU with the thread that started it, so that a killed kiln leaves none.

    Parameters
    ----------
    image:
        The qcow2.
    work:
        Existing folder on a file system with some GiB of room: what the guest writes goes there, and is gone
        when the guest is.
    serial:
        File for the guest's console; an older one is replaced.
    online:
        Whether the guest may reach other machines. A proof's guest may not: an image starts without any.
    services:
        Address and port that the guest reaches (``169.254.169.254:80``) → command that is started for each
        connection, which is its stdin and stdout.
    ssh_port, http_port:
        Ports on 127.0.0.1 that lead to the guest's 22 and 80; 0 takes a free one.
    gateway:
        Whether the image has the role gateway: nginx on port 80, and a log-in of this guest's own. One of
        before has its server on port 8000, open to all, and refuses settings that nothing there reads.
    read_bps:
        Bytes per second that the disk gives at most, as a volume that is still being loaded; 0 is no limit.
    options:
        Further arguments of QEMU.
    progress:
        Told what the guest is at.

    Attributes
    ----------
    times:
        ``ssh``, ``running`` and ``ready`` → seconds since the start of QEMU, as far as it came.
    state:
        What systemd said of itself (``running``, ``degraded``), empty before.
    ssh:
        The connection that all commands share.
    login:
        Who may log in to its server, None where everybody may.
    ssh_port, http_port:
        The ports, known once it runs.
    """

    HOST = HOST

    def __init__(
        self,
        image: Path,
        work: Path,
        serial: Path,
        *,
        online: bool = False,
        services: Mapping[str, Sequence[str]] | None = None,
        ssh_port: int = 0,
        http_port: int = 0,
        gateway: bool = True,
        read_bps: int = 0,
        options: Sequence[str] = (),
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.image = image
        self.work = work
        self.serial = serial
        self.online = online
        self.services = services or {}
        self.login = seed.Login.made() if gateway else None
        self._http, self._door = door(self.login)
        self._ports = {SSH_PORT: ssh_port, self._http: http_port}
        self.read_bps = read_bps
        self.options = options
        self.progress = progress
        self.accelerator = accel.probe(work)
        self.times: dict[str, float] = {}
        self.state = ""
        self._sshd_failed: float | None = None
        self._starting: subprocess.Popen[str] | None = None

    def __enter__(self) -> Guest:
        if not self.image.is_file():
            raise KilnError(f"{self.image} is missing", "bake the image first")
        self.folder = Path(tempfile.mkdtemp(prefix="guest-", dir=self.work))
        try:
            self._start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The disk is a snapshot that nobody will read: there is nothing to shut down in order.
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        key = seed.keypair(self.folder)
        public = key.with_suffix(".pub").read_text(encoding="ascii")
        iso = seed.make(self.folder, f"kiln-{self.folder.name}", public, self.login)
        self.serial.parent.mkdir(parents=True, exist_ok=True)
        self.serial.write_bytes(b"")
        drive = f"if=none,id=root,format=qcow2,snapshot=on,cache=unsafe,file={quoted(self.image)}"
        drive += f",throttling.bps-read={self.read_bps}" if self.read_bps else ""
        self.qemu = Qemu(
            [
                *machine(self.accelerator, CORES, MEMORY_MIB),
                *("-drive", drive, "-device", "nvme,serial=kiln,drive=root,bootindex=1"),
                *("-drive", f"if=none,id=seed,format=raw,readonly=on,file={quoted(iso)}"),
                # Without an initrd only NVMe is there when cloud-init's generator looks for a data source,
                # and the firmware's table says that there is one, whatever the image's list of others.
                *("-device", "nvme,serial=seed,drive=seed", "-smbios", "type=1,serial=ds=nocloud"),
                *("-netdev", network(self._ports, self.services, self.online)),
                *("-device", "virtio-net-pci,netdev=net,romfile="),
                *("-device", "virtio-rng-pci"),
                *("-serial", f"file:{quoted(self.serial)}"),
                *self.options,
            ],
            self.folder,
        )
        self.started = time.monotonic()
        try:
            ports = self.qemu.forwards()
            self.ssh_port, self.http_port = ports[SSH_PORT], ports[self._http]
            self.ssh = Connection(self.folder, self.ssh_port, seed.USER, key, f"read {self.serial}")
        except BaseException:
            self.qemu.kill()
            raise

    @property
    def elapsed(self) -> float:
        """Seconds since the start of QEMU."""
        return time.monotonic() - self.started

    @property
    def url(self) -> str:
        """Address of the guest's server, without a slash at the end."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def ssh_config(self) -> Path:
        """OpenSSH configuration with the one host ``guest``; all of its connections share one."""
        return self.ssh.config

    @property
    def ssh_command(self) -> list[str]:
        """Start of a command line that runs something in the guest."""
        return self.ssh.command

    def boot(self) -> Boot:
        """Times of the boot, for the proof."""
        return Boot(
            accelerator=self.accelerator,
            ssh=self.times["ssh"],
            running=self.times["running"],
            ready=self.times.get("ready"),
        )

    def console(self) -> str:
        """What the guest wrote to its console so far, without the colours."""
        text = self.serial.read_text(encoding="utf-8", errors="replace")
        return re.sub(r"\x1b\[[0-9;?=]*[A-Za-z]", "", text)

    def check(self) -> None:
        """See that the guest lives and its console shows no trouble.

        Raises
        ------
        KilnError
            QEMU has ended, or the boot cannot end well any more.
        """
        found = trouble(self.console())
        if found is None and "KVM internal error" in (message := self.qemu.message()):
            found = f"KVM failed: {message}"
        if found is None and not self.qemu.alive:
            found = f"QEMU ended with code {self.qemu.process.returncode} {self.qemu.message()}".strip()
        if found is not None:
            raise KilnError(f"the guest died after {self.elapsed:.0f} s: {found}", f"read {self.serial}")

    def _watch(self, what: str, seconds: float, attempt: Callable[[], bool]) -> None:
        """Try until it succeeds, as long as the guest lives and the time lasts."""
        deadline, told = time.monotonic() + seconds, time.monotonic()
        while not attempt():
            self.check()
            now = time.monotonic()
            if now > deadline:
                raise KilnError(
                    f"{what} did not come within {seconds:.0f} s; last on the console: {self._last_line()}",
                    f"read {self.serial}",
                )
            if now - told >= REPORT_SECONDS:
                told = now
                self.progress(f"{self.elapsed:.0f} s, waiting for {what}: {self._last_line()}")
            time.sleep(0.25)

    def _last_line(self) -> str:
        lines = [line.strip() for line in self.console().splitlines() if line.strip()]
        return lines[-1][:80] if lines else "(silent)"

    def _wait(self, name: str, what: str, seconds: float, attempt: Callable[[], bool]) -> float:
        """Wait for one of ``times``, as the three waits do.

        Parameters
        ----------
        name:
            Which one.
        what:
            What a reader is told that we wait for.
        seconds:
            How long to wait at most.
        attempt:
            Whether it has come.

        Returns
        -------
        float
            Seconds since the start of QEMU.

        Raises
        ------
        KilnError
            The guest died, what is waited for cannot come any more, or the time is over.
        """
        self._watch(what, seconds, attempt)
        self.times[name] = round(self.elapsed, 1)
        return self.times[name]

    def wait_ssh(self, seconds: float = SSH_SECONDS) -> float:
        """Wait until a command runs in the guest; takes, returns and raises what ``_wait`` says."""
        took = self._wait("ssh", "ssh", seconds, self._attempt_ssh)
        self.progress(f"ssh after {took:.0f} s")
        return took

    def _attempt_ssh(self) -> bool:
        if self.ssh.attempt():
            return True
        # cloud-init makes the host keys and starts sshd again: a failure counts when it lasts.
        if re.search(r"Failed to start ssh\.servic", self.console()):
            self._sshd_failed = self._sshd_failed or time.monotonic()
            if time.monotonic() - self._sshd_failed > SSHD_SECONDS:
                raise KilnError("sshd did not start in the guest (ssh.service failed)", f"read {self.serial}")
        return False

    def run(self, command: str, seconds: float = 120.0) -> str:
        """Run a command in the guest; takes, returns and raises what ``scripts.ssh.Connection.run`` says."""
        return self.ssh.run(command, seconds)

    def wait_running(self, seconds: float = RUNNING_SECONDS) -> float:
        """Wait until systemd has started all there is to start; whether that went well is in ``state``.

        Takes, returns and raises what ``_wait`` says.
        """
        took = self._wait("running", "systemd", seconds, self._attempt_running)
        self.progress(f"{self.state} after {took:.0f} s")
        return took

    def _attempt_running(self) -> bool:
        if self._starting is None:
            self._starting = self.ssh.start("systemctl is-system-running --wait")
        if self._starting.poll() is None:
            return False
        self.state = self._starting.communicate()[0].strip()
        self._starting = None
        return self.state in ("running", "degraded")

    def failed_units(self) -> list[str]:
        """Names of the units that systemd counts as failed."""
        return self.run("systemctl list-units --failed --plain --no-legend | cut -d' ' -f1").split()

    def wait_ready(self, seconds: float = READY_SECONDS) -> float:
        """Wait until the guest serves; takes, returns and raises what ``_wait`` says.

        That is a 200 of what :func:`door` says. A unit that has failed ends it, where there is none.
        """
        began = time.monotonic()
        path = self._door

        def attempt() -> bool:
            if self._get(path) == 200:
                return True
            # Once systemd has given up on a unit, no waiting helps.
            if self.state == "degraded" and time.monotonic() - began > 3 * REPORT_SECONDS:
                failed = ", ".join(self.failed_units())
                raise KilnError(f"{path} does not answer; failed units: {failed}", f"read {self.serial}")
            return False

        took = self._wait("ready", f"{path} on port {self._http}", seconds, attempt)
        self.progress(f"{path} answered after {took:.0f} s")
        return took

    def _get(self, path: str) -> int | None:
        # http.client and not requests: a proxy of the environment has no business here.
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def stop(self, seconds: float = STOP_SECONDS) -> Literal["off", "killed"]:
        """Shut the guest down in order, and end it when that takes too long.

        Parameters
        ----------
        seconds:
            How long the shutdown may take.

        Returns
        -------
        str
            ``off`` when the guest went by itself.
        """
        # Before it answers to ssh there is nothing in it that could be shut down in order.
        if "ssh" in self.times and self.qemu.alive:
            if self.ssh.ask("sudo systemctl poweroff", 30).returncode != 0:
                with contextlib.suppress(KilnError):
                    self.qemu.command("system_powerdown")
            self.qemu.wait(seconds)
        off = not self.qemu.alive
        self.kill()
        return "off" if off else "killed"

    def kill(self) -> None:
        """End the guest and its connection now."""
        if self._starting is not None:
            self._starting.kill()
            self._starting.communicate()
            self._starting = None
        self.ssh.close()
        self.qemu.kill()
