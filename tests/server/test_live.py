"""The image's server behind nginx, kiln-auth and kiln-health: who gets in, bad input, busy and hung."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import tarfile
import threading
import time
import zipfile
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


IMAGE_PUT, LABEL_PUT = "datastore/image?image=x", "datastore/label?image=ct&tag=bad"

NO_WHOLE_IMAGE = [
    (case, what)
    for case in (*UPLOADS, "truncated")
    for what in (IMAGE_PUT, LABEL_PUT)
    # A label may have a kind of its app's own.
    if (case, what) != ("no kind at all", LABEL_PUT)
]


@pytest.mark.parametrize(("case", "what"), NO_WHOLE_IMAGE)
def test_what_is_no_whole_image_is_refused(front: Front, place: Path, case: str, what: str) -> None:
    whole = place / "whole.nii.gz"
    nibabel.save(annotate.volume(3), whole)
    name, body = UPLOADS.get(case, ("x.nii.gz", whole.read_bytes()[:-2000]))
    before = front.files()
    kind = "label" if what == LABEL_PUT else "file"
    answer = front.ask("PUT", f"/{what}", files={kind: (name, body)})
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


def ask_nap(front: Front, params: Any, role: str = "user", image: str = "ct") -> requests.Response:
    """An inference that lasts no time."""
    return front.ask(
        "POST", "/infer/nap", role, params={"image": image, "output": "json"},
        files={"params": (None, json.dumps(params))},
    )  # fmt: skip


def test_no_inference_reads_a_file_that_the_datastore_does_not_have(front: Front) -> None:
    """Each of these is there, in the server's own root."""
    assert ask_nap(front, {}).status_code == 200
    studies = f"{live.HOME}/studies"
    there = ["/etc/passwd", f"{studies}/ct.nii.gz", "studies/ct.nii.gz", "studies", "../../../etc/passwd"]
    for path in there:
        for answer in (ask_nap(front, {}, image=path), ask_nap(front, {"image": path})):
            assert answer.status_code == 400, f"{path}: {answer.text[:200]}"
            assert "is no image of this server\n  fix: " in answer.json()["detail"]
    for name in ("wsi", "wsi_v2"):
        answer = front.ask("POST", f"/infer/{name}/nap", "user", params={"image": "/etc/passwd"})
        assert answer.status_code == 400, f"{name}: {answer.text[:200]}"
    assert ask_nap(front, {"label": "/etc/passwd"}).status_code == 400
    # Upstream's own ways to an image that is in no datastore stay open.
    body = (front.server.studies / "ct.nii.gz").read_bytes()
    sent = front.ask("POST", "/infer/nap?output=json", "user", files={"file": ("x.nii.gz", body)})
    assert sent.status_code == 200, sent.text
    session = front.ask("PUT", "/session/", "user", files={"files": ("x.nii.gz", body)}).json()["session_id"]
    by_session = front.ask("POST", f"/infer/nap?output=json&session_id={session}", "user")
    assert by_session.status_code == 200, by_session.text


def test_no_inference_saves_a_label(front: Front) -> None:
    before = front.files()
    for role in ("user", "admin"):
        answer = ask_nap(front, {"save_label": True, "label_tag": "final"}, role)
        assert answer.status_code == 400 and "PUT /datastore/label" in answer.json()["detail"]
    assert ask_nap(front, {"save_label": "false", "label_tag": "final"}).status_code == 200
    assert front.files() == before


@pytest.mark.parametrize("kind", ["tar", "gztar", "zip"])
def test_a_session_of_an_archive_is_unpacked(front: Front, tmp_path: Path, kind: str) -> None:
    (tmp_path / "series").mkdir()
    (tmp_path / "series/1.dcm").write_bytes(b"slice")
    file = Path(shutil.make_archive(str(tmp_path / "x"), kind, tmp_path / "series"))
    answer = front.ask(
        "PUT", "/session/", "user", params={"uncompress": "true"},
        files={"files": (file.name, file.read_bytes())},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    image = Path(answer.json()["session_info"]["image"])
    kept = front.server.studies / image.relative_to(f"{live.HOME}/studies")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {"1.dcm": b"slice"}


HOSTILE = {
    "up": [("../" * 12 + "var/lib/monai-label/studies/hostile.nii.gz", None)],
    "absolute": [("/var/lib/monai-label/studies/hostile.nii.gz", None)],
    "through a link": [("a", "/var/lib/monai-label/studies"), ("a/hostile.nii.gz", None)],
    "a link alone": [("hostile", "/etc/passwd")],
}
"""Members of a tar, each with the target of a link, or None for a file."""


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(front: Front, case: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, link in HOSTILE[case]:
            entry = tarfile.TarInfo(name)
            entry.size = 0 if link else 1
            if link:
                entry.type, entry.linkname = tarfile.SYMTYPE, link
            tar.addfile(entry, io.BytesIO(b"x"))
    sent = [("x.tar", packed.getvalue())]
    if case in ("up", "absolute"):
        zipped = io.BytesIO()
        with zipfile.ZipFile(zipped, "w") as archive:
            archive.writestr(HOSTILE[case][0][0], b"x")
        sent.append(("x.zip", zipped.getvalue()))
    sessions = front.server.studies / ".kiln-store/sessions"
    before = front.files(), set(sessions.iterdir())
    for name, body in sent:
        answer = front.ask("PUT", "/session/?uncompress=true", "user", files={"files": (name, body)})
        assert answer.status_code == 400, answer.text
        assert "in the archive" in answer.json()["detail"] and "\n  fix: " in answer.json()["detail"]
    assert (front.files(), set(sessions.iterdir())) == before
    assert not list((front.server.place / "layer/upper").rglob("*hostile*"))


def test_no_task_runs_inside_of_a_request(front: Front) -> None:
    for path in ("/train/", "/train/nap", "/batch/infer/nap"):
        answer = front.ask("POST", f"{path}?run_sync=true", json={})
        assert answer.status_code == 400, answer.text
        assert "\n  fix: leave it out" in answer.json()["detail"]


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
    bench.settings["REQUEST"] = "90"
    bench.start("kiln_health")
    until(lambda: bench.ask_health("/readyz")[0] == 200)
    seen: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(nap, front, 60)
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
