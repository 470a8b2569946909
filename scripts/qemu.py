"""A QEMU process: its firmware, its monitor, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kiln.errors import KilnError
from scripts import proc

BINARY = "qemu-system-x86_64"
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
FIRMWARE_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")

ACCELERATORS: Mapping[str, tuple[str, str]] = {
    # pyarrow and others need SSE4: qemu64 dies of it, and `max` offers more than TCG does well.
    "tcg": ("tcg,thread=multi,tb-size=512", "Nehalem"),
    "kvm": ("kvm", "host"),
}
"""Accelerator → ``-accel`` and ``-cpu``."""

MONITOR_SECONDS = 60.0
"""How long the monitor may take to answer; QEMU answers between the steps of a busy guest."""


def quoted(path: Path) -> str:
    """A path as QEMU's option syntax wants it, in which a comma ends a value.

    Parameters
    ----------
    path:
        Any path.

    Returns
    -------
    str
        With each comma doubled.
    """
    return str(path).replace(",", ",,")


def machine(accelerator: str, cores: int, memory_mib: int) -> list[str]:
    """Arguments for a bare machine with UEFI firmware and nothing else.

    Parameters
    ----------
    accelerator:
        ``kvm`` or ``tcg``.
    cores:
        Processors of the guest.
    memory_mib:
        Memory of the guest, in MiB.

    Returns
    -------
    list of str
        To be followed by disks and network.

    Raises
    ------
    KilnError
        QEMU or the firmware is not installed.
    """
    if shutil.which(BINARY) is None:
        raise KilnError(f"{BINARY} is not installed", "run scripts/setup.sh, then try again")
    for path in (FIRMWARE, FIRMWARE_VARIABLES):
        if not path.exists():
            raise KilnError(f"{path} is missing", "install the package ovmf: run scripts/setup.sh")
    accel, cpu = ACCELERATORS[accelerator]
    return [
        *("-nodefaults", "-no-reboot", "-display", "none"),
        *("-machine", "q35", "-accel", accel, "-cpu", cpu, "-smp", str(cores), "-m", str(memory_mib)),
        *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE}"),
        *("-drive", f"if=pflash,unit=1,format=raw,snapshot=on,file={FIRMWARE_VARIABLES}"),
    ]


def network(ports: Mapping[int, int], services: Mapping[str, Sequence[str]], online: bool) -> str:
    """Value of ``-netdev``, of the network ``net``.

    Parameters
    ----------
    ports:
        Port of the guest → port of 127.0.0.1 that leads there; 0 takes a free one.
    services:
        Address and port that the guest reaches → command that is started for each connection.
    online:
        Whether the guest may reach other machines.

    Returns
    -------
    str
        For QEMU's own network stack, SLIRP.
    """
    parts = ["user", "id=net", f"restrict={'off' if online else 'on'}"]
    if services:
        # SLIRP forwards addresses of its own network only. An address of 169.0.0.0/8 is an ordinary one to
        # the guest, as 169.254.0.0/16 would not be, and the metadata service is within.
        parts.append("net=169.0.0.0/8")
    parts += [f"hostfwd=tcp:127.0.0.1:{ours}-:{theirs}" for theirs, ours in ports.items()]
    for address, command in services.items():
        parts.append(f"guestfwd=tcp:{address}-cmd:{shlex.join(command)}".replace(",", ",,"))
    return ",".join(parts)


class Qemu:
    """A running QEMU, with its monitor on a socket that has no name and leaves no file.

    The kernel ends it when kiln dies, by whatever signal. That is bound to the thread that starts it, so
    start it from one that lives as long as the guest is wanted.

    Parameters
    ----------
    arguments:
        All but the program and its monitor.
    folder:
        Existing folder for QEMU's temporary files (what the guest writes to its disk) and its messages.

    Raises
    ------
    KilnError
        QEMU ended at once.
    """

    def __init__(self, arguments: Iterable[str], folder: Path) -> None:
        self.errors = folder / "qemu.log"
        ours, theirs = socket.socketpair()
        monitor = [
            "-chardev",
            f"socket,id=monitor,fd={theirs.fileno()}",
            "-mon",
            "chardev=monitor,mode=control",
        ]
        try:
            with self.errors.open("wb") as errors:
                self.process = subprocess.Popen(
                    [BINARY, *arguments, *monitor],
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    env={**os.environ, "TMPDIR": str(folder)},
                    pass_fds=[theirs.fileno()],
                    process_group=0,  # Ctrl-C is for kiln, which ends the guest in order
                    preexec_fn=proc.die_with_parent(signal.SIGKILL),
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours
        self._socket.settimeout(MONITOR_SECONDS)
        self._stream = ours.makefile("rw", encoding="utf-8")
        try:
            self._stream.readline()  # the greeting
            self.command("qmp_capabilities")
        except KilnError:
            said = self.message() or "no message"
            self.kill()
            raise KilnError(f"QEMU did not start: {said}", "see what it says; a port may be taken") from None
        except BaseException:
            self.kill()
            raise

    def command(self, name: str, **arguments: object) -> Any:
        """Have the monitor do something.

        Parameters
        ----------
        name:
            Command of the QEMU Machine Protocol.
        arguments:
            Its arguments.

        Returns
        -------
        object
            What the monitor returned, as JSON gives it.

        Raises
        ------
        KilnError
            QEMU has ended, does not answer, or refuses.
        """
        try:
            self._stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
            self._stream.flush()
            for line in self._stream:
                answer = json.loads(line)
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    break
        except (OSError, ValueError):
            pass
        raise KilnError(f"QEMU did not do {name}: {self.message() or 'no answer'}", f"read {self.errors}")

    def forwards(self) -> dict[int, int]:
        """Ports of the guest → ports of this machine that lead there.

        The kernel chooses ours when QEMU binds them (port 0), so no other program can take one in between.

        Returns
        -------
        dict of int to int
            Port of the guest → port of this machine.

        Raises
        ------
        KilnError
            QEMU has ended or does not answer.
        """
        table = self.command("human-monitor-command", **{"command-line": "info usernet"})
        found = re.findall(r"TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+(\d+)", table)
        return {int(inside): int(outside) for outside, inside in found}

    def message(self) -> str:
        """What QEMU said on its error output, on one line.

        Returns
        -------
        str
            At most three lines of it and 300 characters; empty where it said nothing.
        """
        text = self.errors.read_text(encoding="utf-8", errors="replace") if self.errors.exists() else ""
        return " | ".join(line.strip() for line in text.splitlines()[:3] if line.strip())[:300]

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so many seconds; whether it has ended.

        Parameters
        ----------
        seconds:
            How long at most.

        Returns
        -------
        bool
            Whether it has ended.
        """
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End it now; it is gone when this returns."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            self._stream.close()  # what was not sent yet is lost on nobody
        self._socket.close()
