"""Calls to AWS by a child that ends with them: whatever hangs on the way to AWS holds up nobody here."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).resolve().parent.parent / "kiln_aws.py"

ENDED = "ended"
"""Code of a call whose child did not say how it went."""

KEPT = ("PATH", "LANG", "HOME", "HTTPS_PROXY", "NO_PROXY", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Call:
    """One call.

    Parameters
    ----------
    service, operation:
        As kiln_aws.py lists them.
    arguments:
        As botocore takes them, with times as text.
    """

    service: str
    operation: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """How a call went.

    Parameters
    ----------
    body:
        What AWS said; empty where it refused.
    code:
        AWS's code of the error, empty where there was none.
    message:
        The error in words.
    """

    body: dict[str, Any]
    code: str = ""
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether it went well."""
        return not self.code


class Aws:
    """Makes calls and counts those that failed; a failure is an answer and no exception.

    Parameters
    ----------
    python:
        Interpreter of the child.
    region:
        Of the instance.
    seconds:
        For the calls of one child together.
    endpoint:
        Another address than AWS's.
    metadata:
        Host and port of the metadata service, which has the instance's credentials.
    """

    def __init__(
        self, python: str, region: str, seconds: float, endpoint: str = "", metadata: str = ""
    ) -> None:
        self.python = python
        self.region = region
        self.seconds = seconds
        self.endpoint = endpoint
        self.metadata = metadata
        self.calls = 0
        self.failed = 0
        self.last = ""

    def _run(self, calls: list[Call]) -> list[Answer]:
        asked = {
            "region": self.region,
            "endpoint": self.endpoint,
            "metadata": self.metadata,
            "calls": [[call.service, call.operation, call.arguments] for call in calls],
        }
        environment = {k: v for k, v in os.environ.items() if k in KEPT or k.startswith("AWS_")}
        try:
            done = subprocess.run(
                [self.python, "-I", PROGRAM], input=json.dumps(asked), capture_output=True, text=True,
                timeout=self.seconds, env=environment,
            )  # fmt: skip
            said = [Answer(**answer) for answer in json.loads(done.stdout)]
        except subprocess.TimeoutExpired:
            return [Answer({}, ENDED, f"no end within {self.seconds:g} s")] * len(calls)
        except OSError as error:
            return [Answer({}, ENDED, f"{self.python} cannot be run: {error.strerror}")] * len(calls)
        except (ValueError, TypeError):
            words = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            return [Answer({}, ENDED, words)] * len(calls)
        return said + [Answer({}, ENDED, "no answer")] * (len(calls) - len(said))

    def make(self, *calls: Call) -> list[Answer]:
        """Make some calls by one child, one after the other; each has its answer."""
        answers = self._run(list(calls))
        self.calls += len(calls)
        for call, answer in zip(calls, answers, strict=False):
            if not answer.ok:
                self.failed += 1
                self.last = f"{call.operation}: {answer.code}: {answer.message}"
        return answers

    def report(self) -> dict[str, Any]:
        """Counts, for JSON."""
        return {"calls": self.calls, "failed": self.failed, "last_failure": self.last}
