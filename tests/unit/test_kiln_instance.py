"""What health and drain share: HTTP with an end, the metadata service's client, the child that calls AWS."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import botocore.session
import pytest

from scripts import imds as imds_
from tests.emulator import aws, lifecycle, metadata, modelcheck
from tests.emulator.ours import FOLDERS

import kiln_aws  # isort: skip
from kiln_instance import wire  # isort: skip
from kiln_instance.aws import Aws, Call  # isort: skip
from kiln_instance.imds import TRIES, Metadata, NobodyError  # isort: skip


@pytest.fixture
def answering() -> Iterator[Callable[..., tuple[str, int]]]:
    """Starts a server that says some pieces, one after the other."""
    listeners = []

    def start(*pieces: bytes, pause: float = 0.0, close: bool = True) -> tuple[str, int]:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            channel, _ = listener.accept()
            channel.recv(4096)
            try:
                for piece in pieces:
                    channel.sendall(piece)
                    time.sleep(pause)
                if not close:
                    time.sleep(5)
            except OSError:
                pass
            channel.close()

        threading.Thread(target=run, daemon=True).start()
        address: tuple[str, int] = listener.getsockname()
        return address

    yield start
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(
    ("pieces", "wanted"),
    [
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",), (200, b"ab")),
        ((b"HTTP/1.1 200 OK\r\nConte", b"nt-Length: 2\r\n\r\na", b"b"), (200, b"ab")),
        ((b"HTTP/1.0 404 No\r\n\r\nno length",), (404, b"no length")),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), (204, b"")),
    ],
)
def test_an_answer_is_read(
    answering: Callable[..., tuple[str, int]], pieces: tuple[bytes, ...], wanted: tuple[int, bytes]
) -> None:
    assert wire.exchange(answering(*pieces, pause=0.01), "GET", "/") == wanted


def test_an_answer_of_known_length_needs_no_end(answering: Callable[..., tuple[str, int]]) -> None:
    where = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", close=False)
    assert wire.exchange(where, "GET", "/", seconds=5.0) == (200, b"x")


@pytest.mark.parametrize("said", [b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 200"])
def test_what_is_no_answer_is_an_error(answering: Callable[..., tuple[str, int]], said: bytes) -> None:
    with pytest.raises(ConnectionError):
        wire.exchange(answering(said), "GET", "/")


def test_an_answer_that_drips_ends(answering: Callable[..., tuple[str, int]]) -> None:
    where = answering(*[b"x"] * 100, pause=0.1)
    # Were the time counted anew at each piece, it would end with them and be no answer.
    with pytest.raises(TimeoutError):
        wire.exchange(where, "GET", "/", seconds=0.5)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[metadata.Service]:
    with metadata.serve(tmp_path / "imds.log") as found:
        yield found


def client(service: metadata.Service) -> tuple[Metadata, list[float], list[float]]:
    """A client, its clock, and how long it slept."""
    now, slept = [0.0], []
    return Metadata(service.address, 2.0, lambda: now[0], slept.append), now, slept


def test_a_token_is_fetched_once(service: metadata.Service) -> None:
    found, now, _ = client(service)
    assert found.instance() == ("i-0123456789abcdef0", "us-east-1")
    assert found.target() == "" and found.spot_end() is None
    service.instance("i-1", "Terminated")
    assert found.target() == "Terminated"
    asked = [each["method"] for each in imds_.requests(service.log)]
    assert asked.count("PUT") == 1
    now[0] += 21600
    found.target()
    assert [each["method"] for each in imds_.requests(service.log)].count("PUT") == 2


def test_a_token_that_is_refused_is_fetched_anew(service: metadata.Service) -> None:
    found, _, slept = client(service)
    found.instance()
    service.secret = "another"
    assert found.instance()[0] == "i-0123456789abcdef0"
    assert len(slept) == 1


def test_tries_are_bounded_and_one_that_answered_is_asked_again(service: metadata.Service) -> None:
    found, _, slept = client(service)
    found.instance()
    service.faults = TRIES
    with pytest.raises(NobodyError, match="503"):
        found.target()
    assert slept == [0.2, 0.4]
    assert found.target() == ""


def test_off_ec2_nobody_is_asked_for_a_while() -> None:
    now = [0.0]
    found = Metadata("127.0.0.1:9", 0.5, lambda: now[0], lambda _: None)
    for _ in range(2):
        with pytest.raises(NobodyError, match=r"no metadata service at 127\.0\.0\.1:9"):
            found.instance()
    found.address = ("255.255.255.255", 0)  # who asks it now would hear something else
    with pytest.raises(NobodyError, match=r"127\.0\.0\.1:9"):
        found.instance()


@pytest.mark.parametrize(
    ("text", "left"), [('{"action": "terminate", "time": "2100-01-01T00:00:00Z"}', 4102444800.0), ("{", None)]
)
def test_a_spot_notice_is_read(service: metadata.Service, text: str, left: float | None) -> None:
    service.tree[metadata.SPOT] = text
    found = client(service)[0].spot_end()
    assert found == left if left else found and 100 < found - time.time() <= 120


def test_what_is_asked_of_aws_is_in_its_model() -> None:
    session = botocore.session.get_session()
    for name, operations in kiln_aws.ALLOWED.items():
        known = session.create_client(name, region_name="us-east-1").meta.method_to_api_mapping
        assert set(operations) <= set(known)


def test_the_emulators_extensions_are_in_the_model() -> None:
    assert {*lifecycle.EXTENDED, *lifecycle.WATCHED} <= set(lifecycle.SERVICE.operation_names)
    model = lifecycle.SERVICE.operation_model("CompleteLifecycleAction").input_shape
    assert modelcheck.wrong(model, {"LifecycleHookName": "a"}, "x") == [
        "x.AutoScalingGroupName is missing",
        "x.LifecycleActionResult is missing",
    ]
    assert modelcheck.wrong(model, {"Nonsense": 1, "LifecycleHookName": "a" * 256}, "x")[2:] == [
        "x.Nonsense is unknown",
        f"x.LifecycleHookName={'a' * 256} has 256 characters",
    ]


def call(operation: str = "describe_auto_scaling_instances") -> Call:
    return Call("autoscaling", operation, {})


def test_only_what_is_listed_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Aws(sys.executable, "us-east-1", 60, "http://127.0.0.1:9")
    (answer,) = found.make(call("delete_auto_scaling_group"))
    assert answer.code == "NotAllowed" and found.failed == 1 and "delete" in found.last


def test_calls_of_one_child_are_answered_one_by_one() -> None:
    with aws.serve() as endpoint:
        cloud = aws.fresh(endpoint)
        found = Aws(sys.executable, aws.REGION, 60, endpoint)
        unknown = Call("autoscaling", "set_instance_health", {"InstanceId": cloud.instance})
        good, bad = found.make(call(), unknown)
    assert good.ok and good.body["AutoScalingInstances"][0]["InstanceId"] == cloud.instance
    assert bad.code == "ValidationError" and "HealthStatus is missing" in bad.message
    assert (found.calls, found.failed) == (2, 1)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit('broken')", "broken"),
        ("print('no JSON')", "exit code 0"),
        ("print('[]')", "no answer"),
        ("import time; time.sleep(60)", "no end within 1 s"),
    ],
)
def test_a_child_that_fails_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, words: str
) -> None:
    (tmp_path / "child.py").write_text(program)
    monkeypatch.setattr("kiln_instance.aws.PROGRAM", tmp_path / "child.py")
    (answer,) = Aws(sys.executable, "us-east-1", 1, "").make(call())
    assert not answer.ok and words in answer.message


def test_an_interpreter_that_is_missing_is_an_answer() -> None:
    (answer,) = Aws("/nowhere/python3", "us-east-1", 1, "").make(call())
    assert "/nowhere/python3 cannot be run" in answer.message


@pytest.mark.parametrize(("name", "wrong"), [("kiln-health", False), ("kiln-drain", True)])
def test_the_commands_start(tmp_path: Path, name: str, wrong: bool) -> None:
    """As the role installs them, but for the folder that they look in."""
    text = (FOLDERS[0] / name).read_text().replace('"/usr/local/lib/kiln"', repr(str(FOLDERS[0])))
    text = text.replace("\nfrom", f"\nsys.path.insert(0, {str(FOLDERS[1])!r})\nfrom", 1)
    (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["/usr/bin/python3", "-IBS", tmp_path / name], env={"KILN_HEALTH_PORT": "x"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert (
        ("usage: kiln-drain" in done.stderr) if wrong else ("KILN_HEALTH_PORT=x is no number" in done.stdout)
    )
