"""The image's server behind nginx, kiln-auth and kiln-health: who gets in, bad input, busy and hung."""

from __future__ import annotations

import gzip
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import pytest
import requests

from kiln import paths
from scripts import annotate
from tests.emulator import aws, lifecycle, metadata
from tests.emulator.ours import Bench, until
from tests.gateway import cells
from tests.gateway.gateway import Gateway, running
from tests.server import live

pytestmark = [pytest.mark.slow, pytest.mark.root]

NAPS = paths.ROOT / "tests/server/naps"
SCRATCH = "64m"
"""Of the server's /tmp: less than the largest upload here."""


@dataclass
class Front:
    """A server and what stands before it."""

    server: live.Live
    gateway: Gateway

    def ask(self, method: str, path: str, role: str = "admin", **options: Any) -> requests.Response:
        """Ask through nginx, logged in."""
        headers = {"Authorization": f"Bearer {self.gateway.token(role)}", **options.pop("headers", {})}
        return requests.request(
            method, f"{self.gateway.url}{path}", headers=headers, timeout=live.LIMIT, **options
        )

    def files(self) -> set[str]:
        """Paths of the studies, without what is the store's own."""
        found = (path.relative_to(self.server.studies) for path in self.server.studies.rglob("*"))
        return {str(path) for path in found if ".kiln-store" not in path.parts}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that nginx's and the server's accounts may pass."""
    found = tmp_path_factory.mktemp("live")
    for folder in (found, found.parent, found.parent.parent):
        folder.chmod(folder.stat().st_mode | 0o011)
    return found


@pytest.fixture(scope="module")
def front(place: Path) -> Iterator[Front]:
    studies = live.studies(place / "studies", 0)
    nibabel.save(annotate.volume(), studies / "ct.nii.gz")
    with (
        live.servers(place, studies, 1, app=NAPS, named=True, scratch=SCRATCH) as (server,),
        running(gateway_upstream=f"127.0.0.1:{server.port}") as gateway,
    ):
        yield Front(server, gateway)


# Who gets in


def test_each_cell_is_as_the_table_says(front: Front) -> None:
    assert list(cells.wrong(front.gateway, cells.cells())) == []


def test_a_cell_that_is_otherwise_is_found(front: Front) -> None:
    closed = cells.Cell(cells.policy.Route("GET", "/logs/", "user"), "user")
    opened = cells.Cell(cells.policy.Route("GET", "/info/", "admin"), "user")
    assert list(cells.wrong(front.gateway, [closed, opened])) == [
        "GET /logs/ user: 403 instead of let in",
        "GET /info/ user: let in instead of 403",
    ]


def test_no_route_of_its_openapi_is_unclassified(front: Front) -> None:
    document = front.ask("GET", "/openapi.json").json()
    assert cells.unclassified(document) == []
    document["paths"]["/new"] = {"get": {}, "summary": ""}
    assert cells.unclassified(document) == [("GET", "/new")]


def test_forged_tokens_are_refused(front: Front) -> None:
    assert cells.let_in(front.gateway) == []


def test_the_users_name_is_noted(front: Front, place: Path) -> None:
    file = place / "label.nii.gz"
    nibabel.save(annotate.volume(2), file)
    with file.open("rb") as stream:
        answer = front.ask(
            "PUT", "/datastore/label?image=ct&tag=final", "annotator",
            data={"params": json.dumps({"user": "somebody else"})}, files={"label": ("l.nii.gz", stream)},
        )  # fmt: skip
    assert answer.status_code == 200
    noted = front.ask("GET", "/datastore/label/info?label=ct&tag=final").json()
    assert noted["user"] == "annotator1"


# Bad input

IMAGE = gzip.compress(b"hello")
UPLOADS: dict[str, tuple[str, bytes]] = {
    "no image": ("x.nii.gz", b"hello, I am no image"),
    "another kind": ("x.nii.gz", IMAGE),
    "a page of a proxy's": ("x.nii", b"<html>502 Bad Gateway</html>" * 40),
    "empty": ("x.nii.gz", b""),
    "no kind at all": ("notes.txt", b"hello"),
}


@pytest.mark.parametrize("what", ["datastore/image?image=x", "datastore/label?image=ct&tag=bad"])
@pytest.mark.parametrize("case", [*UPLOADS, "truncated"])
def test_what_is_no_whole_image_is_refused(front: Front, place: Path, case: str, what: str) -> None:
    whole = place / "whole.nii.gz"
    nibabel.save(annotate.volume(3), whole)
    name, body = UPLOADS.get(case, ("x.nii.gz", whole.read_bytes()[:-2000]))
    before = front.files()
    kind = "label" if "label" in what else "file"
    answer = front.ask("PUT", f"/{what}", files={kind: (name, body)})
    if kind == "label" and name.endswith(".txt"):
        pytest.skip("a label may have a kind of its app's own")
    assert answer.status_code == 400, answer.text
    assert "fix: " in answer.json()["detail"]
    assert front.files() == before
    assert front.ask("GET", "/info/").status_code == 200


@pytest.mark.parametrize(
    "name",
    ["../out", "../../out", "/etc/out", "a/../../out", "..", ".hidden", "a\0b", "%2e%2e%2fout", "x" * 300],
)
def test_no_name_leads_out_of_the_studies(front: Front, place: Path, name: str) -> None:
    file = place / "named.nii.gz"
    nibabel.save(annotate.volume(4), file)
    body = file.read_bytes()
    before = set(place.glob("*"))
    outside = {path for path in (front.server.place / "layer/upper").rglob("*out*") if path.is_file()}
    asked = [
        ("PUT", "/datastore/image", {"image": name}, {"file": ("x.nii.gz", body)}),
        ("PUT", "/datastore/label", {"image": "ct", "tag": name}, {"label": ("x.nii.gz", body)}),
        ("PUT", "/datastore/label", {"image": name, "tag": "final"}, {"label": ("x.nii.gz", body)}),
        ("PUT", "/datastore/image", {}, {"file": (name, body)}),
        ("GET", "/datastore/image", {"image": name}, None),
        ("GET", "/datastore/label", {"label": name, "tag": "final"}, None),
        ("GET", "/datastore/label", {"label": "ct", "tag": name}, None),
        ("DELETE", "/datastore/image", {"id": name}, None),
        ("DELETE", "/datastore/label", {"id": "ct", "tag": name}, None),
        ("POST", "/infer/nap", {"image": name}, None),
    ]
    for method, path, params, files in asked:
        answer = front.ask(method, path, params=params, **({"files": files} if files else {}))
        # Escaped twice it is a name as any other.
        assert answer.status_code >= 400 or "%2f" in name, f"{method} {path} {params}: {answer.text[:200]}"
    assert set(place.glob("*")) == before
    assert {path for path in (front.server.place / "layer/upper").rglob("*out*") if path.is_file()} == outside
    assert [path for path in front.files() if path.startswith((".", "/"))] == [], (
        "hidden files in the studies"
    )
    assert front.ask("GET", "/info/").status_code == 200


def test_an_upload_beyond_the_servers_disk_is_an_error_and_leaves_nothing(front: Front, place: Path) -> None:
    """Of nginx's own disk tests/gateway has the same; more than 10 GB are refused there, unsent."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype("uint8")
    header.set_data_shape((1000, 1000, 100))
    big = place / "big.nii"
    with big.open("wb") as stream:
        stream.write(header.binaryblock + bytes(4))
        stream.truncate(352 + 100_000_000)
    before = front.files()
    with big.open("rb") as stream:
        answer = front.ask("PUT", "/datastore/image?image=big", files={"file": ("big.nii", stream)})
    assert (answer.status_code, "disk of the server is full" in answer.text) == (507, True), answer.text
    assert front.files() == before
    good = place / "good.nii.gz"
    nibabel.save(annotate.volume(5), good)
    with good.open("rb") as stream:
        answer = front.ask("PUT", "/datastore/image?image=good", files={"file": ("good.nii.gz", stream)})
    assert answer.status_code == 200, answer.text


