"""The emulator as a test holds it: a process of its own, and what is asked of it beside AWS's interfaces."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

ROOT = Path(__file__).parents[2]


class Emulator:
    """A server of the emulator.

    Parameters
    ----------
    endpoint:
        Its address, for ``AWS_ENDPOINT_URL``.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def _ask(self, path: str, data: Any = None, *, method: str = "GET", seconds: float = 60) -> Any:
        body = None if method == "GET" else json.dumps(data).encode()
        request = urllib.request.Request(f"{self.endpoint}/kiln-api/{path}", data=body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise RuntimeError(error.read().decode()) from None

    def reset(self) -> None:
        """Forget everything: resources, requests, faults, settings."""
        self._ask("reset", method="POST")

    def faults(self, rules: list[dict[str, Any]]) -> None:
        """Put rules in force, in place of those before; see :mod:`tests.emulator.faults`."""
        self._ask("faults", rules, method="POST")

    def rules(self) -> list[dict[str, Any]]:
        """The rules in force, each with how many requests it has ``seen`` and how many ``met`` it."""
        found: list[dict[str, Any]] = self._ask("faults")
        return found

    def requests(self, since: int = 0) -> list[dict[str, Any]]:
        """Every request, from a number on, in the order in which they came."""
        found: list[dict[str, Any]] = self._ask(f"requests?since={since}")
        return found

    def mutating(self, since: int = 0) -> list[dict[str, Any]]:
        """Those of the requests that change something."""
        return [each for each in self.requests(since) if each["mutating"]]

    def validated(self) -> tuple[int, int]:
        """How many of the requests are what botocore's models allow, and how many there were."""
        seen = self.requests()
        return sum(each["valid"] for each in seen), len(seen)

    def settings(self, **values: Any) -> dict[str, Any]:
        """Set some settings; return all."""
        found: dict[str, Any] = self._ask("settings", values, method="POST")
        return found

    def state(self, *, raw: bool = False) -> dict[str, Any]:
        """All resources: kind → ``account/region/name`` → what it is; no ids and times unless ``raw``."""
        found: dict[str, Any] = self._ask("state?raw=1" if raw else "state")
        return found

    def held(self, seconds: float = 30) -> dict[str, str] | None:
        """Wait until a ``hook`` holds a request; None when none came in time."""
        found: dict[str, str] | None = self._ask(f"held?seconds={seconds}", seconds=seconds + 30)
        return found

    def release(self, *, drop: bool = False) -> int:
        """Let go of what hooks hold, with ``drop`` unanswered; return how many it were."""
        return int(self._ask("release", {"drop": drop}, method="POST"))

    def fork(self) -> Copy:
        """Return a copy with all that is in this one; ended by its ``stop``, or with this one."""
        made = self._ask("fork", method="POST")
        return Copy(f"http://127.0.0.1:{made['port']}", made["pid"])

    def admin(self, name: str, /, **arguments: Any) -> Any:
        """Make something happen that no request of AWS does; see ``control.action`` in the modules."""
        return self._ask(f"do/{name}", arguments, method="POST")


class Copy(Emulator):
    """A copy of an emulator, as a context manager.

    Parameters
    ----------
    endpoint:
        Its address.
    pid:
        Its process.
    """

    def __init__(self, endpoint: str, pid: int) -> None:
        super().__init__(endpoint)
        self._pid = pid

    def __enter__(self) -> Copy:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it."""
        os.kill(self._pid, signal.SIGKILL)


class Process(Emulator):
    """An emulator in a process of its own, as a context manager."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.emulator"],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        super().__init__(self._process.stdout.readline().strip())
        assert self.endpoint.startswith("http://"), "the emulator did not start: see above"

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)
