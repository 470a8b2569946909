"""``kiln`` in a process of its own, forked from one that has loaded it: a start costs no second."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path

from kiln import cli
from tests.aws.account import ACCOUNT, REGION

SECONDS = 180.0
"""After so long a command hangs."""

READ_TIMEOUT = "5"
"""Seconds after which a client of the campaign gives an answer up; on AWS it is a minute."""


def environment(endpoint: str, folder: Path) -> dict[str, str]:
    """Return what leads kiln to an emulator and to a folder with ``kiln.toml`` and ``build``.

    Parameters
    ----------
    endpoint:
        Of the emulator.
    folder:
        Of the case.
    """
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": f"AKIAKILN{ACCOUNT}",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "KILN_POLL_SECONDS": "0",
        "KILN_READ_TIMEOUT": READ_TIMEOUT,
        "KILN_CONFIG": str(folder / "kiln.toml"),
        "KILN_BUILD": str(folder / "build"),
    }


class Command:
    """A run of kiln.

    Parameters
    ----------
    arguments:
        As after ``kiln``.
    endpoint, folder:
        As of :func:`environment`.
    log:
        Takes what it says.
    """

    def __init__(self, arguments: tuple[str, ...], endpoint: str, folder: Path, log: Path) -> None:
        self.log = log
        self._pid = os.fork()
        if self._pid == 0:
            self._become(arguments, environment(endpoint, folder), log)
        self.code: int | None = None

    @staticmethod
    def _become(arguments: tuple[str, ...], variables: dict[str, str], log: Path) -> None:
        code = 1
        try:
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            for stream in (1, 2):
                os.dup2(out, stream)
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                del os.environ[name]
            os.environ.update(variables)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            code = cli.run(list(arguments))
        except BaseException:
            traceback.print_exc()  # into the log; the parent's own stack must not be gone on with here
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)

    def ended(self) -> bool:
        """Whether it has ended; its code is known then."""
        if self.code is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def kill(self) -> None:
        """Kill it without warning."""
        os.kill(self._pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Wait until it ends; one that hangs is killed.

        Returns
        -------
        int
            Its exit code; negative for a signal.
        """
        end = time.monotonic() + SECONDS
        while not self.ended():
            if time.monotonic() > end:
                os.kill(self._pid, signal.SIGKILL)
                end = float("inf")
            time.sleep(0.01)
        assert self.code is not None
        return self.code
