"""A host elsewhere that runs an image, as a proof sees it: reached by ssh, its server through a tunnel."""

from __future__ import annotations

import http.client
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from kiln.errors import KilnError
from kiln.manifest import Boot
from kiln.remote import Remote
from scripts import proc
from scripts.guest import READY_SECONDS, REPORT_SECONDS, RUNNING_SECONDS, SSH_SECONDS, door
from scripts.port import free
from scripts.seed import Login
from scripts.ssh import HOST, Connection


class Host:
    """A host that somebody else has started and will end.

    Use it as a context manager.

    Parameters
    ----------
    remote:
        What is known of it.
    work:
        Existing folder for the connection's files.
    progress:
        Told what the host is at.
    login:
        Who may log in to its server behind the gateway; None where its server is open to all.

    Attributes
    ----------
    times:
        ``ssh``, ``running`` and ``ready`` → seconds since the host was asked for, as far as it came.
    """

    HOST = HOST

    def __init__(
        self,
        remote: Remote,
        work: Path,
        progress: Callable[[str], None] = lambda _: None,
        login: Login | None = None,
    ) -> None:
        self.remote = remote
        self.login = login
        self.progress = progress
        self.times: dict[str, float] = {}
        self.ssh = Connection(
            work,
            remote.port,
            remote.user,
            remote.key,
            f"look at the console of {remote.machine}",
            address=remote.address,
            proxy=remote.proxy,
        )
        self._tunnel: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tunnel is not None:
            self._tunnel.kill()
            self._tunnel.wait()
        self.ssh.close()

    @property
    def ssh_config(self) -> Path:
        """OpenSSH configuration with the one host ``guest``."""
        return self.ssh.config

    @property
    def url(self) -> str:
        """Address of the host's server at this end of the tunnel, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    def boot(self) -> Boot:
        """Times of the boot, for the proof."""
        return Boot(
            accelerator="ec2",
            ssh=self.times["ssh"],
            running=self.times["running"],
            ready=self.times.get("ready"),
        )

    def _wait(self, name: str, what: str, seconds: float, attempt: Callable[[], bool]) -> None:
        deadline = told = time.monotonic()
        deadline += seconds
        while not attempt():
            now = time.monotonic()
            if now > deadline:
                raise KilnError(
                    f"{what} did not come within {seconds:.0f} s on {self.remote.machine}", self.ssh.hint
                )
            if now - told >= REPORT_SECONDS:
                told = now
                self.progress(f"{now - self.remote.started:.0f} s, waiting for {what}")
            time.sleep(0.5)
        self.times[name] = round(time.monotonic() - self.remote.started, 1)
        self.progress(f"{what} after {self.times[name]:.0f} s")

    def wait_ssh(self, seconds: float = SSH_SECONDS) -> None:
        """Wait until a command runs there.

        Parameters
        ----------
        seconds:
            How long at most.

        Raises
        ------
        KilnError
            None ran in that time.
        """
        self._wait("ssh", "ssh", seconds, self.ssh.attempt)

    def wait_running(self, seconds: float = RUNNING_SECONDS) -> None:
        """Wait until systemd has started all there is to start; takes and raises what ``wait_ssh`` does."""
        self._wait("running", "systemd", seconds, self._is_running)

    def _is_running(self) -> bool:
        return self.ssh.ask("systemctl is-system-running", 60).stdout.strip() in ("running", "degraded")

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until it serves, as a guest does; takes and raises what ``wait_ssh`` does."""
        path = door(self.login)[1]
        self._wait("ready", path, seconds, lambda: self._get(path) == 200)

    def _get(self, path: str) -> int | None:
        if self._tunnel is None or self._tunnel.poll() is not None:
            self._port = free()
            forward = f"127.0.0.1:{self._port}:127.0.0.1:{door(self.login)[0]}"
            self._tunnel = subprocess.Popen(
                [*self.ssh.command[:-1], "-N", "-o", "ControlPath=none", "-L", forward, HOST],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
                preexec_fn=proc.die_with_parent(signal.SIGKILL),
            )
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