def test_two_hundred_slow_clients_hold_up_nobody(front: Front) -> None:
    token, ready, go_on = front.gateway.token("annotator"), threading.Barrier(201), threading.Event()

    def slow(number: int) -> int:
        with closing(front.gateway.connection()) as connection:
            connection.putrequest("PUT", f"/datastore/image?image=slow{number}")
            connection.putheader("Authorization", f"Bearer {token}")
            connection.putheader("Content-Length", "5000")
            connection.endheaders(b"x" * 4999)
            ready.wait(120)
            go_on.wait(120)
            connection.send(b"x")
            return connection.getresponse().status

    with ThreadPoolExecutor(200) as pool:
        sent = [pool.submit(slow, number) for number in range(200)]
        ready.wait(120)
        begin = time.monotonic()
        assert front.ask("GET", "/info/").status_code == 200
        assert time.monotonic() - begin < 20
        go_on.set()
        # No form: each is told so, and none is dropped.
        assert {one.result() for one in sent} <= {400, 422}


# Busy, hung, and drained


@pytest.fixture
def bench(front: Front, tmp_path: Path) -> Iterator[Bench]:
    """kiln-health and kiln-drain beside the server, in an emulated Auto Scaling group."""
    made = Bench(tmp_path)
    with aws.serve() as endpoint, metadata.serve(tmp_path / "imds.log") as imds:
        cloud = aws.fresh(endpoint)
        imds.instance(cloud.instance, "InService")
        lifecycle.RECORD.on_terminating = lambda instance: imds.instance(instance, "Terminated")
        (tmp_path / "weights.json").write_text('{"models": ["nap"]}')
        made.settings |= {
            "PORT": str(front.server.port), "TABLE": str(front.server.table), "METADATA": imds.address,
            "ENDPOINT": endpoint, "INTERVAL": "0.5", "PROBE": "2", "REQUEST": "30", "FINDINGS": "3",
            "NGINX": str(front.gateway.place / "run/status.sock"),
            "STOPPING": str(front.server.place / "runtime/closed"),
        }  # fmt: skip
        made.cloud = cloud  # type: ignore[attr-defined]
        yield made
        made.end()


