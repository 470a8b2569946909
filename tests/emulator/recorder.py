"""Every request that reached the emulator, and whether it and its answer are what botocore's models allow."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tests.emulator import answers, modelcheck
from tests.emulator.understand import Asked

READING = ("Describe", "Get", "List", "Head", "Search", "Lookup", "Simulate", "Decode", "BatchGet")
"""Operations that begin so change nothing. The list is the emulator's own: it judges the launcher's."""

RECORD = "KILN_EMULATOR_RECORD"
"""Variable with a file that gets a line for every request, of this process and copies, over all resets."""

KEPT = 1 << 20
"""Bytes of an answer that are kept to be judged; longer ones are data."""


@dataclass
class Entry:
    """One request.

    Parameters
    ----------
    asked:
        What it asked.
    wrong:
        What is wrong with it.
    invocation, attempt:
        Of botocore: retries of one call share the first and count by the second.
    agent:
        User agent, which names the run.
    start, end:
        Seconds of the emulator's monotonic clock.
    status:
        Of the answer; 0 where none was sent.
    fault:
        The fault that it met.
    headers, answer:
        What was answered, until it is judged.
    wrong_answer:
        What is wrong with the answer.
    """

    asked: Asked
    wrong: list[str]
    invocation: str = ""
    attempt: str = ""
    agent: str = ""
    start: float = 0.0
    end: float = 0.0
    status: int = 0
    fault: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    answer: bytes | None = None
    wrong_answer: list[str] = field(default_factory=list)

    def as_json(self, number: int) -> dict[str, Any]:
        """Return it for a test; the answer is judged here, where it costs no request any time."""
        asked = self.asked
        if self.answer is not None:
            self.wrong_answer = answers.wrong(asked, self.status, self.headers, self.answer)
            self.answer = None
        return {
            "number": number,
            "service": asked.service,
            "operation": asked.operation,
            "region": asked.region,
            "params": plain(asked.params),
            "access_key": asked.access_key,
            "valid": not self.wrong,
            "wrong": self.wrong,
            "valid_answer": not self.wrong_answer,
            "wrong_answer": self.wrong_answer,
            "mutating": mutating(asked),
            "invocation": self.invocation,
            "attempt": self.attempt,
            "agent": self.agent,
            "start": self.start,
            "end": self.end,
            "status": self.status,
            "fault": self.fault,
        }


def mutating(asked: Asked) -> bool:
    """Whether a request changes something; one that cannot be read does."""
    return not asked.operation.startswith(READING) and asked.params.get("DryRun") is not True


def plain(value: Any) -> Any:
    """Parameters as JSON has them: no bytes, no times."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace") if len(value) < 4096 else f"{len(value)} bytes"
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def judge(asked: Asked) -> list[str]:
    """What is wrong with a request."""
    if asked.problems:
        return list(asked.problems)
    if asked.model is None:
        return [f"{asked.service} has no operation {asked.operation or '(none)'}"]
    shape = asked.model.input_shape
    if shape is None:
        return []
    return modelcheck.wrong(shape, asked.params, asked.operation) + _unknown(asked, shape)


def _unknown(asked: Asked, shape: Any) -> list[str]:
    """Parameters that the operation does not have; whoever reads a request by the model passes them over."""
    protocol = asked.model.service_model.resolved_protocol
    if protocol == "json" or (protocol == "rest-json" and "payload" not in shape.serialization):
        document = json.loads(asked.body or b"{}")
        return answers.unknown_json(shape, document, asked.operation)
    known = {"Action", "Version"}
    for name, member in shape.members.items():
        for each in (
            name,
            member.serialization.get("name", name),
            member.serialization.get("queryName", name),
        ):
            known |= {each, each[:1].upper() + each[1:]}
            # A flattened list has its members under their own name.
            if member.type_name == "list":
                known.add(member.member.serialization.get("name", each))
    return [f"{asked.operation}.{name} is unknown" for name in sorted(asked.fields - known)]


def _append(path: str, entry: Entry) -> None:
    asked = entry.asked
    line = {
        "service": asked.service,
        "operation": asked.operation,
        "region": asked.region,
        "wrong": entry.wrong,
        "agent": entry.agent,
    }
    # One write to the end of a file is one line, whoever else writes.
    with open(path, "ab", buffering=0) as stream:
        stream.write(json.dumps(line).encode() + b"\n")


class Recorder:
    """What was asked since the last reset."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._lock = threading.Lock()

    def note(self, asked: Asked, environ: dict[str, Any]) -> Entry:
        """Keep a request, judged."""
        attempt = dict(
            pair.partition("=")[::2] for pair in environ.get("HTTP_AMZ_SDK_REQUEST", "").split("; ") if pair
        )
        entry = Entry(
            asked,
            judge(asked),
            invocation=environ.get("HTTP_AMZ_SDK_INVOCATION_ID", ""),
            attempt=attempt.get("attempt", ""),
            agent=environ.get("HTTP_USER_AGENT", ""),
            start=time.monotonic(),
        )
        with self._lock:
            self.entries.append(entry)
        if path := os.environ.get(RECORD):
            _append(path, entry)
        return entry

    def answered(self, entry: Entry, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Keep what was answered."""
        entry.status, entry.end = status, time.monotonic()
        # Data is not kept: a disk goes through here.
        entry.asked.body = b""
        if len(body) <= KEPT:
            entry.headers, entry.answer = dict(headers), body

    def clear(self) -> None:
        """Forget them."""
        with self._lock:
            self.entries = []

    def as_json(self, since: int = 0) -> list[dict[str, Any]]:
        """All of them from a number on, in the order in which they came."""
        with self._lock:
            entries = list(self.entries)
        return [entry.as_json(number) for number, entry in enumerate(entries) if number >= since]
