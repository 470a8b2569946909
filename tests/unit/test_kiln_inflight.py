"""The table of requests in flight: written by a real process, read while that blocks or is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from kiln import paths

FILES = paths.ROOT / "ansible/roles/monai_label/files"
sys.path.insert(0, str(FILES))

import kiln_inflight  # noqa: E402
from kiln_inflight import Table, kind_of, read  # noqa: E402

PROGRAM = """
import asyncio, sys, time
from pathlib import Path
import kiln_inflight
table = kiln_inflight.Table(Path(sys.argv[1]))
table.ready()
async def app(scope, receive, send):
    print("working", flush=True)
    time.sleep(60)
asyncio.run(kiln_inflight.middleware(app, table)(
    {"type": "http", "method": "POST", "path": "/infer/spleen"}, None, None))
"""


def blocked(folder: Path) -> subprocess.Popen[bytes]:
    """A process whose loop is blocked by an inference."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, folder], env={"PYTHONPATH": str(FILES)}, stdout=subprocess.PIPE
    )
    assert process.stdout
    assert process.stdout.readline() == b"working\n"
    return process


def test_a_blocked_loop_is_seen_and_a_killed_one_works_on_nothing(tmp_path: Path) -> None:
    process = blocked(tmp_path)
    try:
        time.sleep(0.1)
        seen = read(tmp_path / "inflight")
        assert seen and seen.alive and seen.ready and seen.pid == process.pid
        assert [request.kind for request in seen.requests] == ["infer"]
        assert 0.1 <= seen.requests[0].seconds < 30
        assert seen.busy == pytest.approx(seen.requests[0].seconds, abs=0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    after = read(tmp_path / "inflight")
    assert after
    assert (after.alive, after.ready, after.count, after.begun) == (False, False, 0, 1)


def test_another_process_of_the_same_number_is_not_the_server(tmp_path: Path) -> None:
    Table(tmp_path)
    body = bytearray((tmp_path / "inflight").read_bytes())
    place = kiln_inflight.WORDS.index("born") * 8
    body[place : place + 8] = (1).to_bytes(8, sys.byteorder)
    (tmp_path / "inflight").write_bytes(body)
    seen = read(tmp_path / "inflight")
    assert seen and not seen.alive


@pytest.mark.parametrize("body", [b"", b"x", bytes(kiln_inflight.SIZE)])
def test_what_is_no_table_is_none(tmp_path: Path, body: bytes) -> None:
    assert read(tmp_path / "inflight") is None
    (tmp_path / "inflight").write_bytes(body)
    assert read(tmp_path / "inflight") is None


def test_more_requests_than_places_are_counted(tmp_path: Path) -> None:
    table = Table(tmp_path)
    open_ = [table.request("infer") for _ in range(kiln_inflight.SLOTS + 3)]
    for each in open_:
        each.__enter__()
    seen = read(tmp_path / "inflight")
    assert seen and (seen.count, seen.crowd) == (kiln_inflight.SLOTS + 3, 3)
    for each in open_:
        each.__exit__(None, None, None)
    seen = read(tmp_path / "inflight")
    assert seen and (seen.count, seen.begun) == (0, kiln_inflight.SLOTS + 3)


def test_kinds() -> None:
    assert kind_of("POST", "/infer/spleen") == "infer"
    assert kind_of("PUT", "/datastore/label") == "label"
    assert kind_of("PUT", "/datastore/label/info") == "other"
    assert kind_of("GET", "/info/") == "other"


def ask(table: Table, method: str, path: str, status: int = 200) -> list[int]:
    """Statuses that went out, of a request to an application that gives one."""
    sent: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status})

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.extend([message["status"]] if "status" in message else [])

    scope = {"type": "http", "method": method, "path": path}
    asyncio.run(kiln_inflight.middleware(app, table)(scope, None, send))  # type: ignore[arg-type]
    return sent


def test_the_probe_takes_no_place_and_labels_count_once_saved(tmp_path: Path) -> None:
    table = Table(tmp_path)
    assert ask(table, "GET", kiln_inflight.ALIVE) == [204]
    seen = read(tmp_path / "inflight")
    assert seen and seen.begun == 0
    for method, path, status in (
        ("PUT", "/datastore/label", 200),
        ("PUT", "/datastore/label", 500),
        ("GET", "/datastore/label", 200),
    ):
        assert ask(table, method, path, status) == [status]
    seen = read(tmp_path / "inflight")
    assert seen and (seen.begun, seen.labels, seen.count) == (3, 1, 0)


def test_an_application_that_fails_leaves_no_place_taken(tmp_path: Path) -> None:
    table = Table(tmp_path)
    with pytest.raises(ZeroDivisionError), table.request("infer"):
        raise ZeroDivisionError
    seen = read(tmp_path / "inflight")
    assert seen and seen.count == 0 and seen.busy > 0


def test_a_request_costs_next_to_nothing(tmp_path: Path) -> None:
    table = Table(tmp_path)
    begin = time.process_time()
    for _ in range(10_000):
        with table.request("infer"):
            pass
    assert (time.process_time() - begin) / 10_000 < 100e-6


def test_a_new_server_replaces_the_table(tmp_path: Path) -> None:
    process = blocked(tmp_path)
    process.kill()
    process.wait()
    Table(tmp_path)
    seen = read(tmp_path / "inflight")
    assert seen and seen.alive and seen.pid == os.getpid() and seen.begun == 0
    assert (tmp_path / "inflight").stat().st_mode & 0o777 == 0o644