def nap(front: Front, seconds: float) -> requests.Response:
    """An inference that lasts so long."""
    return front.ask(
        "POST", "/infer/nap?image=ct&output=json", files={"params": (None, json.dumps({"seconds": seconds}))}
    )


def test_a_long_inference_is_never_unhealthy_and_a_stopped_server_is(front: Front, bench: Bench) -> None:
    bench.start("kiln_health")
    until(lambda: bench.ask_health("/readyz")[0] == 200)
    seen: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(nap, front, 12)
        while not asked.done():
            seen.append(bench.ask_health("/healthz")[0])
            time.sleep(0.2)
        assert asked.result().status_code == 200, asked.result().text
    assert set(seen) == {200} and len(seen) > 20
    assert lifecycle.RECORD.made("SetInstanceHealth") == []
    os.kill(front.server.pid, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        until(lambda: bench.ask_health("/healthz")[0] == 503, 60)
        until(lambda: lifecycle.RECORD.made("SetInstanceHealth"), 60)
        # Its probe, and as many rounds as must agree, on a machine that has other work.
        assert time.monotonic() - begin < 45
    finally:
        os.kill(front.server.pid, signal.SIGCONT)
    until(lambda: bench.ask_health("/healthz")[0] == 200, 60)


def test_a_drain_lets_an_inference_end_with_its_answer(front: Front, bench: Bench) -> None:
    cloud: aws.Cloud = bench.cloud  # type: ignore[attr-defined]
    cloud.hook(30)
    bench.start("kiln_drain", "watch")
    until(lambda: (bench.drain / "status.json").exists())
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(nap, front, 8)
        until(lambda: front.server.log.count("Infer Request") or front.gateway.in_flight() >= 1)
        cloud.terminate()
        until(lambda: (bench.drain / "closed").exists())
        assert cloud.state() == "Terminating:Wait"
        assert not lifecycle.RECORD.made("CompleteLifecycleAction")
        assert asked.result().status_code == 200
    until(lambda: cloud.state() == "", 60)
    assert lifecycle.RECORD.ended == {cloud.instance: "CONTINUE"}
