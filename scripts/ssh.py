"""One ssh connection to a guest of this machine, or to a host elsewhere, which all commands share."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

from kiln.errors import KilnError
from scripts import proc

HOST = "guest"
"""Name of the guest in the configuration."""

LOOPBACK = "127.0.0.1"

_UNKNOWN = {"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null"}
_FIRST = {"StrictHostKeyChecking": "accept-new"}

KNOCK_SECONDS = 5.0
"""How long a first greeting may take before another connection is tried."""

SOCKET_PATH_MAX = 90
"""ssh adds 17 characters to its socket's path while it makes it, and the kernel takes 107."""


class Connection:
    """A connection to a port behind which sshd will come up, of 127.0.0.1 where nothing else is said.

    A handshake costs an emulated guest seconds: one connection is kept open and all others go through it.
    The kernel ends it with the thread that opened it.

    Parameters
    ----------
    folder:
        Existing folder for its files.
    port:
        The port.
    user:
        Whom to log in as.
    key:
        Private key of that user.
    hint:
        What to do about a command that failed.
    address:
        Where the port is. Elsewhere than on this machine the first host key that is seen is the only one that
        is taken.
    proxy:
        Command through which ssh reaches it, with ssh's own placeholders; empty where there is a direct way.

    Attributes
    ----------
    config:
        OpenSSH configuration with the one host ``guest``.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        user: str,
        key: Path,
        hint: str,
        *,
        address: str = LOOPBACK,
        proxy: str = "",
    ) -> None:
        self.address = address
        self.port = port
        self._proxy = proxy
        self.hint = hint
        # A long path does without a shared connection.
        self._control = control if len(str(control := folder / "ssh")) <= SOCKET_PATH_MAX else None
        self._master: subprocess.Popen[bytes] | None = None
        self._knock: socket.socket | None = None
        self._knocked = 0.0
        options = {
            "HostName": address,
            "Port": str(port),
            "User": user,
            "IdentityFile": f'"{key}"',
            "IdentitiesOnly": "yes",
            "PasswordAuthentication": "no",
            # The guest makes its host key at this very boot, and nobody else is on this machine's port.
            **(
                _UNKNOWN
                if address == LOOPBACK
                else _FIRST | {"UserKnownHostsFile": f'"{folder}/known_hosts"'}
            ),
            "LogLevel": "ERROR",
            "ConnectTimeout": "60",
            "ServerAliveInterval": "30",
            "ServerAliveCountMax": "10",
            "ControlMaster": "no",
        }
        if proxy:
            options["ProxyCommand"] = proxy
        if self._control is not None:
            options["ControlPath"] = f'"{self._control}"'
        self.config = folder / "ssh_config"
        lines = [f"Host {HOST}", *(f"  {name} {value}" for name, value in options.items())]
        self.config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    @property
    def command(self) -> list[str]:
        """Start of a command line that runs something in the guest."""
        return ["ssh", "-F", str(self.config), HOST]

    def attempt(self) -> bool:
        """Try to run a first command, through the connection that all others will share.

        Returns
        -------
        bool
            Whether it ran; if not, try again.
        """
        if self._control is None:
            return self._listens() and self.ask("true", 120).returncode == 0
        if self._master is None or self._master.poll() is not None:
            if not self._listens():
                return False
            self._master = subprocess.Popen(
                [*self.command[:-1], "-o", "ControlMaster=yes", "-N", HOST],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
                preexec_fn=proc.die_with_parent(signal.SIGKILL),
            )
        return self._control.exists() and self.ask("true", 60).returncode == 0

    def _listens(self) -> bool:
        """Whether sshd greets: QEMU takes connections long before the guest does, and says nothing."""
        if self._proxy:
            return True  # only ssh itself knows the way
        if self._knock is None or time.monotonic() - self._knocked > KNOCK_SECONDS:
            self._forget_knock()
            self._knocked = time.monotonic()
            try:
                self._knock = socket.create_connection(
                    (self.address, self.port), timeout=0.25 if self.address == LOOPBACK else KNOCK_SECONDS
                )
            except OSError:
                return False
        try:
            greeting = self._knock.recv(4)
        except TimeoutError:
            return False
        except OSError:
            greeting = b""
        self._forget_knock()
        return greeting == b"SSH-"

    def _forget_knock(self) -> None:
        if self._knock is not None:
            self._knock.close()
            self._knock = None

    def ask(self, command: str, seconds: float) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest, whatever comes of it.

        Parameters
        ----------
        command:
            For the user's shell.
        seconds:
            How long it may take.

        Returns
        -------
        subprocess.CompletedProcess of str
            Code 255 where ssh itself failed or the time was over.
        """
        try:
            return subprocess.run(
                [*self.command, command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess([], 255, "", f"no answer within {seconds:.0f} s")

    def run(self, command: str, seconds: float = 120.0) -> str:
        """Run a command in the guest that must succeed.

        Parameters
        ----------
        command:
            For the user's shell.
        seconds:
            How long it may take.

        Returns
        -------
        str
            What it wrote to stdout.

        Raises
        ------
        KilnError
            It ended with a code other than 0, or took too long.
        """
        done = self.ask(command, seconds)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise KilnError(
                f"{command!r} failed in the guest ({done.returncode}): {said[-1] if said else 'no message'}",
                self.hint,
            )
        return done.stdout

    def start(self, command: str) -> subprocess.Popen[str]:
        """Start a command in the guest and do not wait for it.

        Parameters
        ----------
        command:
            For the user's shell.

        Returns
        -------
        subprocess.Popen of str
            Its ssh, whose stdout is the command's.
        """
        return subprocess.Popen(
            [*self.command, command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            process_group=0,
            preexec_fn=proc.die_with_parent(signal.SIGKILL),
        )

    def close(self) -> None:
        """End it now."""
        self._forget_knock()
        if self._master is not None:
            self._master.kill()
            self._master.wait()
