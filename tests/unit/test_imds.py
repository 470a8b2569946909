"""The metadata service as a guest meets it: a process for each connection, version 2 alone."""

from __future__ import annotations

import http.client
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiln import paths
from scripts import imds

TTL = {imds.TTL_HEADER: "60"}


class Service:
    """Starts the service as QEMU does, for each connection."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.processes: list[subprocess.Popen[bytes]] = []

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        ours, theirs = socket.socketpair()
        command = imds.command("secret", self.log)
        self.processes.append(subprocess.Popen(command, stdin=theirs, stdout=theirs, cwd=paths.ROOT))
        theirs.close()
        connection = http.client.HTTPConnection("169.254.169.254")
        connection.sock = ours
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "requests.log")
    yield service
    assert [process.wait(10) for process in service.processes] == [0] * len(service.processes)


def test_version_1_is_refused(service: Service) -> None:
    assert service.ask("GET", "/latest/meta-data/instance-id") == (401, "")
    assert service.ask("GET", "/latest/meta-data/", {imds.TOKEN_HEADER: "made up"}) == (401, "")


def test_version_2_answers(service: Service) -> None:
    status, token = service.ask("PUT", imds.TOKEN_PATH, TTL)
    assert status == 200
    mine = {imds.TOKEN_HEADER: token}
    assert service.ask("GET", "/latest/meta-data/instance-id", mine) == (200, "i-0123456789abcdef0")
    assert "placement/" in service.ask("GET", "/2021-03-23/meta-data/", mine)[1].splitlines()
    assert '"us-east-1"' in service.ask("GET", "/latest/dynamic/instance-identity/document", mine)[1]
    assert service.ask("GET", "/latest/user-data", mine)[0] == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({imds.TTL_HEADER: "0"}, 400),
        ({imds.TTL_HEADER: "21601"}, 400),
        ({imds.TTL_HEADER: "ten"}, 400),
        (TTL | {"X-Forwarded-For": "10.0.0.1"}, 403),
    ],
)
def test_a_token_is_refused(service: Service, headers: dict[str, str], status: int) -> None:
    assert service.ask("PUT", imds.TOKEN_PATH, headers) == (status, "")


def test_a_token_ends() -> None:
    assert imds.is_valid("secret", imds.token("secret", 2**40))
    assert not imds.is_valid("secret", imds.token("secret", 1))
    assert not imds.is_valid("secret", imds.token("another", 2**40))


def test_requests_are_noted(service: Service) -> None:
    assert imds.requests(service.log) == []
    service.ask("GET", "/latest/meta-data/", {"User-Agent": "old program"})
    service.ask("PUT", imds.TOKEN_PATH, TTL)
    first, second = imds.requests(service.log)
    assert first == {
        "method": "GET",
        "path": "/latest/meta-data/",
        "agent": "old program",
        "token": False,
        "status": 401,
    }
    assert (second["method"], second["status"]) == ("PUT", 200)
